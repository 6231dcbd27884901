"""What operators add: their own patterns, terms, exclusions and weights, in one YAML file next to the policies.

What stands at the top holds for all mail; what stands below ``clients:`` holds besides for that client's.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Final

import re2
import yaml

from relay.core.errors import Problem, ProblemsError
from relay.core.phi import FindingGroup, Phi, PhiVerdict
from relay.scan.lexicon import words_of
from relay.scan.model import Term, Weights
from relay.scan.shape import Shape

_KIND: Final = re.compile(r"[a-z][a-z0-9-]{0,40}\Z")
_GROUPS: Final = {"identifier": FindingGroup.IDENTIFIER, "health": FindingGroup.HEALTH}
_SENSITIVE: Final = frozenset({"", "mental-health", "hiv", "substance-use", "reproductive", "genetic"})
_KEYS: Final = {
    "": {"patterns", "terms", "exclude", "weights", "tests", "clients"},
    "client": {"patterns", "terms", "exclude", "weights", "tests", "without"},
    "tests": {"text", "verdict", "at_most", "kinds", "client"},
    "patterns": {"kind", "group", "regex", "weight", "sensitive", "example"},
    "terms": {"kind", "weight", "sensitive", "words"},
    "exclude": {"words", "regex"},
    "weights": {"identifiers", "health", "implies", "thresholds", "manner"},
}
_THRESHOLDS: Final = ("possible", "likely", "certain")
_MOST_CLIENTS: Final = 100  # one with terms of its own takes 2.6 MB a process, and 35 ms at the start


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningTest:
    """A text, and what the tuned scan must make of it.

    Attributes:
        where: its place in the file.
        text: the text.
        client: whose mail it stands for; empty for nobody's in particular.
        least, most: the bounds of the verdict.
        kinds: some of what must be found.
    """

    where: str
    text: str = field(repr=False)
    client: str = ""
    least: Phi = Phi.NONE
    most: Phi = Phi.CERTAIN
    kinds: frozenset[str] = frozenset()

    def problem(self, verdict: PhiVerdict) -> Problem | None:
        """What the verdict lacks, if anything."""
        missing = self.kinds - verdict.counts().keys()
        if missing:
            return Problem(
                where=self.where, what=f"does not find {', '.join(sorted(missing))}", hint="mend one of the two"
            )
        if not self.least <= verdict.phi <= self.most:
            what = f"the verdict is {verdict.phi.word}"
            return Problem(where=self.where, what=what, hint=f"wanted: {self.least.word} to {self.most.word}")
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What was read from the file; the default changes nothing.

    Attributes:
        shapes: custom patterns, looked for before all others.
        terms: (folded words of a term, what it says).
        excluded: folded words and phrases that are never a term.
        excluded_values: patterns of values that are never an identifier (a clinic's own number, a test patient).
        weights: changes to the weights file, by table and kind.
        without: kinds of the file's own patterns and terms that are not looked for.
        tests: what must hold of it, its clients' included.
        clients: what holds besides for the mail of one client, by the client's name.
        name: the file's, for problems.
    """

    shapes: tuple[Shape, ...] = ()
    terms: tuple[tuple[tuple[bytes, ...], Term], ...] = ()
    excluded: frozenset[tuple[bytes, ...]] = frozenset()
    excluded_values: tuple[Any, ...] = ()
    weights: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    without: frozenset[str] = frozenset()
    tests: tuple[TuningTest, ...] = ()
    clients: Mapping[str, "Tuning"] = field(default_factory=dict)
    name: str = field(default="", compare=False)

    def for_client(self, client: str) -> "Tuning":
        """What holds for one client's mail: what holds for all, changed by what stands below its name."""
        own = self.clients.get(client)
        if own is None:
            return self
        tables = {*self.weights, *own.weights}
        return Tuning(
            shapes=(*own.shapes, *(shape for shape in self.shapes if shape.kind not in own.without)),
            terms=(*(pair for pair in self.terms if pair[1].kind not in own.without), *own.terms),
            excluded=self.excluded - {words for words, _ in own.terms} | own.excluded,
            excluded_values=(*self.excluded_values, *own.excluded_values),
            weights={table: {**self.weights.get(table, {}), **own.weights.get(table, {})} for table in tables},
            name=own.name,
        )

    def problems(self, shipped: Weights) -> Iterator[Problem]:
        """What is wrong with it beside the shipped weights: kinds that there are not, thresholds out of order."""
        for tuning in (self, *(self.for_client(client) for client in self.clients)):
            yield from _unknown(tuning, shipped)
            after = tuning.apply(shipped)
            if not after.possible <= after.likely <= after.certain:
                what = "possible, likely and certain do not rise"
                yield Problem(where=f"{tuning.name}: weights.thresholds", what=what, hint="mind the ones not written")

    def apply(self, weights: Weights) -> Weights:
        """The weights with the operator's changes, and a version that tells them apart from the shipped ones."""
        kinds = {shape.kind: _weight_of(shape, self.weights) for shape in self.shapes}
        identifiers = {shape.kind: kinds[shape.kind] for shape in self.shapes if shape.group is FindingGroup.IDENTIFIER}
        health = {shape.kind: kinds[shape.kind] for shape in self.shapes if shape.group is FindingGroup.HEALTH}
        thresholds = {
            name: self.weights.get("thresholds", {}).get(name, getattr(weights, name)) for name in _THRESHOLDS
        }
        return replace(
            weights,
            version=f"{weights.version}+tuned" if self != Tuning() else weights.version,
            identifiers={**weights.identifiers, **identifiers, **self.weights.get("identifiers", {})},
            health={**weights.health, **health, **self.weights.get("health", {})},
            implies={**weights.implies, **self.weights.get("implies", {})},
            manner={**weights.manner, **self._manner()},
            **thresholds,
        )

    def _manner(self) -> Mapping[str, float]:
        """The operator's changes to the second look: where he says what is likely it is off, unless he sets it too."""
        off = {"likely": 1.0} if "likely" in self.weights.get("thresholds", {}) else {}
        return {**off, **self.weights.get("manner", {})}

    def excludes(self, value: bytes) -> bool:
        """Whether an identifier's value is one of those that the operator excluded."""
        return any(pattern.fullmatch(value) for pattern in self.excluded_values)


def _unknown(tuning: Tuning, shipped: Weights) -> Iterator[Problem]:
    own = {group: {shape.kind for shape in tuning.shapes if shape.group is group} for group in FindingGroup}
    identifiers = shipped.identifiers.keys() | own[FindingGroup.IDENTIFIER]
    known = {
        "identifiers": identifiers,
        "implies": identifiers,
        "health": shipped.health.keys() | own[FindingGroup.HEALTH],
        "thresholds": _THRESHOLDS,
        "manner": shipped.manner.keys(),
    }
    for table, kinds in known.items():
        for kind in tuning.weights.get(table, {}).keys() - set(kinds):
            like = get_close_matches(kind, kinds, n=1)
            hint = f"did you mean {like[0]}?" if like else "see relay/scan/data/weights.yaml"
            yield Problem(where=f"{tuning.name}: weights.{table}.{kind}", what="is not known", hint=hint)


def _weight_of(shape: Shape, weights: Mapping[str, Mapping[str, float]]) -> float:
    return weights["own"][shape.kind]


def parse_tuning(source: bytes, name: str) -> Tuning:
    """Read and check the file.

    Args:
        source: YAML.
        name: the file's name, for problems.

    Raises:
        ProblemsError: with every problem found, each with its place in the file.
    """
    reader = _Reader(name)
    try:
        raw = yaml.load(source, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        raise ProblemsError(Problem(where=where, what="not YAML", hint="mind the indentation")) from error
    except ValueError as error:  # 2026-02-31 is YAML, and no day
        what, hint = f"a value cannot be read: {error}", "put it in quotes where it is meant as text"
        raise ProblemsError(Problem(where=name, what=what, hint=hint)) from error
    tuning = reader.read(raw or {})
    if reader.problems:
        raise ProblemsError(*reader.problems)
    return tuning


class _Reader:
    """Reads the tree and gathers problems."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.problems: list[Problem] = []

    def read(self, raw: Any) -> Tuning:
        if not self._mapping(raw, "", ""):
            return Tuning()
        clients = self._clients(raw.get("clients") or {})
        tuning = self._body(raw)
        for client, its in clients.items():
            known = {shape.kind for shape in tuning.shapes} | {term.kind for _, term in tuning.terms}
            for kind in its.without - known:
                hint = "without takes kinds of this file's patterns and terms; give any other the weight 0"
                self._problem(f"clients.{client}.without", f"{kind} is no kind of this file's", hint)
        tests = [replace(test, client=client) for client, its in clients.items() for test in its.tests]
        return replace(tuning, tests=(*tuning.tests, *tests), clients=clients)

    def _clients(self, raw: Any) -> dict[str, Tuning]:
        if not isinstance(raw, dict):
            self._problem("clients", "is not a mapping", "write it as the client's name: what changes")
            return {}
        if len(raw) > _MOST_CLIENTS:
            self._problem("clients", f"are more than {_MOST_CLIENTS}", "tune for all mail what most of them need")
        clients: dict[str, Tuning] = {}
        for client, section in list(raw.items())[:_MOST_CLIENTS]:
            reader = _Reader(f"{self._name}: clients.{client}")
            if reader._mapping(section, "client", ""):
                clients[str(client)] = reader._body(section)
            self.problems += reader.problems
        return clients

    def _body(self, raw: Mapping[str, Any]) -> Tuning:
        """What may stand at the top and below a client's name."""
        own: dict[str, float] = {}
        shapes = [shape for place, item in self._items(raw, "patterns") if (shape := self._pattern(item, place, own))]
        terms = [pair for place, item in self._items(raw, "terms") for pair in self._terms(item, place)]
        exclude = raw.get("exclude") or {}
        words: list[tuple[bytes, ...]] = []
        values: list[Any] = []
        if self._mapping(exclude, "exclude", "exclude"):
            words = [tuple(words_of(word)) for word in self._words(exclude, "words", "exclude.")]
            values = [
                compiled
                for pattern in self._words(exclude, "regex", "exclude.")
                if (compiled := self._regex(pattern, "exclude.regex"))
            ]
        return Tuning(
            shapes=tuple(shapes),
            terms=tuple(terms),
            excluded=frozenset(filter(None, words)),
            excluded_values=tuple(values),
            weights={**self._weights(raw.get("weights") or {}), "own": own},
            without=frozenset(self._words(raw, "without")),
            name=self._name,
            tests=tuple(self._test(item, place) for place, item in self._items(raw, "tests")),
        )

    def _words(self, raw: Mapping[str, Any], key: str, section: str = "") -> list[str]:
        words = raw.get(key) or []
        if not isinstance(words, list):
            self._problem(f"{section}{key}", "is not a list", "write [one, another]")
            return []
        return [str(word) for word in words]

    def _items(self, raw: Mapping[str, Any], key: str) -> list[tuple[str, Any]]:
        items = raw.get(key) or []
        if not isinstance(items, list):
            self._problem(key, "is not a list", "begin each entry with a dash")
            return []
        return [
            (f"{key}[{number}]", item)
            for number, item in enumerate(items, 1)
            if self._mapping(item, key, f"{key}[{number}]")
        ]

    def _mapping(self, raw: Any, section: str, place: str) -> bool:
        if not isinstance(raw, dict):
            self._problem(place, "is not a mapping", "write it as key: value")
            return False
        for key in raw.keys() - _KEYS[section]:
            self._problem(f"{place}.{key}".lstrip("."), "is not known", f"known: {', '.join(sorted(_KEYS[section]))}")
        return True

    def _pattern(self, item: Mapping[str, Any], place: str, own: dict[str, float]) -> Shape | None:
        kind, weight, sensitive = self._common(item, place)
        group = _GROUPS.get(str(item.get("group", "identifier")))
        if group is None:
            self._problem(f"{place}.group", "is neither identifier nor health", "choose one")
        compiled = self._regex(str(item.get("regex", "")), f"{place}.regex")
        if compiled is None or group is None:
            return None
        pattern = str(item["regex"])
        if compiled.groups != 1:
            pattern = f"({pattern})" if compiled.groups == 0 else pattern
            if compiled.groups > 1:
                self._problem(f"{place}.regex", "has more than one group", "write (?:...) for all but the value")
        example = item.get("example")
        if example is not None and not compiled.search(str(example).encode("latin-1", "replace")):
            self._problem(f"{place}.example", "is not matched by its pattern", "mend one of the two")
        own[kind] = weight
        encoded = pattern.encode("latin-1", "replace")
        return Shape(kind=kind, regex=encoded, group=group, sensitive=sensitive)

    def _terms(self, item: Mapping[str, Any], place: str) -> list[tuple[tuple[bytes, ...], Term]]:
        kind, weight, sensitive = self._common(item, place)
        words = item.get("words")
        if not isinstance(words, list) or not words:
            self._problem(f"{place}.words", "lists nothing", "list words or phrases")
            return []
        term = Term(kind=kind, weight=weight, sensitive=sensitive)
        return [(tuple(folded), term) for word in words if (folded := words_of(str(word)))]

    def _test(self, item: Mapping[str, Any], place: str) -> TuningTest:
        kinds = item.get("kinds") or []
        if not str(item.get("text", "")).strip():
            self._problem(f"{place}.text", "is empty", "write what the scan is to judge")
        if not isinstance(kinds, list):
            self._problem(f"{place}.kinds", "is not a list", "write [study-id]")
            kinds = []
        return TuningTest(
            where=f"{self._name}: {place}",
            text=str(item.get("text", "")),
            client=str(item.get("client", "")),
            least=self._verdict(item.get("verdict", "none"), f"{place}.verdict"),
            most=self._verdict(item.get("at_most", "certain"), f"{place}.at_most"),
            kinds=frozenset(map(str, kinds)),
        )

    def _verdict(self, word: Any, place: str) -> Phi:
        for phi in Phi:
            if word == phi.word:
                return phi
        self._problem(place, "is no verdict", "none, possible, likely or certain")
        return Phi.NONE

    def _common(self, item: Mapping[str, Any], place: str) -> tuple[str, float, str]:
        kind, sensitive = str(item.get("kind", "")), str(item.get("sensitive", ""))
        if not _KIND.match(kind):
            self._problem(f"{place}.kind", "is missing or not a name", "lower-case letters, digits and dashes")
        if sensitive not in _SENSITIVE:
            self._problem(f"{place}.sensitive", "is not known", f"one of {', '.join(sorted(_SENSITIVE - {''}))}")
        return kind, self._number(item.get("weight", 0.5), f"{place}.weight"), sensitive

    def _number(self, value: Any, place: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            self._problem(place, "is not a number from 0 to 1", "0 counts for nothing, 1 for certainty")
            return 0.0
        return float(value)

    def _weights(self, raw: Any) -> dict[str, dict[str, float]]:
        if not self._mapping(raw, "weights", "weights"):
            return {}
        tables = {}
        for table, values in raw.items():
            if isinstance(values, dict):
                tables[table] = {
                    str(kind): self._number(value, f"weights.{table}.{kind}") for kind, value in values.items()
                }
            else:
                self._problem(f"weights.{table}", "is not a mapping", "write kind: weight")
        return tables

    def _regex(self, pattern: str, place: str) -> Any:
        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        options.case_sensitive = False
        options.log_errors = False
        if not pattern:
            self._problem(place, "is empty", "write a pattern in RE2 syntax")
            return None
        try:
            return re2.compile(pattern.encode("latin-1", "replace"), options)
        except re2.error:
            self._problem(place, "is not a pattern that RE2 takes", "RE2 has no look-around and no back-references")
            return None

    def _problem(self, place: str, what: str, hint: str) -> None:
        self.problems.append(Problem(where=f"{self._name}: {place}" if place else self._name, what=what, hint=hint))
