"""The rules that understand answers, read from YAML: checked whole, every fault told at once with its rule."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeVar

import re2
import yaml

from relay.core.errors import Problem, ProblemsError
from relay.core.reply import EnhancedStatus
from relay.delivery.bounce import BounceAction, BounceClass

_FIELDS: Final = frozenset({"id", "class", "code", "enhanced", "provider", "pattern", "not", "action"})
_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}\Z")
_CODE: Final = re.compile(r"[245]\d{0,2}\Z")
_STATUS: Final = re.compile(r"([245x])\.(\d{1,3})\.(?:(\*)|(\d{1,3})(?:-(\d{1,3}))?)\Z")
_Word = TypeVar("_Word", bound=StrEnum)
_MAX_RULES: Final = 5000
_MAX_PATTERN: Final = 8000


@dataclass(frozen=True, slots=True)
class StatusRange:
    """Enhanced statuses a rule holds for."""

    klass: int | None
    subject: int
    first: int
    last: int

    def holds(self, status: EnhancedStatus) -> bool:
        """Whether a status lies in it."""
        return (
            self.klass in (None, status.klass)
            and self.subject == status.subject
            and self.first <= status.detail <= self.last
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BounceRule:
    """One rule. Every condition that it names must hold; within one condition any alternative does.

    Attributes:
        id: its name.
        klass: the class it gives.
        codes: SMTP codes or their first digits.
        statuses: enhanced statuses.
        provider: RE2 searched in the answering host and the text.
        patterns: RE2 searched in the text, any of them.
        unless: RE2: where it is found the rule does not hold.
        action: in place of the class's own.
    """

    id: str
    klass: BounceClass
    codes: tuple[str, ...] = ()
    statuses: tuple[StatusRange, ...] = ()
    provider: str = ""
    patterns: tuple[str, ...] = ()
    unless: str = ""
    action: BounceAction | None = None


def read_rules(text: str | bytes, where: str) -> tuple[BounceRule, ...]:
    """Read a rules file.

    Args:
        text: YAML: a mapping with the one key ``rules``.
        where: its name, for errors.

    Raises:
        ProblemsError: every fault in it.
    """
    try:
        data = yaml.load(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}:{mark.line + 1}" if mark is not None else where
        raise ProblemsError(
            Problem(where=place, what="is not YAML", hint="see docs/bounces.md for the form")
        ) from error
    except ValueError as error:  # 2026-02-31 is YAML, and no day
        what, hint = f"has a value that cannot be read: {error}", "put it in quotes where it is meant as text"
        raise ProblemsError(Problem(where=where, what=what, hint=hint)) from error
    rows = data.get("rules") if isinstance(data, dict) and set(data) == {"rules"} else None
    if not isinstance(rows, list) or len(rows) > _MAX_RULES:
        hint = "write `rules:` and a list of rules below it"
        raise ProblemsError(Problem(where=where, what=f"has no list of at most {_MAX_RULES} rules", hint=hint))
    problems: list[Problem] = []
    rules = [rule for number, row in enumerate(rows, 1) if (rule := _rule(row, number, where, problems)) is not None]
    counted = Counter(rule.id for rule in rules)
    problems += [
        Problem(where=f"{where}: {name}", what="is the id of two rules", hint="rename one")
        for name, count in counted.items()
        if count > 1
    ]
    if problems:
        raise ProblemsError(*problems)
    return tuple(rules)


def _rule(row: Any, number: int, where: str, problems: list[Problem]) -> BounceRule | None:
    name = row.get("id") if isinstance(row, dict) else None
    place = f"{where}: {name}" if isinstance(name, str) and _ID.match(name) else f"{where}: rule {number}"
    try:
        return _build(row)
    except ValueError as error:
        what, _, hint = str(error).partition("|")
        problems.append(Problem(where=place, what=what, hint=hint))
        return None


def _build(row: Any) -> BounceRule:
    if not isinstance(row, dict):
        raise ValueError("is not a mapping|write id, class and at least one condition")  # noqa: TRY004 - one kind of error
    if unknown := sorted(str(key) for key in set(row) - _FIELDS):
        raise ValueError(f"has an unknown field {unknown[0]}|known are {', '.join(sorted(_FIELDS))}")
    name = row.get("id")
    if not isinstance(name, str) or not _ID.match(name):
        raise ValueError("has no id of lower-case letters, digits and dashes|such as mailbox-full-acme")
    action = row.get("action")
    rule = BounceRule(
        id=name,
        klass=_word(BounceClass, row.get("class"), "class"),
        codes=tuple(_code(item) for item in _list(row, "code")),
        statuses=tuple(_status(item) for item in _list(row, "enhanced")),
        provider=_pattern(row.get("provider", ""), "provider"),
        patterns=tuple(_pattern(item, "pattern") for item in _list(row, "pattern")),
        unless=_pattern(row.get("not", ""), "not"),
        action=None if action is None else _word(BounceAction, action, "action"),
    )
    if not (rule.codes or rule.statuses or rule.provider or rule.patterns):
        raise ValueError("has no condition|give it code, enhanced, provider or pattern")
    return rule


def _list(row: dict[str, Any], key: str) -> Sequence[Any]:
    value = row.get(key, [])
    return value if isinstance(value, list) else [value]


def _word(kind: type[_Word], value: Any, key: str) -> _Word:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(member.value for member in kind)
        raise ValueError(f"has no known {key}|known are {known}") from None


def _code(value: Any) -> str:
    text = str(value)
    if not _CODE.match(text):
        raise ValueError(f"has a code that is none: {text[:20]}|write 421, 55 or 5")
    return text


def _status(value: Any) -> StatusRange:
    match = _STATUS.match(str(value))
    if match is None:
        raise ValueError(f"has an enhanced status that is none: {str(value)[:20]}|write 5.7.1, x.7.* or x.7.606-649")
    klass, subject, every, first, last = match.groups()
    low = 0 if every else int(first)
    return StatusRange(None if klass == "x" else int(klass), int(subject), low, 999 if every else int(last or first))


def _pattern(value: Any, key: str) -> str:
    if not isinstance(value, str) or len(value) > _MAX_PATTERN:
        raise ValueError(f"has a {key} that is no text of at most {_MAX_PATTERN} characters|quote it")
    try:
        re2.compile(value)
    except re2.error as error:
        raise ValueError(f"has a {key} that RE2 does not take: {str(error)[:80]}|see RE2's syntax") from None
    return value
