"""The facts a policy judges, put together again from what is kept: for floors at each attempt, and for redeciding."""

from collections.abc import Iterator
from email.parser import BytesHeaderParser
from email.policy import compat32
from typing import Final

from relay.core.envelope import Attachment, Message, MessageFacts
from relay.core.phi import PhiVerdict
from relay.mail import edit
from relay.mail.words import decode_value

_PARSER: Final = BytesHeaderParser(policy=compat32)


def facts_of(
    message: Message,
    content: bytes,
    *,
    verdict: PhiVerdict | None = None,
    attachments: tuple[Attachment, ...] | None = None,
) -> MessageFacts:
    """The facts as intake had them.

    Args:
        message: as kept.
        content: its bytes, of which the header is read.
        verdict: of a new scan; by default the kept one.
        attachments: of a new scan; by default the kept ones.
    """
    headers = tuple(_headers(content))
    return MessageFacts(
        session=message.session,
        envelope=message.envelope,
        subject=next((value for name, value in headers if name == "subject"), ""),
        headers=headers,
        size=message.size,
        verdict=message.verdict if verdict is None else verdict,
        attachments=message.attachments if attachments is None else attachments,
        stream=message.stream,
        received_at=message.received_at,
    )


def _headers(content: bytes) -> Iterator[tuple[str, str]]:
    for name, value in _PARSER.parsebytes(content[: edit.header_end(content)]).items():
        yield name.lower(), decode_value(str(value))
