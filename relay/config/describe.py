"""The settings' models told to people and to editors: the annotated example and the JSON Schema."""

import re
import textwrap
from collections.abc import Iterator
from enum import Enum
from typing import Any, Final, get_args

import orjson
from annotated_types import Ge, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from relay.config.document import scalar
from relay.config.units import format_duration, format_size

_WIDTH: Final = 118
_PLAIN: Final = re.compile(r"[A-Za-z0-9*_./][A-Za-z0-9._/:@+ -]*(?<![: ])\Z")

HEADER: Final = """\
# yaml-language-server: $schema=postern.schema.json
#
# Postern's configuration: every setting, what it does, its unit, default and bounds. What is commented out shows the
# default. Durations are written 500ms, 30s, 15m, 4h, 5d, 2w, 6y; sizes 512B, 64KiB, 25MiB, 10GiB. Relative paths
# count from this file's directory. Secrets stand in files of their own: a path, or credential:NAME for a systemd
# credential. Check with `postern check --config FILE`. A whole configuration can be as short as this:
#
#     hostname: relay.clinic.example
#     listeners:
#       - name: ehr
#         kind: submission
#         address: 10.20.0.5
#         certificate: tls/cert.pem
#         key: tls/key.pem

"""
CLIENT_HEADER: Final = """\
# yaml-language-server: $schema=client.schema.json
#
# A client: a system that may send, such as an EHR. One file NAME.yaml each in clients_dir, made by
# `postern client add NAME --tenant TENANT --domain DOMAIN`, which prints the generated secret once.

"""


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model that a setting holds (itself, in a list, or optionally); ``None`` for a plain value."""
    return next(_models(field.annotation), None)


def is_list(field: FieldInfo) -> bool:
    """Whether a setting holds a list."""
    return str(field.annotation).startswith("tuple[")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def annotated(model: type[BaseModel], header: str = "") -> str:
    """A YAML file of all settings: required ones with an example, the others commented out with their default."""
    return header + "\n".join(_section(model, indent=0, live=True)) + "\n"


def _section(model: type[BaseModel], *, indent: int, live: bool) -> Iterator[str]:
    for number, (name, field) in enumerate(model.model_fields.items()):
        if indent == 0 and number and section_of(field):
            yield ""
        yield from _field(name, field, indent=indent, live=live)


def _field(name: str, field: FieldInfo, *, indent: int, live: bool) -> Iterator[str]:
    pad = " " * indent
    inner = section_of(field)
    yield from textwrap.wrap(
        f"{field.description} ({_facts(field, inner)})",
        _WIDTH,
        initial_indent=f"{pad}# ",
        subsequent_indent=f"{pad}# ",
        break_on_hyphens=False,
    )
    shown = live and bool(field.is_required() or field.examples)
    mark = "" if shown else "#"
    if inner is None:
        value = field.examples[0] if field.examples else field.default
        yield f"{pad}{mark}{name}: {_yaml(value)}"
        return
    yield f"{pad}{mark}{name}:"
    if not is_list(field):
        yield from _section(inner, indent=indent + 2, live=shown)
        return
    lines = list(_section(inner, indent=indent + 4, live=shown))
    yield from _as_item(lines, indent + 2)


def _as_item(lines: list[str], indent: int) -> Iterator[str]:
    """Put the dash of a list's item before its first setting; the remarks above it stay above."""
    begun = False
    for line in lines:
        text = line.strip()
        if begun or text.startswith("# "):
            yield line
            continue
        begun = True
        commented = "#" if text.startswith("#") else ""
        yield f"{' ' * indent}{commented}- {text.removeprefix('#')}"


def _facts(field: FieldInfo, inner: type[BaseModel] | None) -> str:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    unit = str(extra.get("unit", ""))
    facts = [unit] if unit else ["list" if is_list(field) else "section"] if inner else []
    if field.is_required():
        facts.append("required")
    elif inner is None:
        facts.append(f"default {_yaml(field.default)}")
    low = next((_bound(one.ge, unit) for one in field.metadata if isinstance(one, Ge)), None)
    high = next((_bound(one.le, unit) for one in field.metadata if isinstance(one, Le)), None)
    if low is not None and high is not None:
        facts.append(f"{low} to {high}")
    return "; ".join(facts)


def _bound(value: Any, unit: str) -> str:
    if unit == "duration":
        return format_duration(value)
    return format_size(value) if unit == "size" else str(value)


def _yaml(value: Any) -> str:
    if value is PydanticUndefined or value is None:
        return "null"
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, list):
        return f"[{', '.join(_yaml(item) for item in value)}]"
    if isinstance(value, str) and scalar(value) == value and _PLAIN.match(value):
        return value
    return orjson.dumps(value).decode()


def uncommented(text: str) -> str:
    """The annotated example with every setting live: a ``#`` with a letter or dash right after it is taken away."""
    return re.sub(r"^( *)#(?=[a-z-])", r"\1", text, flags=re.MULTILINE)


def schema(model: type[BaseModel], title: str) -> bytes:
    """JSON Schema (2020-12) of a file, for editors; pretty, keys in the models' order."""
    made = model.model_json_schema(mode="validation")
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": title}
    return orjson.dumps(whole, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
