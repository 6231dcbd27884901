"""From text to verdict: identifiers and health context found apart, then weighed together by how near they stand."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, make_dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import accumulate
from typing import Any, Final

from relay.core.phi import Finding, FindingGroup, Phi, PhiVerdict
from relay.scan.find import Finder
from relay.scan.manner import Manner
from relay.scan.model import SUBJECT, Hit, Passage, Weights
from relay.scan.way import NATIVE
from relay.scan.weigh import Weigher

if NATIVE:
    from relay.scan import _native

_GAP: Final = "\n\n\n"
_LONG: Final = 48_000  # characters of a text of which it pays to look at the beginning first
_BEGINNING: Final = 16_000
_SAMPLE: Final = 6_000  # of it, by which is told whether that may be enough
_HEALTH: Final = FindingGroup.HEALTH
MANNER: Final = "manner"
"""The kind of the finding that says that the second look raised the verdict; its weight is the chance it came to."""
_Draft: Final[Any] = make_dataclass("_Draft", [(field.name, field.type) for field in fields(Finding)], slots=True)
"""A finding while it is made: to set the fields of a frozen one is a call each, ten times as long, and a message has
up to 48. With its last field set it becomes a :class:`Finding`, whose fields are the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanLimits:
    """What one verdict may hold (law 6).

    Attributes:
        findings: listed in a verdict; more set ``truncated`` and still count.
        alike: health findings of one kind that are listed one by one; the last says how many more there are.
    """

    findings: int = 48
    alike: int = 3


class Judge:
    """Judges text. Pure and stateless after construction; one a process.

    ``digest`` is given the SHA-256 (hex) of a finding's kind and normalised value, not the value: the helper process,
    which has no key, hands that over as it is, and whoever has the key digests it to the same result on arrival.
    ``clients`` are the judges of those clients' mail for which the operator tuned the scan. ``manner`` gives the second
    opinion on what is not plain; without it the weights alone judge.
    """

    def __init__(
        self,
        finder: Finder,
        weights: Weights,
        digest: Callable[[str], str],
        limits: ScanLimits | None = None,
        clients: "Mapping[str, Judge] | None" = None,
        manner: Manner | None = None,
    ) -> None:
        self._clients = clients or {}
        self._finder = finder
        self._weigher = Weigher(weights)
        self._manner = manner
        self._digest = digest
        self._limits = limits or ScanLimits()
        self.engine = f"postern-scan {weights.version}"

    def of(self, client: str) -> "Judge":
        """The judge of this client's mail."""
        return self._clients.get(client, self)

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
        texts = [passage.text for passage in passages]
        starts = list(accumulate([len(text) + len(_GAP) for text in texts], initial=0))[:-1]
        subject = texts[0] if passages and passages[0].part == SUBJECT else ""
        text = _GAP.join(texts)
        hits = self._hits(text, subject)
        told = [
            Finding(kind=f"unreadable: {reason}", group=FindingGroup.UNREADABLE, part=part, start=0, end=0)
            for part, reason in unreadable
        ]
        phi, manner = self._opinion(text, hits)
        if manner is not None:
            part = passages[min(len(passages) - 1, 1 if subject else 0)].part
            told.append(Finding(kind=MANNER, group=_HEALTH, part=part, start=0, end=0, weight=round(manner, 2)))
        if told:
            phi = max(phi, Phi.POSSIBLE)
        for part, kind, patient in structures:
            phi = max(phi, Phi.CERTAIN if patient else Phi.POSSIBLE)
            weight = 1.0 if patient else 0.0
            told.append(Finding(kind=kind, group=FindingGroup.STRUCTURE, part=part, start=0, end=0, weight=weight))
        listed = _LISTED(hits, self._limits.alike, _HEALTH)
        room = max(0, self._limits.findings - len(told))
        findings = told + self._findings(listed[:room], passages, starts)
        return PhiVerdict(
            phi=phi,
            subject_phi=self._subject(hits, subject),
            findings=tuple(findings[: self._limits.findings]),
            truncated=len(listed) + len(told) > self._limits.findings,
            engine=self.engine,
        )

    def _opinion(self, text: str, hits: Sequence[Hit]) -> tuple[Phi, float | None]:
        """The verdict, and the chance by the manner of the text where that raised it."""
        if self._manner is None:
            return self._weigher.phi(hits), None
        return self._manner.opinion(text, hits, self._weigher)

    def _hits(self, text: str, subject: str) -> list[Hit]:
        """What is found; of a long text that begins as records of patients do, what is found in its beginning.

        That is enough when it makes the verdict certain and is more than is listed: no verdict is higher, and policies
        take whatever they ask of findings that could not all be listed to be there.
        """
        if len(text) >= _LONG and self._finder.is_dense(text[:_SAMPLE]):
            beginning = text[:_BEGINNING].rpartition(" ")[0]
            hits = self._finder.find(beginning)
            if (
                len(_LISTED(hits, self._limits.alike, _HEALTH)) > self._limits.findings
                and len(subject) < len(beginning)
                and self._weigher.phi(hits) is Phi.CERTAIN
            ):
                return hits
        return self._finder.find(text)

    def _subject(self, hits: Sequence[Hit], subject: str) -> Phi:
        length = len(subject)
        return self._weigher.phi([hit for hit in hits if hit[2] < length]) if length else Phi.NONE

    def _findings(
        self, listed: Iterable[tuple[Hit, int]], passages: Sequence[Passage], starts: list[int]
    ) -> list[Finding]:
        found: list[Finding] = []
        for (kind, group, start, end, weight, norm, sensitive), more in listed:
            number = bisect_right(starts, start) - 1
            first = starts[number]
            digest = self._digest(sha256(_lead(kind) + norm).hexdigest())
            draft = _Draft(
                kind, group, passages[number].part, start - first, end - first, digest, weight, sensitive, more
            )
            draft.__class__ = Finding
            found.append(draft)
        return found


@lru_cache(maxsize=1024)
def _lead(kind: str) -> bytes:
    """What a finding's digest is made of before its value; there are as many kinds as the files name."""
    return kind.encode() + b"\0"


def _listed(hits: Iterable[Hit], alike: int, health: FindingGroup) -> list[tuple[Hit, int]]:
    """What a verdict lists, each with how many more it stands for.

    Equal values are one. Identifiers are listed one by one, as each is somebody; of health context the first few of a
    kind explain a verdict, and the rest is told by number.
    """
    listed: list[tuple[Hit, int]] = []
    first: dict[bytes, str] = {}  # of each value the kind that had it first
    others: set[tuple[str, bytes]] = set()  # what is of another kind, which is seldom
    numbers: dict[str | tuple[str, str], int] = {}
    lasts: dict[str | tuple[str, str], int] = {}  # where the one is listed that stands for more
    for hit in hits:
        name, group, _, _, _, norm, sensitive = hit
        if norm not in first:
            first[norm] = name
        elif first[norm] == name or (name, norm) in others:
            continue
        else:
            others.add((name, norm))
        if group is health:
            kind = (name, sensitive) if sensitive else name
            numbers[kind] = number = numbers.get(kind, 0) + 1
            if number > alike:
                continue
            if number == alike:
                lasts[kind] = len(listed)
        listed.append((hit, 0))
    for kind, place in lasts.items():
        listed[place] = (listed[place][0], numbers[kind] - alike)
    return listed


_LISTED: Final = _native.listed if NATIVE else _listed
