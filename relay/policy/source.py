"""YAML with places: every value of a policy file knows its line and column."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from relay.core.errors import Problem, ProblemsError

MAX_FILE: Final = 1024 * 1024
"""Characters in one policy file."""
_MAX_DEPTH: Final = 40
_MAX_NODES: Final = 100_000
_INT: Final = re.compile(r"[-+]?(?:0|[1-9]\d{0,17})\Z")

Path = tuple[str | int, ...]
"""Keys and indexes that lead to a value: ``("rules", 3, "when")``."""


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML file as plain data, with the place of every value.

    Attributes:
        name: the file's name as problems show it.
        data: mappings, lists, strings, integers, booleans and ``None``.
        places: path to (line, column), both from 1; of a mapping's value the place is its key's.
    """

    name: str
    data: Any
    places: Mapping[Path, tuple[int, int]] = field(repr=False)

    def where(self, *path: str | int) -> str:
        """``file:line:column`` of a value; steps that are not in the file are skipped."""
        known: Path = ()
        for step in path:
            if (*known, step) in self.places:
                known = (*known, step)
        line, column = self.places.get(known, (1, 1))
        return f"{self.name}:{line}:{column}"


def parse(text: str, name: str) -> Document:
    """Read one YAML document.

    Scalars are read as YAML 1.2 would: ``no``, ``on`` and dates stay text.

    Raises:
        ProblemsError: not YAML, too large, too deep, a key given twice, more than one document.
    """
    if len(text) > MAX_FILE:
        raise ProblemsError(Problem(where=name, what=f"larger than {MAX_FILE} characters", hint="split it: include:"))
    try:
        _bound(text, name)
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise ProblemsError(_syntax_problem(error, name, text)) from error
    reader = _Reader(name)
    data = reader.read(node, ()) if node is not None else None
    if reader.problems:
        raise ProblemsError(*reader.problems)
    return Document(name, data, reader.places)


def _bound(text: str, name: str) -> None:
    depth = 0
    for nodes, event in enumerate(yaml.parse(text, Loader=yaml.CSafeLoader)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH or nodes > _MAX_NODES:
            mark = event.start_mark
            where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
            limit = f"{_MAX_DEPTH} levels" if depth > _MAX_DEPTH else f"{_MAX_NODES} values"
            raise ProblemsError(Problem(where=where, what=f"more than {limit}", hint="put long lists into a file:"))


def _syntax_problem(error: yaml.YAMLError, name: str, text: str) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    what = getattr(error, "problem", None) or "not readable as YAML"
    where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
    hint = 'quote text that has ": ", or begins with [ { * & ! % @ or `'
    if mark and "".join(text.split("\n")[mark.line : mark.line + 1]).lstrip(" ").startswith("\t"):
        hint = "indent with spaces, not tabs"
    return Problem(where=where, what=f"not YAML: {what}", hint=hint)


class _Reader:
    """Turns nodes into plain data; aliases are expanded, and the expansion is bounded."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.places: dict[Path, tuple[int, int]] = {}
        self.problems: list[Problem] = []
        self._count = 0

    def read(self, node: yaml.Node, path: Path) -> Any:
        self._count += 1
        if self._count > _MAX_NODES or len(path) > _MAX_DEPTH:
            raise ProblemsError(self._problem(node, "too many values after expanding aliases", "repeat fewer anchors"))
        self.places.setdefault(path, _place(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(child, (*path, number)) for number, child in enumerate(node.value)]
        return _scalar(node) if isinstance(node, yaml.ScalarNode) else None

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.problems.append(self._problem(key, "a key must be a word", ""))
                continue
            if key.value in data:
                first = self.places[(*path, key.value)][0]
                hint = f"first given in line {first}; keep one"
                self.problems.append(self._problem(key, f"the key `{key.value}` is given twice", hint))
                continue
            self.places[(*path, key.value)] = _place(key)
            data[key.value] = self.read(value, (*path, key.value))
        return data

    def _problem(self, node: yaml.Node, what: str, hint: str) -> Problem:
        line, column = _place(node)
        return Problem(where=f"{self.name}:{line}:{column}", what=what, hint=hint)


def _place(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _scalar(node: yaml.ScalarNode) -> Any:
    text: str = node.value
    if node.style in {"'", '"', "|", ">"}:
        return text
    if text in {"true", "false"}:
        return text == "true"
    if text in {"", "~", "null"}:
        return None
    return int(text) if _INT.match(text) else text


def walk(data: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value with its path, the outer before the inner."""
    yield path, data
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from walk(value, (*path, key))
    elif isinstance(data, Sequence) and not isinstance(data, str):
        for number, value in enumerate(data):
            yield from walk(value, (*path, number))
