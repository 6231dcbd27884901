"""Mail that comes back, read: bounces structured or not, complaints, receipts and automatic replies.

Nothing here trusts what it reads: sizes and counts are bounded, patterns are linear, and no message raises.
"""

import re
import threading
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from relay.core.labour import BOUNDED, labour
from relay.mail.charset import decode
from relay.mail.html import html_to_text
from relay.mail.words import decode_value

if TYPE_CHECKING:
    from relay.reputation.formats import BounceFormat

LIMIT: Final = 1024 * 1024
"""Octets of a returned message that are read: reports stand at its beginning."""
MAX_RECIPIENTS: Final = 200
_MAX_PARTS: Final = 60
_MAX_DEPTH: Final = 10
_MAX_TEXT: Final = 64 * 1024
_MAX_FIELD: Final = 2000
_PARSER: Final = BytesParser(policy=BOUNDED)
_LABOUR: Final = 1_000_000
"""What reading one may cost; see :func:`relay.core.labour.labour`."""
_SMALL: Final = 64 * 1024
_QUICK: Final = 4_000
"""The same for one that is read at once: thousands of empty lines, each a group of fields of its own, take long too."""
_LOADED: Final = threading.Event()
"""The patterns of bounces without a report are."""
_MAILBOX: Final = re.compile(r"<?([^\s<>@\"',;:()\[\]]{1,64}@[\w.-]{1,253})>?")
_MESSAGE_ID: Final = re.compile(r"^message-id:[ \t]*(<[^<>\s]{1,250}>)", re.IGNORECASE | re.MULTILINE)
_OWN_ID: Final = re.compile(r"<([0-9A-HJKMNP-TV-Z]{20})@")


class Kind(StrEnum):
    """What a returned message is."""

    DSN = "dsn"
    """A delivery status notification (RFC 3464)."""
    BOUNCE = "bounce"
    """A bounce in words of its system's own."""
    FEEDBACK = "feedback"
    """A complaint or other feedback report (ARF, RFC 5965)."""
    RECEIPT = "receipt"
    """A disposition notification (RFC 8098)."""
    AUTO_REPLY = "auto-reply"
    """Somebody is away, or a machine thanks (RFC 3834): the message arrived."""
    OTHER = "other"
    """None of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnedRecipient:
    """What a returned message says of one recipient.

    Attributes:
        address: the mailbox as text, or empty when none is named.
        action: ``failed``, ``delayed``, ``delivered``, ``relayed``, ``expanded`` or ``complained``.
        status: the Status field, or empty.
        reason: what the server answered, or the words of the bounce; a stranger's text, not scrubbed.
        host: the Remote-MTA, or empty.
    """

    address: str
    action: str = "failed"
    status: str = ""
    reason: str = field(default="", repr=False)
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """A returned message, read.

    Attributes:
        kind: what it is.
        form: the format: ``rfc3464``, ``arf`` or a name of :mod:`relay.reputation.formats`.
        recipients: whom it speaks of, ``MAX_RECIPIENTS`` at the most.
        message_id: Message-ID of the message that it is about, with brackets, or empty.
        envelope_id: Original-Envelope-Id, or empty.
        feedback_type: of a feedback report: ``abuse``, ``fraud``, ``not-spam`` ...
        mail_from: the reverse-path of the message that it is about, as text, or empty.
        truncated: it was longer than is read.
    """

    kind: Kind
    form: str = ""
    recipients: tuple[ReturnedRecipient, ...] = ()
    message_id: str = ""
    envelope_id: str = ""
    feedback_type: str = ""
    mail_from: str = ""
    truncated: bool = False


@dataclass(slots=True)
class _Parts:
    """A message's parts, gathered within the limits."""

    headers: list[tuple[str, str]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    reports: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    originals: list[str] = field(default_factory=list)
    count: int = 0


def is_quick(content: bytes) -> bool:
    """Whether :func:`read_returned` takes no longer than a turn of the event loop may.

    The first bounce without a report loads the patterns, which takes a tenth of a second and more.
    """
    return len(content) <= _SMALL and _LOADED.is_set() and labour(content) <= _QUICK


def read_returned(content: bytes) -> Returned:
    """Read a message that came back. Never raises; what is none of the kinds is ``OTHER``."""
    cut = content[:LIMIT]
    if labour(cut) > _LABOUR:
        return Returned(kind=Kind.OTHER, truncated=True)
    parts = _Parts()
    try:
        message = _PARSER.parsebytes(cut)
        parts.headers = [(name.lower(), _header(value)) for name, value in message.raw_items()][:500]
        _gather(message, parts, 0)
    except RecursionError:
        return Returned(kind=Kind.OTHER, truncated=True)
    except Exception:  # noqa: BLE001 - a stranger's bytes met a fault of the parser: it is nothing we know
        return Returned(kind=Kind.OTHER, truncated=len(content) > LIMIT)
    found = _read(parts)
    return Returned(
        kind=found.kind,
        form=found.form,
        recipients=found.recipients[:MAX_RECIPIENTS],
        message_id=_original_id(parts) if found.kind is not Kind.OTHER else "",
        envelope_id=found.envelope_id,
        feedback_type=found.feedback_type,
        mail_from=found.mail_from,
        truncated=len(content) > LIMIT,
    )


def _header(value: object) -> str:
    """A header's value, decoded; bytes that were never encoded are read as UTF-8 (RFC 6532)."""
    raw = str(value)[: _MAX_FIELD * 4].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return decode_value(raw)[:_MAX_FIELD]


def own_id(message_id: str) -> str:
    """The queue id in a Message-ID that Postern made, or empty."""
    match = _OWN_ID.match(message_id)
    return match[1] if match else ""


def _gather(part: "Message[str, str]", parts: _Parts, depth: int) -> None:
    parts.count += 1
    if parts.count > _MAX_PARTS or depth > _MAX_DEPTH:
        return
    kind = part.get_content_type()
    payload = part.get_payload()
    if kind in {"message/delivery-status", "message/global-delivery-status"}:
        parts.reports.setdefault("dsn", []).extend(_blocks(part))
    elif kind == "message/feedback-report":
        parts.reports.setdefault("arf", []).extend(_blocks(part))
    elif kind == "message/disposition-notification":
        parts.reports.setdefault("mdn", []).extend(_blocks(part))
    elif kind in {"message/rfc822", "text/rfc822-headers", "message/rfc822-headers", "message/global",
                  "message/global-headers"}:  # fmt: skip
        parts.originals.append(_source(part)[:_MAX_TEXT])
    elif isinstance(payload, list):
        for child in payload:
            if isinstance(child, Message):
                _gather(child, parts, depth + 1)
    elif kind.startswith("text/") and sum(map(len, parts.texts)) < _MAX_TEXT:
        parts.texts.append(_text(part, kind)[:_MAX_TEXT])


def _blocks(part: "Message[str, str]") -> list[dict[str, str]]:
    """The field groups of a report part: the parser splits delivery-status, the others are read as they stand."""
    payload = part.get_payload()
    if isinstance(payload, list) and part.get_content_subtype().endswith("delivery-status"):
        blocks = [block for block in payload if isinstance(block, Message)]
        groups = [[(name, str(value)) for name, value in block.items()] for block in blocks]
        groups += _groups("".join(str(block.get_payload()) for block in blocks if not block.items()))
    else:
        groups = _groups(_source(part))
    return [
        {name.lower(): " ".join(value.split())[:_MAX_FIELD] for name, value in reversed(group)}
        for group in groups[: MAX_RECIPIENTS + 1]
        if group
    ]


def _groups(text: str) -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = [[]]
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if not line.strip():
            found.append([])
        elif line[0] in " \t" and found[-1]:
            last, before = found[-1][-1]
            if len(before) < _MAX_FIELD:  # more is not read, and would be copied with each further line
                found[-1][-1] = (last, f"{before} {line.strip()[:_MAX_FIELD]}")
        elif colon:
            found[-1].append((name.strip(), value.strip()))
    return [group for group in found if group]


def _source(part: "Message[str, str]") -> str:
    payload = part.get_payload()
    if isinstance(payload, list):
        return "\n\n".join(child.as_string() for child in payload[:3] if isinstance(child, Message))
    return _text(part, "text/plain")


def _text(part: "Message[str, str]", kind: str) -> str:
    raw = part.get_payload(decode=True)
    charset = part.get_param("charset", "")
    label = charset[2] if isinstance(charset, tuple) else charset or ""
    text = decode(raw[: _MAX_TEXT * 4] if isinstance(raw, bytes) else b"", label)
    text = html_to_text(text) if kind == "text/html" else text
    return text.replace("\r\n", "\n").replace("\r", "\n")


# --- what it is ------------------------------------------------------------


def _read(parts: _Parts) -> Returned:
    if blocks := parts.reports.get("dsn"):
        return _dsn(blocks, parts)
    if blocks := parts.reports.get("arf"):
        return _feedback(blocks, parts)
    if parts.reports.get("mdn"):
        return Returned(kind=Kind.RECEIPT, form="rfc8098")
    if _is_automatic(parts.headers):
        return Returned(kind=Kind.AUTO_REPLY, form="rfc3834")
    return _unstructured(parts)


def _dsn(blocks: list[dict[str, str]], parts: _Parts) -> Returned:
    recipients = []
    for block in blocks:
        address = _typed(block.get("final-recipient", "")) or _typed(block.get("original-recipient", ""))
        original = _typed(block.get("original-recipient", ""))
        if not address and "action" not in block:
            continue
        recipients.append(
            ReturnedRecipient(
                address=original or address,
                action=block.get("action", "failed").split(" ")[0].lower(),
                status=block.get("status", "").split(" ")[0],
                reason=_reason(block),
                host=_typed(block.get("remote-mta", "")),
            )
        )
    if len(recipients) == 1 and not recipients[0].reason:  # some systems tell the reason only to people
        said = _unstructured(parts).recipients
        if said:
            one = recipients[0]
            recipients = [
                ReturnedRecipient(
                    address=one.address, action=one.action, status=one.status, reason=said[0].reason, host=one.host
                )
            ]
    envelope_id = next((block["original-envelope-id"] for block in blocks if "original-envelope-id" in block), "")
    return Returned(kind=Kind.DSN, form="rfc3464", recipients=tuple(recipients), envelope_id=envelope_id)


def _typed(value: str) -> str:
    """What follows the type of an address or name field: ``rfc822; pat@clinic.example``."""
    kind, mark, rest = value.partition(";")
    text = (rest if mark else kind).strip()
    match = _MAILBOX.match(text)
    return match[1] if match else text.split(" ")[0].strip("<>")[:300]


def _reason(block: dict[str, str]) -> str:
    """The Diagnostic-Code, which tells more, with the status where it names none."""
    kind, mark, rest = block.get("diagnostic-code", "").partition(";")
    said = rest if mark and kind.strip().isascii() and " " not in kind.strip() else block.get("diagnostic-code", "")
    status = block.get("status", "").split(" ")[0]
    return said.strip() or status


def _feedback(blocks: list[dict[str, str]], parts: _Parts) -> Returned:
    fields: dict[str, str] = {}
    for block in blocks:
        fields = {**block, **fields}
    named = fields.get("original-rcpt-to", "") or fields.get("removal-recipient", "")
    if not named:
        named = next((match[1] for text in parts.originals if (match := _TO.search(text))), "")
    match = _MAILBOX.search(named)
    recipient = ReturnedRecipient(address=match[1] if match else "", action="complained")
    kind = fields.get("feedback-type", "other").lower()[:40]
    path = _MAILBOX.search(fields.get("original-mail-from", ""))
    if path is None:
        path = next((match for text in parts.originals if (match := _RETURN_PATH.search(text))), None)
    mail_from = path[1] if path else ""
    return Returned(kind=Kind.FEEDBACK, form="arf", recipients=(recipient,), feedback_type=kind, mail_from=mail_from)


_TO: Final = re.compile(r"^(?:x-original-to|delivered-to|to):[ \t]*(.{1,500})", re.IGNORECASE | re.MULTILINE)
_RETURN_PATH: Final = re.compile(r"^return-path:[ \t]*<?([^\s<>]{1,320}@[\w.-]{1,253})>?", re.IGNORECASE | re.MULTILINE)
_AWAY: Final = re.compile(
    r"^(?:re: ?)?(?:auto(?:matic|mated)?[ -]?(?:reply|response|answer|matic reply)|autoreply|out[ -]of[ -](?:the[ -])?"
    r"office|ooo\b|vacation|away from|on (?:leave|holiday|vacation)|i(?:'m| am) (?:away|out)|abwesen|automatische? "
    r"antwort|r[eé]ponse automatique|absence|respuesta autom|fuera de|risposta automatica|assente|resposta autom|"
    r"automatisch antwoord|afwezig|autosvar|automatiskt svar|自動(?:応答|返信)|自动回复|автоответ|odpowied[zź] "
    r"automatyczna|nieobecn|thank you for (?:contacting|your (?:e-?mail|message)))",
    re.IGNORECASE,
)
_DAEMON: Final = re.compile(r"mailer-daemon|postmaster@|mail delivery (?:sub)?system|maildelivery", re.IGNORECASE)


def _is_automatic(headers: list[tuple[str, str]]) -> bool:
    """RFC 3834, and the marks that were used before it; a bounce by a mail system is not one."""
    values = dict(reversed(headers))
    if _AWAY.match(values.get("subject", "").strip()):
        return True
    if {"x-autoreply", "x-autorespond", "x-autoresponder", "x-autogenerated", "x-auto-reply-from"} & values.keys():
        return True
    if values.get("precedence", "").strip().lower() == "auto_reply":
        return True
    if _DAEMON.search(values.get("from", "")) or values.get("return-path", "").strip() == "<>":
        return False
    return values.get("auto-submitted", "").strip().lower().startswith("auto-replied")


def _unstructured(parts: _Parts) -> Returned:
    from relay.reputation.formats import COPY_BELOW, FORMATS  # noqa: PLC0415  4 MB of patterns for the first of these

    _LOADED.set()
    text = "\n".join(parts.texts)
    copy = COPY_BELOW.search(text)
    said = f"{text[: copy.start()] if copy and copy.start() > 0 else text}\n"
    head = "".join(f"{name}: {value}\n" for name, value in parts.headers)
    for form in FORMATS:
        if form.mark.search(f"{head}\n{text}"):
            recipients = _entries(form, said) or _entries(form, text) or _entries(form, head)
            if recipients:
                return Returned(kind=Kind.BOUNCE, form=form.name, recipients=tuple(recipients))
    return Returned(kind=Kind.OTHER)


def _entries(form: "BounceFormat", text: str) -> list[ReturnedRecipient]:
    apart = form.reason.search(text) if form.reason is not None else None
    for pattern in form.entries:
        found: dict[str, ReturnedRecipient] = {}
        for match in pattern.finditer(text):
            groups = match.groupdict()
            reason = groups.get("why") or (apart.group("why") if apart else "")
            address = groups["rcpt"]
            if address not in found:
                reason = " ".join(reason.split())[:_MAX_FIELD]
                found[address] = ReturnedRecipient(address=address, reason=reason)
            if len(found) >= MAX_RECIPIENTS:
                break
        if found:
            return list(found.values())
    return []


def _original_id(parts: _Parts) -> str:
    """Message-ID of what was sent: in the copy of it, or below the words of the bounce."""
    for text in (*parts.originals, *parts.texts):
        if match := _MESSAGE_ID.search(text):
            return match[1]
    values = dict(reversed(parts.headers))
    references = re.findall(r"<[^<>\s]{1,250}>", values.get("in-reply-to", "") or values.get("references", ""))
    return references[-1] if references else ""
