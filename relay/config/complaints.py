"""Turns what a model says is wrong into one sentence for the person who wrote the file, with a hint."""

import difflib
from collections.abc import Iterator
from typing import Any, Final, get_args

from pydantic import BaseModel

from relay.config.document import Document, Location
from relay.config.units import format_duration, format_size, is_duration, is_size
from relay.core.errors import Problem

_SECRET_WORDS: Final = ("password", "passwd", "secret", "token", "passphrase", "credential", "private_key", "api_key")
_KINDS: Final = {
    "int_type": ("must be a whole number", "write it without quotes and unit"),
    "float_type": ("must be a number", "write it without quotes"),
    "bool_type": ("must be true or false", "write true or false; yes, no, on and off are words here"),
    "string_type": ("must be text", "put it in quotes if it looks like a number"),
    "tuple_type": ("must be a list", "write [one, two], or one item a line after a dash"),
    "dict_type": ("must be written as key: value", ""),
    "model_type": ("must be settings written as key: value", "indent its settings under it"),
    "model_attributes_type": ("must be settings written as key: value", "indent its settings under it"),
}
_BOUNDS: Final = {
    "greater_than_equal": ("ge", "is too small: {} at least"),
    "less_than_equal": ("le", "is too large: {} at most"),
    "too_short": ("min_length", "has too few items: {} at least"),
    "too_long": ("max_length", "has too many items: {} at most"),
    "string_too_short": ("min_length", "is too short: {} characters at least"),
    "string_too_long": ("max_length", "is too long: {} characters at most"),
}


def explain(error: Any, document: Document, model: type[BaseModel]) -> list[Problem]:
    """One error of pydantic's as problems at its line; more than one when a section tells several faults at once.

    Args:
        error: an item of ``ValidationError.errors()``.
        document: what was validated.
        model: the model it was validated against.
    """
    location = _existing(error["loc"], document)
    name = _dotted(location)
    kind: str = error["type"]
    if kind == "extra_forbidden":
        told = [_unknown_key(str(error["loc"][-1]), _model_at(model, location[:-1]), name)]
    elif kind == "missing":
        told = [_missing(error["loc"], model)]
    elif kind == "value_error":
        faults = [line.partition("|") for line in str(error["ctx"]["error"]).split("\n")]
        told = [(f"{name}: {what}" if name else what, hint) for what, _, hint in faults]
    else:
        text, hint = _told(error, document.raw(location))
        told = [(f"{name}: {text}" if name else text, hint)]
    where = document.where(location)
    return [Problem(where=where, what=what, hint=hint) for what, hint in told]


def _existing(loc: tuple[str | int, ...], document: Document) -> Location:
    """The part of an error's location that is in the file, without the marks pydantic adds for unions and keys."""
    found: Location = ()
    for step in loc:
        if (*found, step) in document.lines:
            found = (*found, step)
    return found


def _dotted(location: Location) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location).removeprefix(".")


def _told(error: Any, raw: Any) -> tuple[str, str]:
    kind: str = error["type"]
    if kind in _BOUNDS:
        key, form = _BOUNDS[kind]
        return form.format(_as_written(error["ctx"][key], raw)), ""
    if kind in _KINDS:
        text, hint = _KINDS[kind]
        return text, hint
    if kind in {"enum", "literal_error"}:
        return _not_one_of(str(error["ctx"]["expected"]), raw)
    if kind == "string_pattern_mismatch":
        return "is not written in the form it must have", f"pattern: {error['ctx']['pattern']}"
    return str(error["msg"]), ""


def _as_written(bound: Any, raw: Any) -> str:
    if is_size(raw):
        return format_size(int(bound))
    return format_duration(bound) if is_duration(raw) else str(bound)


def _not_one_of(expected: str, raw: Any) -> tuple[str, str]:
    words = expected.replace("'", "").replace(" or ", ", ").split(", ")
    near = difflib.get_close_matches(str(raw), words, 1)
    return f"must be one of {', '.join(words)}", f"did you mean {near[0]}?" if near else ""


def _unknown_key(key: str, model: type[BaseModel] | None, name: str) -> tuple[str, str]:
    known = list(model.model_fields) if model else []
    if any(word in key.lower() for word in _SECRET_WORDS):
        files = [field for field in known if field.endswith("_file") or field == "key"]
        use = f"write {files[0]}: PATH or {files[0]}: credential:NAME" if files else "no secret belongs here"
        return f"{name}: secrets are never written in the configuration", use
    near = difflib.get_close_matches(key.lower().replace("-", "_"), known, 1, 0.6)
    return f"{name} is not a setting", f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"


def _missing(loc: tuple[str | int, ...], model: type[BaseModel]) -> tuple[str, str]:
    inner = _model_at(model, loc[:-1])
    key = str(loc[-1])
    field = inner.model_fields.get(key) if inner else None
    return f"{_dotted(loc)} is missing", (field.description or "") if field else ""


def _model_at(model: type[BaseModel], location: Location) -> type[BaseModel] | None:
    """The model that the keys at a location belong to."""
    current: type[BaseModel] | None = model
    for step in location:
        if current is None:
            return None
        if isinstance(step, str):
            field = current.model_fields.get(step)
            current = next(_models(field.annotation), None) if field else None
    return current


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models an annotation speaks of, such as the one in ``tuple[X, ...]`` or ``X | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
