"""The facts a policy judges, put together again from what is kept: for floors at each attempt, and for redeciding."""

from email.parser import BytesHeaderParser
from email.policy import compat32
from typing import Final

from relay.core.envelope import Message, MessageFacts
from relay.mail.words import decode_value

_PARSER: Final = BytesHeaderParser(policy=compat32)
_BLANK: Final = b"\r\n\r\n"


def facts_of(message: Message, content: bytes) -> MessageFacts:
    """The facts as intake had them; the verdict is the kept one, the message is not scanned again."""
    end = content.find(_BLANK)
    parsed = _PARSER.parsebytes(content if end < 0 else content[: end + len(_BLANK)])
    headers = tuple((name.lower(), decode_value(str(value))) for name, value in parsed.items())
    return MessageFacts(
        session=message.session,
        envelope=message.envelope,
        subject=next((value for name, value in headers if name == "subject"), ""),
        headers=headers,
        size=message.size,
        verdict=message.verdict,
        attachments=message.attachments,
        stream=message.stream,
        received_at=message.received_at,
    )
