"""The command lines of one client transaction, and what the peer must offer for them.

RFC 5321 sections 4.1.1.2 to 4.1.1.4, RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8), RFC 8689 (REQUIRETLS),
RFC 3461 (DSN).
"""

import re
from typing import Final

from relay.core.envelope import Recipient
from relay.core.octets import BARE_NEWLINE, EIGHT_BIT, LEADING_DOT, traits
from relay.core.outcome import Failure, PeerFeatures, Stage, Transaction, Trouble
from relay.core.reply import EnhancedStatus

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def needs_utf8(transaction: Transaction) -> bool:
    """Whether MAIL must carry SMTPUTF8: it was asked for, or a mailbox is not ASCII (RFC 6531 section 3.4)."""
    return (
        transaction.smtputf8
        or not transaction.reverse_path_text.isascii()
        or any(not recipient.address.is_ascii for _, recipient in transaction.recipients)
    )


def look(content: bytes) -> int:
    """What is in the content that the functions below want to know; see :data:`relay.core.octets.traits`."""
    return traits(content, len(content))


def missing(transaction: Transaction, features: PeerFeatures, found: int) -> Failure | None:
    """What the peer lacks for this message, or what of ours must not go on a wire; ``None`` when it can be sent.

    ``found``: what :func:`look` says of its content, here and below.
    """
    if features.size is not None and len(transaction.content) > features.size:
        return _unsupported("the message is larger than the peer takes", EnhancedStatus(5, 3, 4))
    if needs_utf8(transaction) and not features.smtputf8:
        return _unsupported("the peer does not offer SMTPUTF8", EnhancedStatus(5, 6, 7))
    if transaction.require_tls and not features.require_tls:
        return _unsupported("the peer does not offer REQUIRETLS", EnhancedStatus(5, 7, 30))
    if not features.eight_bit_mime and found & EIGHT_BIT:
        return _unsupported("the peer does not offer 8BITMIME", EnhancedStatus(5, 6, 3))
    if found & BARE_NEWLINE:
        return _local("the message has a bare CR or LF, which must not go on a wire")
    if not transaction.recipients:
        return _local("the transaction has no recipient")
    return None


def mail_line(transaction: Transaction, features: PeerFeatures, found: int) -> str:
    """``MAIL FROM`` with the parameters that the peer offers."""
    parts = [f"MAIL FROM:<{transaction.reverse_path_text}>"]
    if features.size is not None or features.size_offered:
        parts.append(f"SIZE={len(transaction.content)}")
    if features.eight_bit_mime and (transaction.body_8bit or found & EIGHT_BIT):
        parts.append("BODY=8BITMIME")
    if features.smtputf8 and needs_utf8(transaction):
        parts.append("SMTPUTF8")
    if transaction.require_tls:
        parts.append("REQUIRETLS")
    if features.dsn:
        if transaction.ret:
            parts.append(f"RET={transaction.ret}")
        if transaction.envelope_id:
            parts.append(f"ENVID={transaction.envelope_id}")
    return " ".join(parts)


def rcpt_line(recipient: Recipient, features: PeerFeatures) -> str:
    """``RCPT TO`` with NOTIFY and ORCPT where the peer offers DSN (RFC 3461 sections 4.1 and 4.2)."""
    parts = [f"RCPT TO:<{recipient.address}>"]
    if features.dsn:
        if recipient.notify:
            parts.append(f"NOTIFY={','.join(sorted(recipient.notify))}")
        if recipient.original:
            parts.append(f"ORCPT={recipient.original}")
    return " ".join(parts)


def encode(lines: list[str]) -> bytes | None:
    """The lines for the wire; ``None`` when one holds a control character, which would be a command of its own."""
    if any(_CONTROL.search(line) for line in lines):
        return None
    return ("\r\n".join(lines) + "\r\n").encode("utf-8", "surrogateescape")


def stuff(content: bytes, found: int) -> bytes:
    """The message as DATA carries it: leading dots doubled, a final CRLF made sure of, the lone dot at the end.

    RFC 5321 section 4.5.2. An empty message becomes the lone dot.
    """
    if found & LEADING_DOT:
        content = content.replace(b"\r\n.", b"\r\n..")
    if content[:1] == b".":
        content = b"." + content
    if content and not content.endswith(b"\r\n"):
        return content + b"\r\n.\r\n"
    return content + b".\r\n"


def _unsupported(detail: str, status: EnhancedStatus) -> Failure:
    return Failure(trouble=Trouble.UNSUPPORTED, stage=Stage.MAIL, detail=detail, status=status)


def _local(detail: str) -> Failure:
    return Failure(trouble=Trouble.LOCAL, stage=Stage.MAIL, detail=detail)
