"""Short notices for people about mail that came back: what came and what it is about, nothing of its text (law 4)."""

import datetime as dt
import hashlib
import re
import textwrap
from collections.abc import Sequence
from email.utils import format_datetime
from typing import Final

from relay.core.address import Address
from relay.core.envelope import Message
from relay.mail.told import Herald

_MESSAGE_ID: Final = re.compile(r"<[!-;=?-~]{1,250}>\Z")
_REPLIED: Final = "An automatic reply to it came back, such as a notice of absence, from the mailbox of:"
_UNCLEAR: Final = (
    "A mail system has sent something back since that could not be understood; perhaps the message did not arrive. It "
    "went to:"
)
_SILENT: Final = "To protect patients this notice repeats nothing of what came back."


def replied_notice(
    herald: Herald, message: Message, recipients: Sequence[Address], *, to: Address, now: float
) -> bytes:
    """Tell a message's sender that a mailbox answered by an automatic reply. Equal arguments give equal bytes."""
    return _notice(
        herald,
        "Automatic reply to your message",
        [
            f"Your message of {_date(message.received_at)} was delivered. {_REPLIED}",
            *(f"  {address}" for address in recipients),
            "Should the message be urgent, reach the recipient another way.",
            _SILENT,
            f"The message's id for your mail administrators is {message.id}.",
        ],
        about=message.message_id,
        to=to,
        now=now,
        token=f"replied\0{message.id}",
    )


def unclear_notice(
    herald: Herald, message: Message, recipients: Sequence[Address], *, to: Address, now: float
) -> bytes:
    """Tell a message's sender that something came back which no rule understands."""
    return _notice(
        herald,
        "Something came back to your message",
        [
            f"Your message of {_date(message.received_at)} was taken by the recipient's mail server. {_UNCLEAR}",
            *(f"  {address}" for address in recipients),
            "Should the message be urgent, reach the recipient another way.",
            _SILENT,
            f"The message's id for your mail administrators is {message.id}.",
        ],
        about=message.message_id,
        to=to,
        now=now,
        token=f"unclear\0{message.id}",
    )


def unmatched_notice(herald: Herald, report_id: str, facts: Sequence[str], *, now: float) -> bytes:
    """Tell the postmaster of something that came back and belongs to no message that is remembered."""
    return _notice(
        herald,
        f"Returned mail {report_id} belongs to no message",
        [
            "A message came to one of our report addresses, and nothing that we remember fits it:",
            *(f"  {fact}" for fact in facts),
            "It was read, counted and not kept. " + _SILENT,
        ],
        about="",
        to=herald.mailbox,
        now=now,
        token=f"unmatched\0{report_id}",
    )


def _notice(
    herald: Herald, subject: str, paragraphs: Sequence[str], *, about: str, to: Address, now: float, token: str
) -> bytes:
    name = hashlib.sha256(f"{token}\0{to}\0{now!r}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
    text = "\r\n\r\n".join(_wrap(one) for one in paragraphs)
    charset, encoding = ("us-ascii", "7bit") if text.isascii() else ("utf-8", "8bit")
    lines = [
        f"From: {herald.name} <{herald.mailbox}>",
        f"To: <{to}>",
        f"Subject: {subject}",
        f"Date: {_date(now)}",
        f"Message-ID: <{name}.return-notice@{herald.host}>",
        *([f"In-Reply-To: {about}", f"References: {about}"] if _MESSAGE_ID.match(about) else ()),
        "Auto-Submitted: auto-replied",  # RFC 3834 section 5
        "MIME-Version: 1.0",
        f"Content-Type: text/plain; charset={charset}",
        f"Content-Transfer-Encoding: {encoding}",
        "",
        text,
    ]
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8", "replace")


def _wrap(text: str) -> str:
    margin = text[: len(text) - len(text.lstrip())]
    return "\r\n".join(textwrap.wrap(text.strip(), 76, initial_indent=margin, subsequent_indent=margin,
                                     break_on_hyphens=False))  # fmt: skip


def _date(at: float) -> str:
    return format_datetime(dt.datetime.fromtimestamp(int(at), dt.UTC))
