"""How the parts of Postern that are written in C are told of, for people."""


def told(version: int, wanted: int) -> str:
    """Which way runs: the compiled one, or the one in Python, and then why.

    Args:
        version: of the C part that is installed; 0: none is.
        wanted: the version that the code around it is written for.
    """
    if version == wanted:
        return "compiled"
    return "plain Python, slower: its C part is " + ("of another version" if version else "not installed")
