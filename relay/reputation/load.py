"""Reading the rules that understand answers: Postern's own, and before them the operators'."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final

from relay.core.errors import Problem, ProblemsError
from relay.delivery.bouncerules import BounceRule, read_rules
from relay.delivery.classify import Classifier
from relay.delivery.provider import Providers, read_providers

_MAX_FILE: Final = 4 * 1024 * 1024


def load_classifier(extra: Sequence[Path] = ()) -> Classifier:
    """The classifier over the rules of ``extra``, in order, and then Postern's own.

    Raises:
        ProblemsError: every fault in the operators' files.
    """
    rules: list[BounceRule] = []
    problems: list[Problem] = []
    for path in extra:
        try:
            rules += read_rules(_read(path), str(path))
        except ProblemsError as error:
            problems += error.problems
    if problems:
        raise ProblemsError(*problems)
    own = (files("relay.delivery") / "data" / "bounces.yaml").read_bytes()
    taken = {rule.id for rule in rules}
    return Classifier([*rules, *(rule for rule in read_rules(own, "bounces.yaml") if rule.id not in taken)])


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_FILE + 1)
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise ProblemsError(Problem(where=str(path), what=what, hint="name a readable file of bounce rules")) from error
    if len(content) > _MAX_FILE:
        raise ProblemsError(Problem(where=str(path), what="is larger than 4 MiB", hint="split or trim the rules"))
    return content


def load_providers() -> Providers:
    """The table of providers that comes with Postern."""
    return read_providers((files("relay.delivery") / "data" / "providers.yaml").read_bytes(), "providers.yaml")
