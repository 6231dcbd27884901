"""Domains one typing slip away from well-known ones: gmial.com for gmail.com."""

import functools
from collections.abc import Iterable
from typing import Final

_LONG: Final = 13
"""From so many characters on two slips count: protonmail.com. In shorter names two slips make another real name."""
_SHORTEST_LABEL: Final = 5
"""A member whose first label is shorter (aol.com, mail.com) is not compared: too many real domains lie beside it."""
MAX_MEMBERS: Final = 5000


def distance(left: str, right: str) -> int:
    """Insertions, deletions, substitutions and swaps of neighbours that lead from one text to the other.

    The optimal string alignment variant of the Damerau-Levenshtein distance.
    """
    before: list[int] = []
    above = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        row = [i]
        for j, b in enumerate(right, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, above = above, row
    return above[-1]


def _reach(name: str) -> int:
    return 2 if len(name) >= _LONG else 1


def _shortened(name: str, slips: int) -> set[str]:
    """The name with up to ``slips`` characters left out: texts within that distance share one of these."""
    found = {name}
    last = {name}
    for _ in range(slips):
        last = {text[:place] + text[place + 1 :] for text in last for place in range(len(text))}
        found |= last
    return found


class Neighbours:
    """Answers whether a domain is near a member of a set, in microseconds, without walking the set."""

    def __init__(self, members: Iterable[str], below: Iterable[str] = ()) -> None:
        self._members = frozenset(members)
        self._below = tuple(f".{domain}" for domain in below)
        self._index: dict[str, list[str]] = {}
        for member in sorted(self._members):
            if len(member.partition(".")[0]) >= _SHORTEST_LABEL:
                for short in _shortened(member, _reach(member)):
                    self._index.setdefault(short, []).append(member)
        self._longest = max(map(len, self._members), default=0)
        self.nearest = functools.lru_cache(maxsize=8192)(self._nearest)

    def _nearest(self, domain: str) -> str:
        """The member that a domain that is none itself is near to, or empty."""
        if (
            domain in self._members
            or any(domain.endswith(below) for below in self._below)
            or len(domain) > self._longest + 2
        ):
            return ""
        index = self._index
        for short in sorted([one for one in _shortened(domain, 2 if len(domain) >= _LONG - 2 else 1) if one in index]):
            for member in index[short]:
                if distance(domain, member) <= _reach(member):
                    return member
        return ""
