"""The scan's tuning by the operator, proved against the rest of the configuration."""

from collections.abc import Iterator

from relay.config.clients import load_clients
from relay.config.load import Loaded
from relay.config.proof_files import Finding, warning
from relay.config.tuning import load_tuning
from relay.core.errors import ProblemsError


def prove_tuning(loaded: Loaded) -> Iterator[Finding]:
    """Faults in the file, and clients that it speaks of and that there are not: a misspelt name tunes nobody's mail."""
    settings = loaded.settings
    if settings.scan.tuning is None:
        return
    try:
        own = load_tuning(settings.scan.tuning)
    except ProblemsError as problems:
        yield from (Finding(problem) for problem in problems.problems)
        return
    try:
        known = load_clients(settings.clients_dir).clients.keys() if own.clients else {}
    except ProblemsError:
        return  # what is wrong with the clients' files is told where they are proved
    for name in sorted(own.clients.keys() - known):
        what = f"no client has the name {name}"
        yield warning(f"{own.name}: clients.{name}", what, "see `postern client list`")
