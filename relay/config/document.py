"""YAML read with the line of every value, and nothing that YAML 1.1 guesses.

Scalars follow the core schema of YAML 1.2: only ``true`` and ``false`` are booleans (``off`` stays a word), there
are no sexagesimal numbers and no dates. Built from the parser's events, so that depth, size and aliases
are bounded here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from relay.core.errors import Problem, ProblemsError

Location: TypeAlias = tuple[str | int, ...]
"""Keys and indexes from the root to a value."""

MAX_BYTES: Final = 4 << 20
MAX_DEPTH: Final = 30
MAX_NODES: Final = 200_000

_INT: Final = re.compile(r"[-+]?[0-9]{1,18}\Z")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)\Z")
_WORDS: Final[dict[str, Any]] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_TAGS: Final = {"tag:yaml.org,2002:str", "!"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A YAML file's content, and the line each part of it stands on.

    Attributes:
        source: the file's name as it was given, for messages.
        data: dicts, lists and scalars.
        lines: location to line, from 1; for a mapping's value the line of its key.
    """

    source: str
    data: Any
    lines: dict[Location, int] = field(repr=False)

    def where(self, location: Location) -> str:
        """``conf/postern.yaml:12`` for the value there, or for the nearest thing around it that exists."""
        while location and location not in self.lines:
            location = location[:-1]
        return f"{self.source}:{self.lines.get(location, 1)}"

    def raw(self, location: Location) -> Any:
        """The value as written there; ``None`` where there is none."""
        value = self.data
        for key in location:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                return None
        return value


class _Builder:
    """Turns parser events into data and lines."""

    def __init__(self, source: str, events: Iterator[Any]) -> None:
        self._source = source
        self._events = events
        self._anchors: dict[str, tuple[Any, dict[Location, int]]] = {}
        self._nodes = 0
        self.lines: dict[Location, int] = {}
        self.problems: list[Problem] = []

    def problem(self, mark: Any, what: str, hint: str = "") -> None:
        self.problems.append(Problem(where=f"{self._source}:{mark.line + 1}", what=what, hint=hint))

    def document(self) -> Any:
        data: Any = None
        seen = False
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if seen:
                    self.problem(event.start_mark, "a second document starts here", "remove the line ---")
                    break
                seen = True
                data = self.node(next(self._events), ())
        return data

    def node(self, event: Any, at: Location) -> Any:
        self._bound(event, nodes=1, depth=len(at))
        before = len(self.lines)
        self.lines.setdefault(at, event.start_mark.line + 1)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, at)
        if event.tag and event.tag not in _TAGS:
            self.problem(event.start_mark, f"the tag {event.tag} is not understood", "remove it")
        value = self._value(event, at)
        if event.anchor:
            self._anchors[event.anchor] = (value, self._inner(at, before))
        return value

    def _bound(self, event: Any, *, nodes: int, depth: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            where = f"{self._source}:{event.start_mark.line + 1}"
            raise ProblemsError(Problem(where=where, what="too much nesting or too many values for a settings file"))

    def _inner(self, at: Location, before: int) -> dict[Location, int]:
        """The lines of a value that just ended, by the places within it: the last that were added."""
        added = islice(reversed(self.lines.items()), len(self.lines) - before)
        return {(): self.lines[at]} | {place[len(at) :]: line for place, line in added}

    def _value(self, event: Any, at: Location) -> Any:
        if isinstance(event, yaml.ScalarEvent):
            return scalar(event.value) if event.implicit[0] else event.value
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(at)
        return self._mapping(at)

    def _alias(self, event: Any, at: Location) -> Any:
        if event.anchor not in self._anchors:
            self.problem(event.start_mark, f"the alias *{event.anchor} names no finished anchor above it")
            return None
        value, inner = self._anchors[event.anchor]
        self._bound(event, nodes=len(inner), depth=len(at) + max(map(len, inner)))
        for place, line in inner.items():
            self.lines.setdefault(at + place, line)
        return value

    def _sequence(self, at: Location) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self.node(event, (*at, len(items))))
        return items

    def _mapping(self, at: Location) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event, at)
            place = (*at, key)
            line = event.start_mark.line + 1
            if key in found:
                self.problem(
                    event.start_mark, f"{key} is given twice", f"it is on line {self.lines[place]} already: keep one"
                )
                place = (*at, f"{key} ({line})")
            self.lines[place] = line
            value = self.node(next(self._events), place)
            found.setdefault(key, value)
        return found

    def _key(self, event: Any, at: Location) -> str:
        if isinstance(event, yaml.ScalarEvent):
            return str(event.value)
        self.problem(event.start_mark, "a key must be a word", "quote it if it begins with [ { * or &")
        self.node(event, (*at, "?"))
        return "?"


def scalar(text: str) -> Any:
    """The value of an unquoted scalar by the core schema of YAML 1.2, without its rarer numbers (octal, 1e5, .inf)."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.match(text):
        return int(text)
    return float(text) if _FLOAT.match(text) else text


def parse(text: str, source: str) -> Document:
    """Read YAML.

    Raises:
        ProblemsError: not YAML, a key given twice, or past the bounds; with the lines.
    """
    builder = _Builder(source, yaml.parse(text, Loader=yaml.CSafeLoader))
    try:
        data = builder.document()
    except yaml.MarkedYAMLError as error:
        raise ProblemsError(*builder.problems, _syntax(error, text, source)) from None
    except yaml.YAMLError as error:
        raise ProblemsError(Problem(where=source, what=f"is not YAML: {str(error).splitlines()[0]}")) from None
    if builder.problems:
        raise ProblemsError(*builder.problems)
    return Document(source=source, data=data, lines=builder.lines)


def _syntax(error: yaml.MarkedYAMLError, text: str, source: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    lines = text.splitlines()
    written = lines[line - 1] if line <= len(lines) else ""
    if "\t" in written and ("start any token" in str(error.problem) or "\t" in written.partition(written.strip())[0]):
        hint = "indent with spaces, not tabs"
    elif "mapping values" in str(error.problem):
        hint = "check the indentation, and quote text that holds a colon"
    else:
        hint = "check the indentation, brackets and quotes on this line and the one before"
    return Problem(where=f"{source}:{line}", what=f"is not YAML: {error.problem or error.context}", hint=hint)


def read(path: Path) -> Document:
    """Read a YAML file; a byte order mark is taken as what editors on Windows write.

    Raises:
        ProblemsError: missing, unreadable, too large, not UTF-8, or as for :func:`parse`.
    """
    source = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        hint = "run this as root, or as the user that Postern runs as" if isinstance(error, PermissionError) else ""
        raise ProblemsError(Problem(where=source, what=f"cannot be read: {error.strerror}", hint=hint)) from error
    if len(content) > MAX_BYTES:
        raise ProblemsError(Problem(where=source, what="is larger than 4 MiB: not a settings file"))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        hint = "save the file as UTF-8"
        raise ProblemsError(Problem(where=f"{source}:{line}", what="is not UTF-8 text", hint=hint)) from None
    return parse(text, source)
