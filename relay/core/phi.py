"""What the scan found: findings without text, and the verdict over them (laws 3 and 4)."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final


class Phi(IntEnum):
    """How sure the scan is that a message holds protected health information (45 CFR 160.103)."""

    NONE = 0
    POSSIBLE = 1
    LIKELY = 2
    CERTAIN = 3

    @property
    def word(self) -> str:
        """The word policies, audit and metrics use."""
        return _WORDS[self]


_WORDS: Final = tuple(phi.name.lower() for phi in Phi)


class FindingGroup(StrEnum):
    """What a finding is evidence of. PHI is an identifier together with health, care or payment for care."""

    IDENTIFIER = "identifier"
    """One of the 18 kinds of 45 CFR 164.514(b)(2) that points to a patient."""
    HEALTH = "health"
    """Health, care or payment for care."""
    PROVIDER = "provider"
    """Numbers of clinicians and institutions (NPI, DEA): context, not a patient's identity."""
    STRUCTURE = "structure"
    """A clinical document recognised by its format (HL7 v2, C-CDA, FHIR, X12, DICOM)."""
    UNREADABLE = "unreadable"
    """Something the scan could not read, with its reason as kind: ``unreadable: timeout``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing found. It never carries the text (law 4).

    Attributes:
        kind: ``ssn``, ``mrn``, ``icd10``, ``drug``, ``unreadable: encrypted`` and so on; kinds are stable names.
        group: what it is evidence of.
        part: where: ``subject``, ``header:NAME``, or the MIME part's number such as ``1`` or ``2.1``.
        start, end: span in the part's extracted text, in characters.
        digest: keyed digest (hex) of the normalised match: equal findings compare equal, none can be read.
        weight: how much it counts in the verdict, 0 to 1.
        sensitive: the specially protected kind it belongs to (``mental-health``, ``hiv``, ``substance-use``,
            ``reproductive``, ``genetic``), or empty.
        more: how many more values of the same kind it stands for, which are not listed one by one.
    """

    kind: str
    group: FindingGroup
    part: str
    start: int
    end: int
    digest: str = ""
    weight: float = 0.0
    sensitive: str = ""
    more: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PhiVerdict:
    """The scan's answer for one message.

    Attributes:
        phi: the verdict over the whole message.
        subject_phi: over the subject alone, which travels outside S/MIME, OpenPGP and the portal.
        findings: what was found, bounded in number by the scan's settings.
        truncated: whether there were more findings than are listed.
        engine: name and version of the scan's rules, for the audit trail.
    """

    phi: Phi = Phi.NONE
    subject_phi: Phi = Phi.NONE
    findings: tuple[Finding, ...] = ()
    truncated: bool = False
    engine: str = ""

    def counts(self) -> dict[str, int]:
        """Findings a kind, for the audit trail, metrics and the condition ``finding``."""
        counts: dict[str, int] = {}
        for finding in self.findings:
            counts[finding.kind] = counts.get(finding.kind, 0) + 1 + finding.more
        return counts

    def group_count(self, group: FindingGroup) -> int:
        """How many findings there are of a group."""
        return sum(1 + finding.more for finding in self.findings if finding.group is group)

    @property
    def is_unreadable(self) -> bool:
        """Whether some part could not be read: protection rises, it never falls (law 3)."""
        return any(finding.group is FindingGroup.UNREADABLE for finding in self.findings)
