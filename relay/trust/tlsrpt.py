"""Reports about TLS that others send (RFC 8460): read from a message, gzip or JSON, whoever wrote them.

Anyone can send one, so nothing is believed of its size or shape: what it unfolds to is bounded before it is looked at,
counts and texts are bounded, and no text holds control characters (it is shown on terminals).
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from email.parser import BytesParser
from enum import StrEnum
from typing import Any, Final

import orjson

from relay.core.errors import PosternError
from relay.core.labour import BOUNDED, labour
from relay.trust.packed import Bounds, PackedError, inflate

MAX_MESSAGE: Final = 8 * 1024 * 1024
"""Octets of a message or file that brings one."""
_LABOUR: Final = 5_000_000
"""What taking a message apart may cost; see :func:`relay.core.labour.labour`."""
MAX_REPORT: Final = 16 * 1024 * 1024
"""Octets of a report unfolded."""
MAX_POLICIES: Final = 1000
MAX_DETAILS: Final = 10_000
"""Failure details that are read, over all policies of a report."""
_BOUNDS: Final = Bounds(most=MAX_REPORT, ratio=200)
"""Real reports unfold to less than 30 times their size."""
_MAX_PARTS: Final = 50
_MAX_TEXT: Final = 300
_MAX_LINES: Final = 100
_MAX_COUNT: Final = 2**53
_LAST_TIME: Final = 253_402_300_799.0
"""The last second of the year 9999 in UTC: what lies beyond, a zone's offset can reach, and nothing writes down."""
_GZIP: Final = b"\x1f\x8b"
_TYPES: Final = frozenset(
    {"application/tlsrpt+gzip", "application/tlsrpt+json", "application/gzip", "application/x-gzip",
     "application/json", "application/octet-stream"}
)  # fmt: skip


class ReportError(PosternError):
    """Something that should have been a report and cannot be read, or may not be."""


class PolicyType(StrEnum):
    """What was asked of a session (RFC 8460 section 4.2)."""

    TLSA = "tlsa"
    STS = "sts"
    NONE = "no-policy-found"


class ResultType(StrEnum):
    """Why a session failed (RFC 8460 section 4.3)."""

    STARTTLS_NOT_SUPPORTED = "starttls-not-supported"
    CERTIFICATE_HOST_MISMATCH = "certificate-host-mismatch"
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_NOT_TRUSTED = "certificate-not-trusted"
    VALIDATION_FAILURE = "validation-failure"
    """Any other; the failure's reason code says which."""
    TLSA_INVALID = "tlsa-invalid"
    DNSSEC_INVALID = "dnssec-invalid"
    DANE_REQUIRED = "dane-required"
    STS_POLICY_FETCH_ERROR = "sts-policy-fetch-error"
    STS_POLICY_INVALID = "sts-policy-invalid"
    STS_WEBPKI_INVALID = "sts-webpki-invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureDetail:
    """Sessions that failed in one way.

    Attributes:
        result: a word of :class:`ResultType`, or what the reporter wrote.
        count: sessions.
        sending_ip, receiving_ip: addresses as text, or empty.
        receiving_host: the mail server's name, or empty.
        reason: the reason code or more, or empty.
    """

    result: str
    count: int
    sending_ip: str = ""
    receiving_ip: str = ""
    receiving_host: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyReport:
    """What became of sessions under one policy.

    Attributes:
        kind: a word of :class:`PolicyType`, or what the reporter wrote.
        domain: whose policy.
        strings: the policy as the reporter saw it, line by line.
        mx: host patterns of the policy.
        succeeded, failed: sessions.
        details: the failed ones by the way they failed.
    """

    kind: str
    domain: str
    strings: tuple[str, ...] = ()
    mx: tuple[str, ...] = ()
    succeeded: int = 0
    failed: int = 0
    details: tuple[FailureDetail, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsReport:
    """One report.

    Attributes:
        organization: who reports, in its own words.
        contact: whom to ask, or empty.
        report_id: its id there.
        begin, end: the time it covers, unix seconds.
        policies: what was seen, by policy.
        submitter: the domain in the message's TLS-Report-Submitter field, or empty.
    """

    organization: str
    contact: str
    report_id: str
    begin: float
    end: float
    policies: tuple[PolicyReport, ...] = ()
    submitter: str = ""

    @property
    def domains(self) -> frozenset[str]:
        """The domains whose policies it speaks of."""
        return frozenset(one.domain for one in self.policies)


def find_report(content: bytes) -> TlsReport | None:
    """The report in a message or file (JSON, or that in gzip); ``None`` when there is none.

    Raises:
        ReportError: there is one, and it cannot be read or goes beyond the limits.
    """
    if len(content) > MAX_MESSAGE:
        raise ReportError(f"it is larger than {MAX_MESSAGE >> 20} MiB")
    if content.startswith(_GZIP):
        return read_report(_unfold(content))
    if content[:200].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return read_report(content)
    if labour(content) > _LABOUR:
        raise ReportError("it has too many parts")
    try:
        submitter, parts = _attachments(content)
    except (RecursionError, ValueError, LookupError):
        return None
    for kind, name, data in parts:
        if "tlsrpt" in kind or name.endswith((".json.gz", ".json")):
            plain = _unfold(data) if data.startswith(_GZIP) else data
            return read_report(plain, submitter=submitter)
    return None


def _attachments(content: bytes) -> tuple[str, list[tuple[str, str, bytes]]]:
    """The submitter, and (media type, file name, octets) of the parts that may be a report."""
    message = BytesParser(policy=BOUNDED).parsebytes(content)
    found = []
    for number, part in enumerate(message.walk()):
        if number >= _MAX_PARTS:
            break
        kind = part.get_content_type()
        data = part.get_payload(decode=True) if kind in _TYPES else None
        if isinstance(data, bytes):
            found.append((kind, str(part.get_filename("")).lower(), data))
    return _text(str(message.get("TLS-Report-Submitter", "")).strip()).lower(), found


def _unfold(data: bytes) -> bytes:
    try:
        return inflate(data, _BOUNDS)
    except PackedError as error:
        raise ReportError(str(error)) from error


# --- reading --------------------------------------------------------------


def read_report(data: bytes, *, submitter: str = "") -> TlsReport:
    """Read the JSON of a report (RFC 8460 section 4.4); keys that it does not name are passed over.

    Raises:
        ReportError: it is not JSON, not a report, or holds more than is read.
    """
    if len(data) > MAX_REPORT:
        raise ReportError("it unfolds to far more than a report holds")
    try:
        plain = orjson.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except (orjson.JSONDecodeError, RecursionError) as error:
        raise ReportError("it is not JSON") from error
    if not isinstance(plain, dict) or not isinstance(plain.get("policies"), list):
        raise ReportError("it is JSON, but not a report about TLS")
    policies = plain["policies"]
    details = sum(len(_list(one, "failure-details")) for one in policies if isinstance(one, dict))
    if len(policies) > MAX_POLICIES or details > MAX_DETAILS:
        raise ReportError(f"it holds more than {MAX_POLICIES} policies or {MAX_DETAILS} failures")
    times = _map(plain, "date-range")
    begin, end = _moment(times.get("start-datetime")), _moment(times.get("end-datetime"))
    if end < begin:
        raise ReportError("its time ends before it begins")
    return TlsReport(
        organization=_text(plain.get("organization-name")),
        contact=_text(plain.get("contact-info")),
        report_id=_text(plain.get("report-id")),
        begin=begin,
        end=end,
        policies=tuple(read_policy(one) for one in policies),
        submitter=submitter,
    )


def read_policy(plain: Any) -> PolicyReport:
    """One item of a report's ``policies``.

    Raises:
        ReportError: it is none.
    """
    if not isinstance(plain, dict):
        raise ReportError("one of its policies is not an object")
    policy, summary = _map(plain, "policy"), _map(plain, "summary")
    mx = policy.get("mx-host", ())  # a text in RFC 8460, an array by its erratum 6241 and in its example
    return PolicyReport(
        kind=_text(policy.get("policy-type")),
        domain=_text(policy.get("policy-domain")).rstrip(".").lower(),
        strings=_texts(policy.get("policy-string", ())),
        mx=_texts([mx] if isinstance(mx, str) else mx),
        succeeded=_count(summary.get("total-successful-session-count", 0)),
        failed=_count(summary.get("total-failure-session-count", 0)),
        details=tuple(_detail(one) for one in _list(plain, "failure-details")),
    )


def _detail(plain: Any) -> FailureDetail:
    if not isinstance(plain, dict):
        raise ReportError("one of its failures is not an object")
    reason = _text(plain.get("failure-reason-code")) or _text(plain.get("additional-information"))
    return FailureDetail(
        result=_text(plain.get("result-type")),
        count=_count(plain.get("failed-session-count", 0)),
        sending_ip=_text(plain.get("sending-mta-ip")),
        receiving_ip=_text(plain.get("receiving-ip")),
        receiving_host=_text(plain.get("receiving-mx-hostname")).rstrip(".").lower(),
        reason=reason,
    )


def _map(plain: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = plain.get(key)
    if not isinstance(found, dict):
        raise ReportError(f"it has no {key}")
    return found


def _list(plain: Mapping[str, Any], key: str) -> list[Any]:
    found = plain.get(key)
    return found if isinstance(found, list) else []


def _text(value: Any) -> str:
    """Text for people: printable, and no longer than anything real."""
    cut = value[: _MAX_TEXT * 2] if isinstance(value, str) else ""
    if cut.isprintable():  # nearly always
        return cut.strip()[:_MAX_TEXT]
    return "".join(one if one.isprintable() else " " for one in cut).strip()[:_MAX_TEXT]


def _texts(value: Any) -> tuple[str, ...]:
    items = value[:_MAX_LINES] if isinstance(value, list) else ()
    return tuple(text for one in items if (text := _text(one)))


def _count(value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 16:
        value = int(value)  # some reporters write numbers as texts
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_COUNT:
        raise ReportError("one of its counts is not a number of sessions")
    return value


def _moment(value: Any) -> float:
    """Unix seconds of an RFC 3339 date-time."""
    try:
        found = dt.datetime.fromisoformat(value)
        at = found.replace(tzinfo=found.tzinfo or dt.UTC).timestamp()
    except (TypeError, ValueError, OverflowError):
        raise ReportError("its date-range is not a pair of RFC 3339 times") from None
    if not 0 <= at < _LAST_TIME:
        raise ReportError("its date-range lies outside of what a report can cover")
    return at
