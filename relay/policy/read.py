"""From a document to models: every fault with its place and a hint."""

import difflib
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from relay.core.errors import Problem
from relay.policy.schema import PolicyFile
from relay.policy.source import Document, walk

_DROPS: Final = frozenset({"drop", "discard", "delete", "ignore"})


def closest(word: str, known: Iterable[str]) -> str:
    """``did you mean `x`?`` or, when nothing is near, the words that are known."""
    words = sorted(known)
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if near:
        return f"did you mean `{near[0]}`?"
    return f"known: {', '.join(words[:24])}" if words else "none is defined"


def read(document: Document, problems: list[Problem]) -> PolicyFile | None:
    """Check a document against the format; ``None`` when it does not hold, its faults appended to ``problems``."""
    if not isinstance(document.data, Mapping):
        hint = "begin with policy:, lists:, floor:, rules:, tests:"
        problems.append(Problem(where=document.where(), what="not a policy file", hint=hint))
        return None
    before = len(problems)
    problems += [
        Problem(
            where=document.where(*path),
            what=f"nothing is given after `{path[-1]}`" if isinstance(path[-1], str) else "an empty item",
            hint="give a value, or remove the line",
        )
        for path, value in walk(document.data)
        if value is None and path
    ]
    if len(problems) > before:
        return None
    try:
        return PolicyFile.model_validate(document.data)
    except ValidationError as error:
        found = [_problem(document, fault) for fault in _telling(error.errors(include_url=False))]
        problems += sorted(found, key=lambda one: [int(part) for part in one.where.split(":")[-2:]])
        return None


def _telling(faults: list[Any]) -> list[Any]:
    """Without those that only follow from others: a list counts as too short when an item of it was at fault."""
    around = {fault["loc"][:length] for fault in faults for length in range(len(fault["loc"]))}
    return [fault for fault in faults if not (fault["type"] == "too_short" and fault["loc"] in around)]


def _problem(document: Document, fault: Any) -> Problem:
    loc: tuple[str | int, ...] = fault["loc"]
    what, hint = _words(loc, fault)
    return Problem(where=document.where(*loc), what=what, hint=hint)


def _words(loc: tuple[str | int, ...], fault: Any) -> tuple[str, str]:
    key = next((str(step) for step in reversed(loc) if isinstance(step, str) and step != "[key]"), "")
    kind = fault["type"]
    if kind == "extra_forbidden" and loc[-1] in _DROPS:
        return f"there is no `{loc[-1]}`: nothing is ever dropped", "hold: or reject: the copy"
    if kind == "extra_forbidden":
        return f"unknown key `{loc[-1]}`", closest(str(loc[-1]), _known_keys(loc[:-1]))
    if kind == "missing":
        return f"`{loc[-1]}` is missing", f"required in {_owner(loc[:-1])}"
    if kind in {"literal_error", "enum"}:
        words = [word.strip(" '") for word in fault["ctx"]["expected"].replace(" or ", ", ").split(",")]
        given = _shown(fault["input"])
        return f"`{given}` is not a value of `{key}`", _value_hint(given, words)
    if kind == "value_error":
        of_item = not loc or isinstance(loc[-1], int)
        return f"{fault['ctx']['error']}" if of_item else f"`{key}`: {fault['ctx']['error']}", ""
    if kind == "too_short":
        return f"`{key}` is empty", "give at least one"
    if kind == "string_type":
        return f"`{key}` must be text", "put it in quotes"
    if kind == "string_pattern_mismatch":
        return f"`{_shown(fault['input'])}` is not a value of `{key}`", _pattern_hint(fault, key)
    if kind in {"model_type", "model_attributes_type", "dict_type"}:
        return f"`{key}` must be a mapping", f"keys: {', '.join(sorted(_known_keys(loc)))}"
    text = fault["msg"].replace("Input should", "it should").replace("Tuple", "The list").replace("String", "The text")
    return f"`{key}`: {text[:1].lower()}{text[1:]}", ""


def _value_hint(given: str, words: list[str]) -> str:
    if given in {"none", "false", "no"} and "clear" in words:
        return f"one of: {', '.join(words)}"
    near = difflib.get_close_matches(given.lower(), words, n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else f"one of: {', '.join(words)}"


def _shown(given: object) -> str:
    """What stands in the file, in one short line."""
    return str(given).encode("unicode_escape").decode("ascii")[:60]


def _pattern_hint(fault: Any, key: str) -> str:
    if key == "id" or "a-z0-9" in fault["ctx"]["pattern"]:
        return "lower-case letters, digits, - _ . and at most 64 of them"
    if key == "hours":
        return "from-until on a 24 h clock: 08:00-18:00"
    return "printable ASCII in one line"


def _owner(loc: tuple[str | int, ...]) -> str:
    if not loc:
        return "the file"
    names = [str(step) for step in loc if isinstance(step, str)]
    return f"`{names[-1]}`" if isinstance(loc[-1], str) else f"each item of `{names[-1]}`"


def _known_keys(loc: tuple[str | int, ...]) -> list[str]:
    """The keys of the model that stands at a place."""
    model: type[BaseModel] = PolicyFile
    skip = False
    for step in loc:
        if isinstance(step, int) or skip:
            skip = False
            continue
        field = next((f for name, f in model.model_fields.items() if (f.alias or name) == step), None)
        if field is None:
            return []
        skip = typing.get_origin(field.annotation) is dict
        model = _model_in(field.annotation) or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(argument) for argument in typing.get_args(annotation))
    return next((model for model in found if model is not None), None)
