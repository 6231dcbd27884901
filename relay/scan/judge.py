"""From text to verdict: identifiers and health context found apart, then weighed together by how near they stand."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate
from typing import Final

from relay.core.phi import Finding, FindingGroup, Phi, PhiVerdict
from relay.scan.lexicon import FOLD, Lexicon
from relay.scan.model import SUBJECT, Hit, Passage, Term, Weights
from relay.scan.shapes import ShapeFinder

_GAP: Final = "\n\n\n"
_MAX_PHRASE: Final = 8
_ANCHORS: Final = 200  # identifiers that are weighed as the middle of a window
_ALMOST_ONE: Final = 0.999


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanLimits:
    """What one verdict may hold (law 6).

    Attributes:
        findings: listed in a verdict; more set ``truncated`` and still count.
        hits: health terms gathered from one message; more add nothing to a verdict that is long certain.
    """

    findings: int = 200
    hits: int = 5000


class Judge:
    """Judges text. Pure and stateless after construction; one a process.

    ``digest`` is given the SHA-256 (hex) of a finding's kind and normalised value, not the value: the helper process,
    which has no key, hands that over as it is, and whoever has the key digests it to the same result on arrival.
    """

    def __init__(
        self,
        lexicon: Lexicon,
        weights: Weights,
        digest: Callable[[str], str],
        limits: ScanLimits | None = None,
        shapes: ShapeFinder | None = None,
    ) -> None:
        self._lexicon = lexicon
        self._weights = weights
        self._digest = digest
        self._limits = limits or ScanLimits()
        self._shapes = shapes or ShapeFinder()
        self.engine = f"postern-scan {weights.version}"

    def judge(self, passages: Sequence[Passage], unreadable: Iterable[tuple[str, str]] = ()) -> PhiVerdict:
        """The verdict over all passages, and over the subject alone.

        Args:
            passages: normalised texts.
            unreadable: (part, reason) of what could not be read: it keeps the verdict from ``none`` (law 3).
        """
        hits, starts = self._hits(passages)
        blind = [
            Finding(kind=f"unreadable: {reason}", group=FindingGroup.UNREADABLE, part=part, start=0, end=0)
            for part, reason in unreadable
        ]
        phi = self._phi(hits)
        if blind:
            phi = max(phi, Phi.POSSIBLE)
        findings = blind + [self._finding(hit, passages, starts) for hit in hits[: self._limits.findings]]
        subject = [hit for hit in hits if self._part_of(hit, starts, passages) == SUBJECT]
        return PhiVerdict(
            phi=phi,
            subject_phi=self._phi(subject),
            findings=tuple(findings[: self._limits.findings]),
            truncated=len(hits) + len(blind) > self._limits.findings,
            engine=self.engine,
        )

    def _hits(self, passages: Sequence[Passage]) -> tuple[list[Hit], list[int]]:
        text = _GAP.join(passage.text for passage in passages)
        starts = list(accumulate((len(passage.text) + len(_GAP) for passage in passages), initial=0))[:-1]
        data = text.encode("latin-1", "replace")
        hits = [*self._shape_hits(data), *self._term_hits(data)]
        hits.sort(key=lambda hit: (hit.group is not FindingGroup.IDENTIFIER, hit.start))
        return hits, starts

    def _shape_hits(self, data: bytes) -> list[Hit]:
        hits: list[Hit] = []
        taken: list[tuple[int, int]] = []
        weights = self._weights
        for pattern, start, end, value in self._shapes.find(data):
            if any(start < other_end and end > other_start for other_start, other_end in taken):
                continue
            taken.append((start, end))
            table = weights.identifiers if pattern.group is FindingGroup.IDENTIFIER else weights.health
            hits.append(Hit(pattern.kind, pattern.group, start, end, table[pattern.kind], value.upper()))
        return hits

    def _term_hits(self, data: bytes) -> list[Hit]:
        words = data.translate(FOLD).split(b" ")
        present = self._lexicon.vocabulary.intersection(words)
        if not present:
            return []
        places = list(accumulate(map(len, words), lambda place, size: place + size + 1, initial=0))
        hits: list[Hit] = []
        upto = -1
        for index, word in enumerate(words):
            if word not in present or index < upto:
                continue
            found = self._term_at(words, index)
            if found is not None:
                term, last, norm = found
                upto = last
                hits.append(
                    Hit(
                        term.kind,
                        FindingGroup.HEALTH,
                        places[index],
                        places[last - 1] + len(words[last - 1]),
                        term.weight,
                        norm,
                        term.sensitive,
                    )
                )
                if len(hits) >= self._limits.hits:
                    break
        return hits

    def _term_at(self, words: list[bytes], index: int) -> tuple[Term, int, bytes] | None:
        first = words[index]
        for rest, term in self._lexicon.phrases.get(first, ()):
            place = index + 1
            for word in rest:
                while place < len(words) and not words[place] and place - index < _MAX_PHRASE * 2:
                    place += 1
                if place >= len(words) or words[place] != word:
                    break
                place += 1
            else:
                return term, place, b" ".join((first, *rest))
        single = self._lexicon.singles.get(first)
        return (single, index + 1, first) if single else None

    def _phi(self, hits: Sequence[Hit]) -> Phi:
        score = self._score(hits)
        weights = self._weights
        if score >= weights.certain:
            return Phi.CERTAIN
        if score >= weights.likely:
            return Phi.LIKELY
        return Phi.POSSIBLE if score >= weights.possible else Phi.NONE

    def _score(self, hits: Sequence[Hit]) -> float:
        """The best window's product of both probabilities."""
        identifiers = _distinct(hit for hit in hits if hit.group is FindingGroup.IDENTIFIER)
        health = _distinct(hit for hit in hits if hit.group is FindingGroup.HEALTH)
        if not identifiers or not health:
            return 0.0
        window, far = self._weights.window, self._weights.far
        left, right = _Sums(identifiers), _Sums(health)
        best = 0.0
        for anchor in identifiers[:_ANCHORS]:
            near = (anchor.start - window, anchor.end + window)
            who = 1 - math.exp(left.between(*near))
            inside = right.between(*near)
            what = 1 - math.exp(inside + far * (right.total - inside))
            best = max(best, who * what)
        return best

    def _part_of(self, hit: Hit, starts: list[int], passages: Sequence[Passage]) -> str:
        return passages[bisect_right(starts, hit.start) - 1].part

    def _finding(self, hit: Hit, passages: Sequence[Passage], starts: list[int]) -> Finding:
        number = bisect_right(starts, hit.start) - 1
        return Finding(
            kind=hit.kind,
            group=hit.group,
            part=passages[number].part,
            start=hit.start - starts[number],
            end=hit.end - starts[number],
            digest=self._digest(sha256(hit.kind.encode() + b"\0" + hit.norm).hexdigest()),
            weight=round(hit.weight, 3),
            sensitive=hit.sensitive,
        )


class _Sums:
    """Prefix sums of log(1 - weight) over places, so that any window's combined evidence costs two look-ups."""

    def __init__(self, hits: Sequence[Hit]) -> None:
        ordered = sorted(hits, key=lambda hit: hit.start)
        self._places = [hit.start for hit in ordered]
        self._sums = list(accumulate((math.log(1 - min(hit.weight, _ALMOST_ONE)) for hit in ordered), initial=0.0))
        self.total = self._sums[-1]

    def between(self, start: int, end: int) -> float:
        return self._sums[bisect_right(self._places, end)] - self._sums[bisect_left(self._places, start)]


def _distinct(hits: Iterable[Hit]) -> list[Hit]:
    """One hit for equal values: what is repeated is not said twice."""
    seen: dict[tuple[str, bytes], Hit] = {}
    for hit in hits:
        seen.setdefault((hit.kind, hit.norm), hit)
    return list(seen.values())
