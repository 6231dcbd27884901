"""The facts a policy judges, put together again from what is kept: for floors at each attempt, and for redeciding."""

from relay.core.envelope import Attachment, Message, MessageFacts
from relay.core.phi import PhiVerdict
from relay.mail.edit import body_start
from relay.mail.mime import MimeLimits, read_message


def facts_of(
    message: Message,
    content: bytes,
    *,
    verdict: PhiVerdict | None = None,
    attachments: tuple[Attachment, ...] | None = None,
) -> MessageFacts:
    """The facts as intake had them: the header is read as the scan reads it, so that a rule sees the same subject.

    Args:
        message: as kept.
        content: its bytes, of which the header is read.
        verdict: of a new scan; by default the kept one.
        attachments: of a new scan; by default the kept ones.
    """
    headers = read_message(content[: body_start(content)], MimeLimits()).headers
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
