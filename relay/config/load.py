"""``conf/postern.yaml`` to :class:`Settings`; every fault at once, each with file, line and what to do."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from relay.config import document
from relay.config.complaints import explain
from relay.config.document import Document
from relay.config.references import cross_check
from relay.config.settings import Settings
from relay.core.errors import Problem, ProblemsError

_MISSING: Final = (
    "name it with --config FILE or POSTERN_CONFIG; `postern check --print-example` prints one to begin with"
)

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Settings, and where each was written.

    Attributes:
        settings: the whole tree.
        document: the file, to say where a fault lies that shows only later.
    """

    settings: Settings
    document: Document = field(repr=False)

    def where(self, *location: str | int) -> str:
        """``conf/postern.yaml:12`` for a setting, or for what is around it when it was not written."""
        return self.document.where(location)


def load(path: Path) -> Settings:
    """Read and validate the configuration; touches nothing but this file (and the machine's name for ``auto``).

    Raises:
        ProblemsError: all that is wrong in it.
    """
    return load_with_places(path).settings


def load_with_places(path: Path) -> Loaded:
    """As :func:`load`, keeping the line of every setting.

    Raises:
        ProblemsError: all that is wrong in it.
    """
    try:
        found = document.read(path)
    except ProblemsError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            problem = Problem(where=str(path), what="there is no configuration here", hint=_MISSING)
            raise ProblemsError(problem) from error.__cause__
        raise
    settings = validate(found, Settings, path.parent)
    problems = cross_check(settings, found)
    if problems:
        raise ProblemsError(*problems)
    return Loaded(settings=settings, document=found)


def validate(found: Document, model: type[Model], base: Path) -> Model:
    """Fit a document to a model; relative paths count from ``base``.

    Raises:
        ProblemsError: all that does not fit.
    """
    if found.data is None:
        what, hint = "is empty", "start from the example at the top of conf/postern.yaml"
        raise ProblemsError(Problem(where=f"{found.source}:1", what=what, hint=hint))
    if not isinstance(found.data, dict):
        what, hint = "must be settings written as key: value", "start from the example at the top of conf/postern.yaml"
        raise ProblemsError(Problem(where=f"{found.source}:1", what=what, hint=hint))
    try:
        return model.model_validate(found.data, context={"base": base.absolute()})
    except ValidationError as error:
        problems = [told for one in _telling(error.errors(include_url=False)) for told in explain(one, found, model)]
        raise ProblemsError(*_in_order(problems)) from None


def _telling(errors: list[Any]) -> list[Any]:
    """Without those that only follow from others: a list counts as too short when an item of it was at fault."""
    around = {one["loc"][:length] for one in errors for length in range(len(one["loc"]))}
    return [error for error in errors if error["type"] != "too_short" or error["loc"] not in around]


def _in_order(problems: list[Problem]) -> list[Problem]:
    def line(problem: Problem) -> int:
        return int(problem.where.rpartition(":")[2] or 0)

    return sorted(problems, key=line)
