"""From text to verdict: identifiers and health context found apart, then weighed together by how near they stand."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate
from typing import Final

from relay.core.phi import Finding, FindingGroup, Phi, PhiVerdict
from relay.scan.find import Finder
from relay.scan.model import SUBJECT, Hit, Passage, Weights
from relay.scan.weigh import Weigher

_GAP: Final = "\n\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanLimits:
    """What one verdict may hold (law 6).

    Attributes:
        findings: listed in a verdict; more set ``truncated`` and still count.
    """

    findings: int = 48


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
        self._weigher = Weigher(weights)
        self._digest = digest
        self._limits = limits or ScanLimits()
        self.engine = f"postern-scan {weights.version}"

    def judge(
        self,
        passages: Sequence[Passage],
        unreadable: Iterable[tuple[str, str]] = (),
        structures: Iterable[tuple[str, str, bool]] = (),
    ) -> PhiVerdict:
        """The verdict over all passages, and over the subject alone.

        Equal values of a kind are one finding, at the first place: to count findings is to count different ones.

        Args:
            passages: normalised texts; the subject, if any, first.
            unreadable: (part, reason) of what could not be read: it keeps the verdict from ``none`` (law 3).
            structures: (part, clinical format, whether it names its patient): one that does is ``certain``.
        """
        starts = list(accumulate((len(passage.text) + len(_GAP) for passage in passages), initial=0))[:-1]
        hits = self._finder.find(_GAP.join(passage.text for passage in passages))
        told = [
            Finding(kind=f"unreadable: {reason}", group=FindingGroup.UNREADABLE, part=part, start=0, end=0)
            for part, reason in unreadable
        ]
        phi = self._weigher.phi(hits)
        if told:
            phi = max(phi, Phi.POSSIBLE)
        for part, kind, patient in structures:
            phi = max(phi, Phi.CERTAIN if patient else Phi.POSSIBLE)
            told.append(
                Finding(
                    kind=kind, group=FindingGroup.STRUCTURE, part=part, start=0, end=0, weight=1.0 if patient else 0.0
                )
            )
        listed = _distinct(hits)
        room = max(0, self._limits.findings - len(told))
        findings = told + [self._finding(hit, passages, starts) for hit in listed[:room]]
        subject: list[Hit] = []
        if passages and passages[0].part == SUBJECT:
            subject = [hit for hit in hits if hit.start < len(passages[0].text)]
        return PhiVerdict(
            phi=phi,
            subject_phi=self._weigher.phi(subject),
            findings=tuple(findings[: self._limits.findings]),
            truncated=len(listed) + len(told) > self._limits.findings,
            engine=self.engine,
        )

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


def _distinct(hits: Iterable[Hit]) -> list[Hit]:
    """One hit for equal values: what is repeated is not said twice."""
    seen: dict[tuple[str, bytes], Hit] = {}
    for hit in hits:
        seen.setdefault((hit.kind, hit.norm), hit)
    return list(seen.values())
