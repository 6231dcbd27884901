"""Answers to verdicts: all patterns of all rules in one RE2 set, then the first rule whose every condition holds."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import re2

from relay.core.outcome import Failure
from relay.core.reply import Reply
from relay.delivery.bounce import BounceClass, Verdict, action_of, of_trouble
from relay.delivery.bouncerules import BounceRule
from relay.delivery.bouncetext import Words, words_of

_MEMORY: Final = 64 * 1024 * 1024
"""Octets RE2 may use for the set; what it cannot do within it is done pattern by pattern."""
_UNKNOWN: Final = "no-rule"
_ALWAYS: Final = ""
"""Matches everything: a set that answers nothing at all has run out of memory."""


class Classifier:
    """Understands answers. Immutable once built; safe to share.

    Args:
        rules: in order: the first that holds decides. Operators' own come first.
        memory: octets RE2 may use.
    """

    def __init__(self, rules: Sequence[BounceRule], *, memory: int = _MEMORY) -> None:
        self._rules = tuple(rules)
        self._texts: list[str] = []
        self._places: dict[str, int] = {}
        self._options = re2.Options()
        self._options.case_sensitive = False
        self._options.never_capture = True
        self._options.log_errors = False
        self._options.max_mem = memory
        self._set = re2.Set.SearchSet(self._options)
        self._add(_ALWAYS)
        for rule in self._rules:
            for pattern in (*rule.patterns, rule.unless):
                if pattern:
                    self._add(pattern)
        self._set.Compile()

    @property
    def rules(self) -> tuple[BounceRule, ...]:
        """The rules in order."""
        return self._rules

    def classify(self, answer: str, *, host: str = "", permanent: bool | None = None) -> Verdict:
        """Understand what a server, or the text of a bounce, said.

        Args:
            answer: codes and text, as one line or several.
            host: who said it, for the rules of a provider; empty when unknown.
            permanent: whether it was for good, where that is known better than the text says.
        """
        words = words_of(answer)
        found = self._found(words.text)
        said_by = f"{host}\n{words.text}"
        lasting = words.permanent if permanent is None else permanent
        for rule in self._rules:
            holds, pattern = self._holds(rule, words, found, said_by)
            if holds:
                return _verdict(rule, words, pattern, permanent=lasting, host=host)
        action = action_of(BounceClass.OTHER, permanent=lasting)
        return Verdict(
            klass=BounceClass.OTHER, action=action, rule=_UNKNOWN, permanent=lasting, code=words.code,
            status=words.status, host=host,
        )  # fmt: skip

    def of_failure(self, failure: Failure, *, permanent: bool) -> Verdict:
        """Understand why an attempt failed: by the server's words where it gave any, else by the trouble's kind."""
        if failure.reply is None:
            return of_trouble(failure, permanent=permanent)
        return self.of_reply(failure.reply, host=failure.host, permanent=permanent)

    def of_reply(self, reply: Reply, *, host: str = "", permanent: bool | None = None) -> Verdict:
        """Understand a server's reply."""
        return self.classify(str(reply), host=host, permanent=permanent)

    def _add(self, pattern: str) -> None:
        if pattern not in self._places:
            self._places[pattern] = self._set.Add(pattern)
            self._texts.append(pattern)

    def _found(self, text: str) -> frozenset[int]:
        matched = self._set.Match(text)
        if matched:
            return frozenset(matched)
        return frozenset(place for place, pattern in enumerate(self._texts) if _single(pattern).search(text))

    def _holds(self, rule: BounceRule, words: Words, found: frozenset[int], said_by: str) -> tuple[bool, str]:
        """Whether a rule holds, and by which pattern."""
        if rule.codes and not (words.code and str(words.code).startswith(rule.codes)):
            return False, ""
        if rule.statuses:
            status = words.status
            if status is None or not any(one.holds(status) for one in rule.statuses):
                return False, ""
        if rule.provider and _single(rule.provider).search(said_by) is None:
            return False, ""
        pattern = next((one for one in rule.patterns if self._places[one] in found), "")
        if rule.patterns and not pattern:
            return False, ""
        return not (rule.unless and self._places[rule.unless] in found), pattern


def found_words(answer: str, pattern: str) -> str:
    """The words of an answer that a rule's pattern was found in, for people."""
    text = words_of(answer).text
    found = _single(pattern).search(text)
    if found is None:
        return ""
    start, end = found.span()
    while start > 0 and text[start - 1].isalnum():
        start -= 1
    while end < len(text) and text[end].isalnum():
        end += 1
    return text[start:end].strip()


@lru_cache(maxsize=4096)
def _single(pattern: str) -> Any:
    options = re2.Options()
    options.case_sensitive = False
    return re2.compile(pattern, options)


def _verdict(rule: BounceRule, words: Words, pattern: str, *, permanent: bool, host: str) -> Verdict:
    own = action_of(rule.klass, permanent=permanent)
    action = rule.action if rule.action is not None and permanent else own
    return Verdict(
        klass=rule.klass,
        action=action,
        rule=rule.id,
        permanent=permanent,
        code=words.code,
        status=words.status,
        pattern=pattern,
        host=host,
    )
