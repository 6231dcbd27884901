"""From text to verdict: identifiers and health context found apart, then weighed together by how near they stand."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate
from typing import Final

from relay.core.phi import Finding, FindingGroup, Phi, PhiVerdict
from relay.scan.find import Finder
from relay.scan.model import SUBJECT, Hit, Passage, Weights

_GAP: Final = "\n\n\n"
_ANCHORS: Final = 200  # identifiers that are weighed as the middle of a window
_ALMOST_ONE: Final = 0.999


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanLimits:
    """What one verdict may hold (law 6).

    Attributes:
        findings: listed in a verdict; more set ``truncated`` and still count.
    """

    findings: int = 64


class Judge:
    """Judges text. Pure and stateless after construction; one a process.

    ``digest`` is given the SHA-256 (hex) of a finding's kind and normalised value, not the value: the helper process,
    which has no key, hands that over as it is, and whoever has the key digests it to the same result on arrival.
    """

    def __init__(
        self,
        finder: Finder,
        weights: Weights,
        digest: Callable[[str], str],
        limits: ScanLimits | None = None,
    ) -> None:
        self._finder = finder
        self._weights = weights
        self._digest = digest
        self._limits = limits or ScanLimits()
        self.engine = f"postern-scan {weights.version}"

    def judge(self, passages: Sequence[Passage], unreadable: Iterable[tuple[str, str]] = ()) -> PhiVerdict:
        """The verdict over all passages, and over the subject alone.

        Equal values of a kind are one finding, at the first place: to count findings is to count different ones.

        Args:
            passages: normalised texts; the subject, if any, first.
            unreadable: (part, reason) of what could not be read: it keeps the verdict from ``none`` (law 3).
        """
        starts = list(accumulate((len(passage.text) + len(_GAP) for passage in passages), initial=0))[:-1]
        hits = self._finder.find(_GAP.join(passage.text for passage in passages))
        blind = [
            Finding(kind=f"unreadable: {reason}", group=FindingGroup.UNREADABLE, part=part, start=0, end=0)
            for part, reason in unreadable
        ]
        phi = self._phi(hits)
        if blind:
            phi = max(phi, Phi.POSSIBLE)
        listed = _distinct(hits)
        room = max(0, self._limits.findings - len(blind))
        findings = blind + [self._finding(hit, passages, starts) for hit in listed[:room]]
        subject: list[Hit] = []
        if passages and passages[0].part == SUBJECT:
            subject = [hit for hit in hits if hit.start < len(passages[0].text)]
        return PhiVerdict(
            phi=phi,
            subject_phi=self._phi(subject),
            findings=tuple(findings[: self._limits.findings]),
            truncated=len(listed) + len(blind) > self._limits.findings,
            engine=self.engine,
        )

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
        identifiers = [hit for hit in hits if hit.group is FindingGroup.IDENTIFIER and hit.weight > 0]
        implied = self._weights.implies
        health = _distinct(hit for hit in hits if hit.group is FindingGroup.HEALTH)
        health += _distinct(hit._replace(weight=implied[hit.kind]) for hit in identifiers if hit.kind in implied)
        if not identifiers or not health:
            return 0.0
        window = self._weights.window
        sums = _Sums(health)
        if self._who(identifiers) * (1 - math.exp(sums.total)) < self._weights.possible:
            return 0.0  # no window can hold more than the whole
        best = 0.0
        for anchor in sorted(identifiers, key=lambda hit: -hit.weight)[:_ANCHORS]:
            near = (anchor.start - window, anchor.end + window)
            who = self._who(hit for hit in identifiers if near[0] <= hit.start <= near[1])
            best = max(best, who * (1 - math.exp(sums.between(*near))))
        return best

    def _who(self, hits: Iterable[Hit]) -> float:
        """The chance that these point to a patient: each kind counts once; ten names are no more than one."""
        best: dict[str, float] = {}
        for hit in hits:
            if hit.weight > best.get(hit.kind, 0.0):
                best[hit.kind] = hit.weight
        who = 1 - math.prod(1 - weight for weight in best.values())
        return min(who, self._weights.contact_cap) if best.keys() <= self._weights.contact else who

    def _finding(self, hit: Hit, passages: Sequence[Passage], starts: list[int]) -> Finding:
        number = bisect_right(starts, hit.start) - 1
        return Finding(
            kind=hit.kind,
            group=hit.group,
            part=passages[number].part,
            start=hit.start - starts[number],
            end=hit.end - starts[number],
            digest=self._digest(sha256(hit.kind.encode() + b"\0" + hit.norm).hexdigest()),
            weight=hit.weight,
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
