"""Where reports about TLS go, and the message that brings one (RFC 8460 sections 3 and 5)."""

import base64
import datetime as dt
import gzip
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import format_datetime
from typing import Final
from urllib.parse import unquote, urlsplit

from relay.core.address import Address, normalise_domain
from relay.core.errors import AddressError
from relay.trust.tlsrpt import TlsReport

MAX_URIS: Final = 5
"""Addresses of one domain that a report is sent to; the others are passed over."""
_VERSION: Final = re.compile(r"v=TLSRPTv1[ \t]*;")
_RUA: Final = re.compile(r"rua[ \t]*=[ \t]*(\S.*\S|\S)\Z", re.IGNORECASE)
_PATH: Final = re.compile(r"[\x21-\x7e]{0,1024}\Z")
_TEXT_WIDTH: Final = 76


@dataclass(frozen=True, slots=True)
class Mailbox:
    """``mailto:``."""

    address: Address

    def __str__(self) -> str:
        return f"mailto:{self.address}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``https:``; port 0 is the scheme's own."""

    host: str
    path: str
    port: int = 0

    def __str__(self) -> str:
        return f"https://{self.host}{f':{self.port}' if self.port else ''}{self.path}"


def receivers(records: Iterable[str]) -> tuple[Mailbox | Endpoint, ...]:
    """Who asks for reports, by the TXT records at ``_smtp._tls`` (RFC 8460 section 3).

    Records that do not begin with the version are passed over; when not exactly one is left the domain asks for none.
    """
    ours = [record for record in records if _VERSION.match(record)]
    if len(ours) != 1:
        return ()
    fields = [field.strip(" \t") for field in ours[0].split(";")[1:]]
    found = next((match[1] for field in fields if (match := _RUA.match(field))), "")
    uris = (_receiver(uri.strip(" \t")) for uri in found.split(","))
    return tuple(dict.fromkeys(one for one in uris if one is not None))[:MAX_URIS]


def _receiver(uri: str) -> Mailbox | Endpoint | None:
    scheme, _, rest = uri.partition(":")
    try:
        if scheme.lower() == "mailto":
            mailbox = Mailbox(Address.parse(unquote(rest.partition("?")[0])))
            return mailbox if mailbox.address.is_ascii else None
        if scheme.lower() != "https":
            return None
        parts = urlsplit(uri)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if parts.username is not None or parts.hostname is None or not _PATH.match(path):
            return None
        return Endpoint(host=normalise_domain(parts.hostname), path=path, port=parts.port or 0)
    except (AddressError, ValueError):
        return None


def file_name(report: TlsReport, *, submitter: str, domain: str) -> str:
    """The report's file name (RFC 8460 section 5.1)."""
    return f"{submitter}!{domain}!{int(report.begin)}!{int(report.end)}.json.gz"


def pack(plain: bytes) -> bytes:
    """A report in gzip, the same octets each time."""
    return gzip.compress(plain, mtime=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What a report's message says besides the report.

    Attributes:
        sender: author of the message; its domain is the submitter.
        to: who asked for it.
        domain: whose sessions it tells of.
        at: when it is written.
        hostname: for the Message-ID.
    """

    sender: Address
    to: Address
    domain: str
    at: float
    hostname: str

    @property
    def submitter(self) -> str:
        """The domain that reports, and must sign."""
        return self.sender.domain


def write_mail(report: TlsReport, packed: bytes, letter: Letter) -> bytes:
    """The message that brings a report (RFC 8460 section 5.3), to be DKIM-signed by the submitter.

    ``TLS-Required: No`` (RFC 8689 section 5) lets it through where the receiver's TLS is just what is broken: reports
    must be delivered despite failures of TLS (RFC 8460 section 3).
    """
    mark = f"=_{report.report_id.partition('@')[0].replace(':', '.')[:40]}"
    name = file_name(report, submitter=letter.submitter, domain=letter.domain)
    body = base64.b64encode(packed).decode()
    lines = [
        f"From: {letter.sender}",
        f"To: {letter.to}",
        f"Date: {format_datetime(dt.datetime.fromtimestamp(letter.at, dt.UTC))}",
        f"Subject: Report Domain: {letter.domain}",
        f" Submitter: {letter.submitter}",
        f" Report-ID: <{report.report_id}>",
        f"Message-ID: <{report.report_id.partition('@')[0]}.{hash_of(str(letter.to)):x}@{letter.hostname}>",
        f"TLS-Report-Domain: {letter.domain}",
        f"TLS-Report-Submitter: {letter.submitter}",
        "TLS-Required: No",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type="tlsrpt"; boundary="{mark}"',
        "Content-Language: en",
        "",
        "This is a multipart message in MIME format.",
        f"--{mark}",
        'Content-Type: text/plain; charset="us-ascii"',
        "Content-Transfer-Encoding: 7bit",
        "",
        f"This is an aggregate TLS report from {letter.submitter} about mail to {letter.domain}.",
        "",
        f"--{mark}",
        "Content-Type: application/tlsrpt+gzip",
        "Content-Transfer-Encoding: base64",
        "Content-Disposition: attachment;",
        f' filename="{name}"',
        "",
        *(body[at : at + _TEXT_WIDTH] for at in range(0, len(body), _TEXT_WIDTH)),
        f"--{mark}--",
        "",
    ]
    return "\r\n".join(lines).encode("ascii")


def hash_of(text: str) -> int:
    """A number for a text, the same on every machine: tells apart the letters of one report, and spreads reports."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
