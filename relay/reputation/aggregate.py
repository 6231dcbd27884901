"""DMARC aggregate reports, in the schema of RFC 7489 appendix C and in that of its successor, RFC 9990.

They come as XML, gzip or zip, alone or attached to a message, and from anyone: what they unfold to is bounded before it
is looked at, document types and entities are refused, and elements are told apart by their local names, since senders
write either namespace or none.
"""

import io
import ipaddress
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from email.parser import BytesParser
from typing import Any, Final
from xml.parsers import expat

from relay.core.errors import PosternError
from relay.core.labour import BOUNDED, labour
from relay.trust.packed import Bounds, PackedError, inflate

MAX_REPORT: Final = 32 * 1024 * 1024
"""Octets of a report unfolded."""
MAX_MESSAGE: Final = 16 * 1024 * 1024
"""Octets of a message or file that brings one."""
_LABOUR: Final = 5_000_000
"""What taking a message apart may cost; see :func:`relay.core.labour.labour`."""
_BOUNDS: Final = Bounds(most=MAX_REPORT, ratio=400)
"""Real reports unfold to less than 60 times their size."""
_MAX_RECORDS: Final = 100_000
_MAX_DEPTH: Final = 16
_MAX_TEXT: Final = 1000
_MAX_PARTS: Final = 50
_MAX_MEMBERS: Final = 10
_MAX_DIGITS: Final = 12
"""Of a number: the sum over all records still fits 64 bits, as it must where it is written down."""
_TYPES: Final = frozenset(
    {"application/gzip", "application/x-gzip", "application/zip", "application/x-zip-compressed",
     "application/octet-stream", "text/xml", "application/xml"}
)  # fmt: skip
_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = b"PK\x03\x04"
_ZIP_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ZIP_FAULTS: Final = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, OSError, ValueError, LookupError
)  # fmt: skip
"""What zipfile raises for a damaged archive: names that are no text and offsets that lie outside are among them."""


class ReportError(PosternError):
    """Something that should have been a report and cannot be read, or may not be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateRecord:
    """What one source sent, counted.

    Attributes:
        source: its IP address.
        count: messages.
        disposition: what was done: ``none``, ``quarantine``, ``reject``.
        dkim, spf: whether an aligned one passed: ``pass`` or ``fail``.
        header_from: the author's domain.
        envelope_from: the domain of MAIL FROM, or empty.
        signed_by: (domain, selector, result) of each DKIM signature.
        sent_by: (domain, result) of each SPF check.
        reasons: why another disposition than the policy's was taken.
    """

    source: str
    count: int
    disposition: str
    dkim: str
    spf: str
    header_from: str
    envelope_from: str = ""
    signed_by: tuple[tuple[str, str, str], ...] = ()
    sent_by: tuple[tuple[str, str], ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether DMARC passed: one aligned mechanism is enough."""
        return "pass" in (self.dkim, self.spf)


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateReport:
    """One report.

    Attributes:
        schema: ``rfc9990`` or ``rfc7489``.
        reporter: who reports.
        report_id: its id there.
        begin, end: the time it covers, unix seconds.
        domain: whose policy it is about.
        policy: the policy found: ``p``, ``sp``, ``np``, ``adkim``, ``aspf``, ``pct``, ``fo``, ``testing`` ...
        records: what was seen.
    """

    schema: str
    reporter: str
    report_id: str
    begin: int
    end: int
    domain: str
    policy: dict[str, str] = field(default_factory=dict)
    records: tuple[AggregateRecord, ...] = ()

    @property
    def messages(self) -> int:
        """How many messages it counts."""
        return sum(record.count for record in self.records)

    @property
    def passed(self) -> int:
        """How many of them passed DMARC."""
        return sum(record.count for record in self.records if record.passed)


def find_report(content: bytes) -> AggregateReport | None:
    """The report in a file or in a message; ``None`` when there is none.

    Raises:
        ReportError: there is one, and it cannot be read or unfolds beyond the limits.
    """
    if len(content) > MAX_MESSAGE:
        raise ReportError(f"it is larger than {MAX_MESSAGE >> 20} MiB")
    if content.startswith((_GZIP, _ZIP)) or _is_xml(content):
        return read_report(_unfold(content))
    if labour(content) > _LABOUR:
        raise ReportError("it has too many parts")
    try:
        parts = list(_attachments(content))
    except (RecursionError, ValueError, LookupError):
        return None
    for data in parts:
        if data.startswith((_GZIP, _ZIP)):
            return read_report(_unfold(data))
        if _is_xml(data) and b"<feedback" in data[:4096]:
            return read_report(data)
    return None


def _is_xml(data: bytes) -> bool:
    head = data[:200].lstrip(b"\xef\xbb\xbf \t\r\n")
    return head.startswith((b"<?xml", b"<feedback"))


def _attachments(content: bytes) -> "list[bytes]":
    message = BytesParser(policy=BOUNDED).parsebytes(content)
    found = []
    for number, part in enumerate(message.walk()):
        if number >= _MAX_PARTS:
            break
        if part.get_content_type() in _TYPES:
            data = part.get_payload(decode=True)
            if isinstance(data, bytes):
                found.append(data)
    return found


# --- unfolding ----------------------------------------------------------


def _unfold(data: bytes) -> bytes:
    if data.startswith(_ZIP):
        return _unzip(data)
    if data.startswith(_GZIP):
        try:
            return inflate(data, _BOUNDS)
        except PackedError as error:
            raise ReportError(str(error)) from error
    return data


def _unzip(data: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [one for one in archive.infolist() if not one.is_dir()]
            if len(members) > _MAX_MEMBERS:
                raise ReportError(f"its archive holds more than {_MAX_MEMBERS} files")
            named = [one for one in members if one.filename.lower().endswith(".xml")]
            if len(named) != 1:
                raise ReportError("its archive does not hold one XML file")
            if named[0].flag_bits & 1:
                raise ReportError("its archive is encrypted")
            if named[0].compress_type not in _ZIP_METHODS:  # zipfile unfolds the others without a bound
                raise ReportError("its archive is packed in another way than deflate")
            most = _BOUNDS.of(named[0].compress_size)
            with archive.open(named[0]) as stream:
                plain = stream.read(most + 1)
    except _ZIP_FAULTS as error:
        raise ReportError("its zip archive is damaged or of a kind that is not read") from error
    if len(plain) > most:
        raise ReportError("it unfolds to far more than a report holds")
    return plain


# --- reading --------------------------------------------------------------


class _Reader:
    """Builds a report while expat reads: nothing is kept but the fields that a report has."""

    def __init__(self) -> None:
        self.path: list[str] = []
        self.text: list[str] = []
        self.namespace = ""
        self.root = ""
        self.fields: dict[str, str] = {}
        self.policy: dict[str, str] = {}
        self.record: dict[str, Any] = {}
        self.item: dict[str, str] = {}
        self.records: list[AggregateRecord] = []

    def refuse(self, *_: object) -> None:
        raise ReportError("it declares a document type or an entity, which no report needs")

    def start(self, name: str, _attributes: object) -> None:
        namespace, _, local = name.rpartition(" ")
        if len(self.path) >= _MAX_DEPTH:
            raise ReportError("its elements are nested too deep")
        if not self.path:
            self.namespace, self.root = namespace, local
        self.path.append(local)
        self.text = []
        if self.path[1:] == ["record"]:
            self.record = {"dkim": [], "spf": [], "reason": []}
        elif self.path[1:-1] in (["record", "auth_results"], ["record", "row", "policy_evaluated"]):
            self.item = {}

    def data(self, text: str) -> None:
        if sum(map(len, self.text)) < _MAX_TEXT:
            self.text.append(text)

    def end(self, _name: str) -> None:
        value = "".join(self.text).strip()[:_MAX_TEXT]
        self.text = []
        self._take(self.path[1:], value)
        self.path.pop()

    def _take(self, path: list[str], value: str) -> None:
        match path:
            case ["report_metadata", ("org_name" | "report_id") as name]:
                self.fields[name] = value
            case ["report_metadata", "date_range", ("begin" | "end") as name]:
                self.fields[name] = value
            case ["policy_published", name] if len(self.policy) < _MAX_PARTS:
                self.policy[name] = value
            case ["record", "row", ("source_ip" | "count") as name]:
                self.record[name] = value
            case ["record", "row", "policy_evaluated", "reason"]:
                self._add("reason", self.item.get("type", ""))
            case ["record", "row", "policy_evaluated", ("disposition" | "dkim" | "spf") as name]:
                self.record[f"evaluated_{name}"] = value
            case ["record", "row", "policy_evaluated", "reason", "type"]:
                self.item["type"] = value
            case ["record", "identifiers", ("header_from" | "envelope_from") as name]:
                self.record[name] = value
            case ["record", "auth_results", ("dkim" | "spf") as kind]:
                self._add(kind, self.item)
            case ["record", "auth_results", _, ("domain" | "selector" | "result") as name]:
                self.item[name] = value
            case ["record"]:
                self._finish()

    def _add(self, kind: str, one: object) -> None:
        if len(self.record[kind]) < _MAX_PARTS:
            self.record[kind].append(one)

    def _finish(self) -> None:
        if len(self.records) >= _MAX_RECORDS:
            raise ReportError(f"it holds more than {_MAX_RECORDS} records")
        one = self.record
        self.records.append(
            AggregateRecord(
                source=_ip(one.get("source_ip", "")),
                count=_number(one.get("count", ""), "count"),
                disposition=one.get("evaluated_disposition", ""),
                dkim=one.get("evaluated_dkim", ""),
                spf=one.get("evaluated_spf", ""),
                header_from=one.get("header_from", ""),
                envelope_from=one.get("envelope_from", ""),
                signed_by=tuple(
                    (item.get("domain", ""), item.get("selector", ""), item.get("result", "")) for item in one["dkim"]
                ),
                sent_by=tuple((item.get("domain", ""), item.get("result", "")) for item in one["spf"]),
                reasons=tuple(one["reason"]),
            )
        )


def read_report(data: bytes) -> AggregateReport:
    """Read the XML of a report.

    Raises:
        ReportError: it is not XML, not a report, or not fit to be read.
    """
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reader.refuse
    parser.EntityDeclHandler = reader.refuse
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.data
    try:
        parser.Parse(data, True)  # noqa: FBT003  expat's own signature
    except expat.ExpatError as error:
        raise ReportError(f"it is not well-formed XML (line {error.lineno})") from error
    except (ValueError, LookupError) as error:
        raise ReportError("it is in an encoding that is not read") from error
    fields, policy = reader.fields, reader.policy
    if reader.root != "feedback" or not reader.policy.get("domain"):
        raise ReportError("it is XML, but not an aggregate report")
    newer = reader.namespace.endswith("dmarc-2.0") or {"np", "testing", "discovery_method"} & policy.keys()
    return AggregateReport(
        schema="rfc9990" if newer else "rfc7489",
        reporter=fields.get("org_name", ""),
        report_id=fields.get("report_id", ""),
        begin=_number(fields.get("begin", ""), "begin"),
        end=_number(fields.get("end", ""), "end"),
        domain=policy["domain"].lower(),
        policy={name: value for name, value in policy.items() if name != "domain"},
        records=tuple(reader.records),
    )


def _number(text: str, name: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > _MAX_DIGITS:
        raise ReportError(f"its {name} is not a number")
    return int(text)


def _ip(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ReportError("a source_ip is not an IP address") from None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        # RFC 4007 lets a zone be any text, and what is returned here is written down.
        raise ReportError("a source_ip is not an IP address")
    return str(address)
