"""The message that an answer becomes."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.headerregistry import Address as HeaderAddress
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

from relay.core.address import Address
from relay.core.portal import Deposit

_MAX_SUBJECT: Final = 200
_MAX_REFERENCES: Final = 20
_WIDTH: Final = 990  # octets of a line, RFC 5322 section 2.1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """A file that goes with an answer."""

    name: str = field(repr=False)
    content_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is written.

    Attributes:
        deposit: what it answers.
        post_id: of the message it becomes.
        recipients: for whom.
        text: what the reader wrote.
        files: in order.
        original: the whole message, for a forward.
        message_id, references: of the message that is answered; may be empty.
        mail_from: the portal's own address: an answer that claimed the reader's domain would fail that domain's DMARC.
        brand: whose portal.
        via: how the sender's line says that it came through the portal: ``{mailbox}`` and ``{brand}``.
        at: unix seconds.
    """

    deposit: Deposit
    post_id: str
    recipients: Sequence[Address]
    text: str = field(repr=False)
    files: Sequence[Attached] = ()
    original: bytes = field(default=b"", repr=False)
    message_id: str = ""
    references: str = ""
    mail_from: Address
    brand: str
    at: float


def write(answer: Answer) -> bytes:
    """The message, CRLF, ready to be signed. Equal arguments give equal bytes."""
    policy = SMTP.clone(max_line_length=_WIDTH, utf8=not all(one.is_ascii for one in _everybody(answer)))
    message = EmailMessage(policy=policy)
    mailbox = answer.deposit.mailbox
    message["From"] = HeaderAddress(
        _line(f"{mailbox} ({answer.brand})"), answer.mail_from.local, answer.mail_from.domain
    )
    message["To"] = [HeaderAddress("", one.local, one.domain) for one in answer.recipients]
    message["Reply-To"] = HeaderAddress("", mailbox.local, mailbox.domain)
    message["Subject"] = _subject(answer)
    message["Date"] = format_datetime(dt.datetime.fromtimestamp(int(answer.at), dt.UTC))
    message["Message-ID"] = f"<{answer.post_id}.portal@{answer.mail_from.domain}>"
    if answer.message_id and not answer.original:
        message["In-Reply-To"] = _line(answer.message_id)
        message["References"] = _line(" ".join([*answer.references.split()[-_MAX_REFERENCES:], answer.message_id]))
    message.set_content(answer.text.rstrip("\n") + "\n", charset="utf-8", cte="quoted-printable")
    for file in answer.files:
        main, _, sub = file.content_type.partition("/")
        message.add_attachment(file.content, main, sub, filename=file.name)
    if answer.original:
        message.make_mixed()
        message.attach(_inside(answer.original))
    boundary = f"=_{answer.post_id}"
    if message.is_multipart():
        message.set_boundary(boundary)
    return message.as_bytes()


def _inside(original: bytes) -> EmailMessage:
    """The original as a file that mail programs open; octets as they are, since a signature may lie over them."""
    part = EmailMessage(policy=SMTP.clone(max_line_length=_WIDTH))
    part.set_content(original, "application", "octet-stream", disposition="attachment", filename="message.eml")
    del part["MIME-Version"]
    return part


def _everybody(answer: Answer) -> list[Address]:
    return [*answer.recipients, answer.deposit.mailbox, answer.mail_from]


def _subject(answer: Answer) -> str:
    prefix = "Fwd: " if answer.original else "Re: "
    subject = _line(answer.deposit.subject)
    if subject.lower().startswith(("re:", "fwd:", "fw:")):
        subject = subject.partition(":")[2].strip()
    return f"{prefix}{subject[:_MAX_SUBJECT]}".strip()


def _line(text: str) -> str:
    """One line of what may be shown in a header."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())
