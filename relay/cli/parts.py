"""What the installation compiles, as ``postern --version`` and ``postern check`` tell it."""

from collections.abc import Iterator

from relay.core import octets
from relay.core.errors import Problem
from relay.extract import tables
from relay.scan import way
from relay.scan.compiled import DamagedTablesError

_COMPILE = "install a C compiler and Python's headers, then Postern anew"


def lines() -> Iterator[str]:
    """A line of each part."""
    yield f"scan: {way.told()}"
    yield f"octets: {octets.told()}"
    try:
        yield f"words: {_words() or 'mapped'}"
    except DamagedTablesError as error:
        yield f"words: damaged, Postern does not start: {error}"


def problems() -> tuple[list[Problem], list[Problem]]:
    """What makes Postern slower, as parts are not used; what prevents its start, as they are damaged."""
    slower = []
    if not way.NATIVE:
        slower.append(Problem(where="scan", what=way.told(), hint=_COMPILE))
    if not octets.NATIVE:
        slower.append(Problem(where="octets", what=octets.told(), hint=_COMPILE))
    try:
        why = way.NATIVE and _words()  # else it is the compiler that is wanted
    except DamagedTablesError as error:
        return slower, [tables.damaged(error)]
    if why:
        slower.append(Problem(where="words", what=why, hint="install Postern anew; in a source tree, run make venv"))
    return slower, []


def _words() -> str:
    """Why each process makes the words' tables for itself; nothing where they are mapped."""
    if not way.NATIVE:
        return "made by each process, slower: the scan is not compiled"
    why = tables.why_unused()
    return f"made by each process, slower: their tables {why}" if why else ""
