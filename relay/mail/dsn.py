"""Delivery status notifications: failure, delay and success (RFC 3461, RFC 3464, RFC 6522, RFC 6533).

A notice tells its reader, in plain words, who did not get the message, why, and what to do. It goes to the sender
alone. Of the message it repeats Date, Message-ID and the bare addresses of From and To: no subject, no display name, no
text (law 4). What a server answered is scrubbed.
"""

import datetime as dt
import hashlib
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final

from relay.core.address import Address
from relay.core.envelope import Message, Recipient
from relay.core.errors import AddressError
from relay.core.reply import EnhancedStatus, Reply
from relay.mail import edit
from relay.mail.advice import advice
from relay.mail.scrub import scrub
from relay.mail.told import Herald, Ruling, decision_notice
from relay.mail.words import mailboxes

_MESSAGE_ID: Final = re.compile(r"<[!-;=?-~]{1,250}>\Z")
_HOST: Final = re.compile(r"[A-Za-z0-9_.:\[\]-]{1,255}\Z")
_XTEXT: Final = re.compile(r"\+([0-9A-F]{2})")
_MAX_HEADER: Final = 16_384  # octets of a header that is read for addresses
_MAX_ADDRESSES: Final = 50
_DEFERRED: Final = EnhancedStatus(4, 4, 7)
_FAILED: Final = EnhancedStatus(5, 0, 0)
_DELIVERED: Final = EnhancedStatus(2, 0, 0)
RELAYED: Final = "relayed"
"""The Action of a copy that was handed on to where nobody promises to report success (RFC 3464 section 2.3.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """A kind of notice: its subject, what its Message-ID says, and what holds where a report says nothing else."""

    subject: str
    name: str
    opening: str
    closing: str
    action: str
    status: EnhancedStatus


_FAILURE: Final = _Kind(
    subject="Message not delivered",
    name="failure-notice",
    opening="Your message of {} could not be delivered to:",
    closing="Nobody will try again: who is named above does not have this message.",
    action="failed",
    status=_FAILED,
)
_DELAY: Final = _Kind(
    subject="Message delayed, delivery is still being tried",
    name="delay-notice",
    opening="Your message of {} has not been delivered yet to:",
    closing="You need not do anything now. Should the message be urgent, reach the recipient another way.",
    action="delayed",
    status=_DEFERRED,
)
_SUCCESS: Final = _Kind(
    subject="Message delivered",
    name="success-notice",
    opening="Your message of {} was delivered to:",
    closing="You asked to be told so.",
    action="delivered",
    status=_DELIVERED,
)
_HANDED_ON: Final = replace(
    _SUCCESS,
    subject="Message handed on",
    name="relay-notice",
    opening="Your message of {} was handed on for:",
    closing="You asked to be told. Whether it arrived is not known here.",
    action=RELAYED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a notice says of one recipient.

    Attributes:
        recipient: the recipient, with ORCPT as given.
        why: one clause in plain words.
        status: RFC 3463 status; ``None``: the general one of the notice's kind.
        reply: the server's answer, not yet scrubbed.
        host: the server that answered, or empty.
        at: when it was last tried, unix seconds; 0 when unknown.
        will_retry_until: for a delay: when the retries end, unix seconds; 0 when unknown.
        action: the Action field, where it is not that of the notice's kind.
    """

    recipient: Recipient
    why: str
    status: EnhancedStatus | None = None
    reply: Reply | None = None
    host: str = ""
    at: float = 0.0
    will_retry_until: float = 0.0
    action: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DsnOptions:
    """Who writes.

    Attributes:
        reporting_mta: our host name.
        postmaster: whom notices are from, and who gets double bounces.
        from_name: display name of notices, printable ASCII.
        help: a sentence of the operator's for the reader, such as whom to call; may be empty.
    """

    reporting_mta: str
    postmaster: Address
    from_name: str = "Mail Delivery System"
    help: str = ""


class DsnWriter:
    """Writes notices. Equal arguments give equal bytes."""

    def __init__(self, options: DsnOptions) -> None:
        self._options = options

    @property
    def postmaster(self) -> Address:
        """Who gets double bounces."""
        return self._options.postmaster

    def failure(
        self, message: Message, content: bytes | None, reports: Sequence[Report], *, to: Address, now: float
    ) -> bytes:
        """Tell ``to`` that recipients will not get the message.

        ``content`` is the message as kept, read for four headers; ``None`` when it cannot be read any more.
        """
        double = to != message.envelope.reverse_path.address
        return _Notice(self._options, _FAILURE, message, content, tuple(reports), to, now, double=double).encode()

    def delay(
        self, message: Message, content: bytes | None, reports: Sequence[Report], *, to: Address, now: float
    ) -> bytes:
        """Tell ``to`` that recipients do not have the message yet, and until when it is tried."""
        return _Notice(self._options, _DELAY, message, content, tuple(reports), to, now).encode()

    def success(
        self, message: Message, reports: Sequence[Report], *, to: Address, now: float, content: bytes | None = None
    ) -> bytes:
        """Tell ``to`` that recipients have the message, where its client asked for that (NOTIFY=SUCCESS).

        Where all of them were only handed on (action :data:`RELAYED`) it does not speak of delivery.
        """
        kind = _HANDED_ON if all(one.action == RELAYED for one in reports) else _SUCCESS
        return _Notice(self._options, kind, message, content, tuple(reports), to, now).encode()

    @property
    def herald(self) -> Herald:
        """Who tells, for notices that are no DSN."""
        options = self._options
        return Herald(name=_display(options.from_name), mailbox=options.postmaster, host=options.reporting_mta)

    def decision(self, message: Message, decided: Sequence[Ruling], *, to: Address, now: float) -> bytes:
        """Tell ``to`` what rules decided of a message, as their ``notify`` asks."""
        return decision_notice(self.herald, message, decided, to=to, now=now)


class _Notice:
    """One notice on its way to bytes."""

    def __init__(
        self,
        options: DsnOptions,
        kind: _Kind,
        message: Message,
        content: bytes | None,
        reports: tuple[Report, ...],
        to: Address,
        now: float,
        *,
        double: bool = False,
    ) -> None:
        self._options = options
        self._kind = kind
        self._message = message
        self._content = content
        self._reports = reports
        self._to = to
        self._now = now
        self._double = double
        self._global = not to.is_ascii  # RFC 6533: UTF-8 types only for a reader who can take them
        parts = (message.id, kind.name, repr(now), str(to), *(str(one.recipient.address) for one in reports))
        self._token = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def encode(self) -> bytes:
        boundary = f"=_{self._token}"
        original = self._original()
        parts = [self._text_part(), self._status_part()] + ([self._original_part(original)] if original else [])
        body = "".join(f"--{boundary}\r\n{part}\r\n" for part in parts) + f"--{boundary}--\r\n"
        # RFC 2045 section 6.4: a multipart is 8bit where something in it is.
        encoding = "" if body.isascii() else "Content-Transfer-Encoding: 8bit\r\n"
        return f"{self._headers(boundary, original)}{encoding}\r\n{body}".encode("utf-8", "replace")

    def _headers(self, boundary: str, original: list[str]) -> str:
        mta = self._options.reporting_mta
        lines = [
            f"From: {_display(self._options.from_name)} <{self._options.postmaster}>",
            f"To: <{self._to}>",
            f"Subject: {self._kind.subject}",
            f"Date: {_date(self._now)}",
            f"Message-ID: <{self._token}.{self._kind.name}@{mta}>",
            *(line.replace("Message-ID:", "References:", 1) for line in original if line.startswith("Message-ID:")),
            "Auto-Submitted: auto-replied",  # RFC 3834 section 5
            "MIME-Version: 1.0",
            f'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="{boundary}"',
        ]
        return "".join(f"{line}\r\n" for line in lines)

    # --- for people ---

    def _text_part(self) -> str:
        paragraphs = [self._opening(), *(self._about(one) for one in self._reports), self._closing()]
        text = "\r\n".join(paragraphs)
        charset, encoding = ("us-ascii", "7bit") if text.isascii() else ("utf-8", "8bit")
        return (
            f"Content-Type: text/plain; charset={charset}\r\n"
            f"Content-Transfer-Encoding: {encoding}\r\nContent-Description: Notification\r\n\r\n{text}"
        )

    def _opening(self) -> str:
        when = _date(self._message.received_at)
        if self._double:
            words = (
                f"A message without a return address, taken on {when}, could not be delivered. It has no sender to "
                "tell, so this notice goes to the postmaster."
            )
        else:
            words = self._kind.opening.format(when)
        return _wrap(words)

    def _about(self, report: Report) -> str:
        lines = [f"  {self._shown(report.recipient.address)}"]
        lines.append(_wrap(f"Why: {scrub(report.why, hide=_private(report))}.", indent=4))
        if report.reply is not None:
            lines.append(_wrap(f"Its server answered: {self._answer(report, report.reply)}", indent=4))
        if self._kind is _FAILURE:
            lines.append(_wrap(f"What to do: {advice(self._status(report))}", indent=4))
        elif report.will_retry_until and self._kind is _DELAY:
            lines.append(_wrap(f"It is tried again until {_date(report.will_retry_until)}.", indent=4))
        return "".join(f"{line}\r\n" for line in lines).rstrip("\r\n") + "\r\n"

    def _closing(self) -> str:
        words = [self._kind.closing]
        words.append("To protect patients this notice repeats neither subject nor text of the message.")
        words.append(f"The message's id for your mail administrators is {self._message.id}.")
        if self._options.help:
            words.append(self._options.help)
        return "".join(_wrap(one) + "\r\n" for one in words)

    # --- for programs (RFC 3464) ---

    def _status_part(self) -> str:
        kind = "message/global-delivery-status" if self._global else "message/delivery-status"
        head = [f"Reporting-MTA: dns; {self._options.reporting_mta}"]
        if envelope_id := _from_xtext(self._message.envelope.envelope_id):
            head.append(f"Original-Envelope-Id: {envelope_id}")
        head.append(f"Arrival-Date: {_date(self._message.received_at)}")
        blocks = [head, *(self._fields(one) for one in self._reports)]
        text = "\r\n".join("".join(f"{line}\r\n" for line in block) for block in blocks)
        encoding = "" if text.isascii() else "Content-Transfer-Encoding: 8bit\r\n"
        return f"Content-Type: {kind}\r\n{encoding}Content-Description: Delivery report\r\n\r\n{text}"

    def _fields(self, report: Report) -> list[str]:
        status = self._status(report)
        lines = []
        if original := self._original_recipient(report.recipient):
            lines.append(f"Original-Recipient: {original}")
        lines.append(f"Final-Recipient: {self._typed(report.recipient.address)}")
        lines.append(f"Action: {report.action or self._kind.action}")
        lines.append(f"Status: {status}")
        if _HOST.match(report.host) and not report.host.startswith("route:"):
            lines.append(f"Remote-MTA: dns; {report.host}")
        if report.reply is not None:
            lines.append(f"Diagnostic-Code: smtp; {self._answer(report, report.reply)}")
        if report.at:
            lines.append(f"Last-Attempt-Date: {_date(report.at)}")
        if report.will_retry_until and self._kind is _DELAY:
            lines.append(f"Will-Retry-Until: {_date(report.will_retry_until)}")
        return lines

    def _status(self, report: Report) -> EnhancedStatus:
        given = report.status or (report.reply.enhanced if report.reply is not None else None)
        return given or self._kind.status

    def _answer(self, report: Report, reply: Reply) -> str:
        status = f" {reply.enhanced}" if reply.enhanced else ""
        text = f"{reply.code}{status} {scrub(reply.text, hide=_private(report))}"
        return text if self._global else text.encode("ascii", "replace").decode("ascii")

    def _typed(self, address: Address) -> str:
        if address.is_ascii:
            return f"rfc822; {address}"
        return f"utf-8; {self._shown(address)}"

    def _shown(self, address: Address) -> str:
        """As written where the reader takes UTF-8; else as ``utf-8-addr-xtext`` (RFC 6533 section 3)."""
        text = str(address)
        if self._global or address.is_ascii:
            return text
        return "".join(mark if mark.isascii() else f"\\x{{{ord(mark):X}}}" for mark in text)

    def _original_recipient(self, recipient: Recipient) -> str:
        """ORCPT, decoded (RFC 3464 section 2.3.1); what is not printable ASCII, or has no type, is left out."""
        kind, mark, value = recipient.original.partition(";")
        decoded = _from_xtext(value)
        return f"{kind}; {decoded}" if mark and decoded and kind.replace("-", "").isalnum() and kind.isascii() else ""

    # --- the four headers ---

    def _original_part(self, original: list[str]) -> str:
        kind = "message/global-headers" if self._global else "text/rfc822-headers"
        text = "".join(f"{line}\r\n" for line in original)
        encoding = "" if text.isascii() else "Content-Transfer-Encoding: 8bit\r\n"
        return f"Content-Type: {kind}\r\n{encoding}Content-Description: Headers of the message\r\n\r\n{text}"

    def _original(self) -> list[str]:
        lines = []
        if date := self._original_date():
            lines.append(f"Date: {date}")
        message_id = self._header("Message-ID") or self._message.message_id
        if _MESSAGE_ID.match(message_id):
            lines.append(f"Message-ID: {message_id}")
        both = ((name, self._addresses(name)) for name in ("From", "To"))
        return lines + [f"{name}: " + ",\r\n\t".join(addresses) for name, addresses in both if addresses]

    def _header(self, name: str) -> str:
        value = edit.get(self._content, name) if self._content is not None else None
        return (value or b"")[:_MAX_HEADER].decode("utf-8", "replace").strip()

    def _original_date(self) -> str:
        try:
            return format_datetime(parsedate_to_datetime(self._header("Date")))
        except (ValueError, TypeError, OverflowError):
            return ""

    def _addresses(self, name: str) -> list[str]:
        found = []
        for _, text in mailboxes([self._header(name)])[:_MAX_ADDRESSES]:
            try:
                address = Address.parse(text)
            except AddressError:
                continue
            if address.is_ascii or self._global:
                found.append(f"<{address}>")
        return found


def _display(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _private(report: Report) -> tuple[str, ...]:
    return (report.recipient.address.local,)


def _date(at: float) -> str:
    return format_datetime(dt.datetime.fromtimestamp(int(at), dt.UTC))


def _wrap(text: str, *, indent: int = 0) -> str:
    margin = " " * indent
    return "\r\n".join(
        textwrap.wrap(text, 76, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False)
    ) + ("" if indent else "\r\n")


def _from_xtext(text: str) -> str:
    """Decode xtext (RFC 3461 section 4); empty when the result is not printable ASCII of a sensible length."""
    decoded = _XTEXT.sub(lambda match: chr(int(match[1], 16)), text)
    return decoded if decoded.isascii() and decoded.isprintable() and len(decoded) <= 500 else ""
