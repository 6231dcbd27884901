"""The helper's wire format: one request and one reply a connection, in frames: a length in four octets, then so many.

A request is one frame, the name of the client whose mail it is, and comes with a descriptor of the message
(:mod:`relay.extract.request`). The reply is one frame: JSON of a
:class:`~relay.core.ports.ScanReport`. A finding's digest is the plain SHA-256 of its kind and normalised value: the
socket is private (mode 0600) and carries the message itself anyway, so the hash tells nobody anything new. Whoever
receives it puts the key on (``rekey``) before it goes anywhere else, and gets what a scan on the spot would give.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import orjson

from relay.core.envelope import Attachment
from relay.core.phi import Finding, FindingGroup, Phi, PhiVerdict
from relay.core.ports import ScanReport

LENGTH: Final = 4
"""Octets of the length, big-endian."""


def frame(payload: bytes) -> bytes:
    """The length, then the payload."""
    return len(payload).to_bytes(LENGTH, "big") + payload


def encode_report(report: ScanReport) -> bytes:
    """The reply's payload."""
    return orjson.dumps(report)


def decode_report(payload: bytes) -> ScanReport:
    """Read a reply.

    Raises:
        ValueError: not a report; the helper parses what strangers wrote, so its answer is checked, not trusted.
    """
    try:
        raw: Any = orjson.loads(payload)
        verdict = raw["verdict"]
        return ScanReport(
            verdict=PhiVerdict(
                phi=Phi(verdict["phi"]),
                subject_phi=Phi(verdict["subject_phi"]),
                findings=tuple(_finding(item) for item in verdict["findings"]),
                truncated=bool(verdict["truncated"]),
                engine=str(verdict["engine"]),
            ),
            subject=str(raw["subject"]),
            headers=tuple((str(name), str(value)) for name, value in raw["headers"]),
            attachments=tuple(
                Attachment(
                    type=str(item["type"]),
                    name=str(item["name"]),
                    size=int(item["size"]),
                    unreadable=str(item["unreadable"]),
                )
                for item in raw["attachments"]
            ),
        )
    except (KeyError, TypeError, AttributeError, orjson.JSONDecodeError) as error:
        raise ValueError("the reply is not a scan report") from error


def _finding(item: Any) -> Finding:
    return Finding(
        kind=str(item["kind"]),
        group=FindingGroup(item["group"]),
        part=str(item["part"]),
        start=int(item["start"]),
        end=int(item["end"]),
        digest=str(item["digest"]),
        weight=float(item["weight"]),
        sensitive=str(item["sensitive"]),
        more=int(item["more"]),
    )


def rekey(report: ScanReport, digest: Callable[[str], str]) -> ScanReport:
    """The report with keyed digests in place of the plain ones."""
    findings = tuple(
        replace(finding, digest=digest(finding.digest) if finding.digest else "") for finding in report.verdict.findings
    )
    return replace(report, verdict=replace(report.verdict, findings=findings))
