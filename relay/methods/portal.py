"""The method ``portal``: the original goes into the portal's store, and a notice without patients' data goes out.

Rendering is idempotent: the deposit is keyed by message and recipient, and the notice of a deposit is always the same
bytes. It is sent as the same entry, so its retries and bounces are the entry's.
"""

import base64
import unicodedata
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from relay.core.change import AuditEvent
from relay.core.decision import MethodName
from relay.core.entry import QueueEntry
from relay.core.envelope import Message
from relay.core.fate import FateKind
from relay.core.level import Level
from relay.core.portal import Deposit, Deposits, DepositState, Secret
from relay.core.ports import Clock, Ended, Metrics, Rendering, Unavailable
from relay.delivery.plan import fallback_cause
from relay.mail import edit
from relay.mail.notice import NoticeWriter
from relay.mail.words import decode_value, mailboxes
from relay.methods.original import SECRET_HEADER, edited

_ID_BYTES: Final = 16
_MAX_TEXT: Final = 1_000
_MAX_LISTED: Final = 200
_MAX_HEADER: Final = 65_536
_MAX_SECRET: Final = 256
_LEAST_SECRET: Final = 6
"""Characters of a secret as it is compared (:func:`relay.portal.passphrase.shared_hash` takes no shorter one)."""
_LONGEST_WRITTEN: Final = 8 * _MAX_SECRET
"""Characters of one as it is written: normalising takes the square of the marks that stand in a row."""

SetSecret = Callable[[Deposit, str], Awaitable[None]]
"""Keeps the secret that a sender set for one message, unless one is set already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalMethodOptions:
    """What holds where no rule says otherwise.

    Attributes:
        expire_after: seconds that a message can be read.
        floor: the level that the notice's connection must reach.
        special_floor: the same for specially protected kinds.
        language: of notices whose message names none that is known.
        languages: those that are known.
        brand_languages: by tenant.
    """

    expire_after: float = 30 * 86_400.0
    floor: Level = Level.CLEAR
    special_floor: Level = Level.ENCRYPTED
    language: str = "en"
    languages: tuple[str, ...] = ("en", "es")
    brand_languages: Mapping[str, str] = field(default_factory=dict)


class PortalMethod:
    """Deposits, and renders the notice. Implements ``Method``."""

    def __init__(
        self,
        deposits: Deposits,
        writer: NoticeWriter,
        options: PortalMethodOptions,
        *,
        set_secret: SetSecret,
        clock: Clock,
        entropy: Callable[[int], bytes],
        metrics: Metrics,
    ) -> None:
        """Take what it works with.

        Args:
            deposits: the portal's store.
            writer: of notices.
            options: what holds where no rule says otherwise.
            set_secret: keeps what a sender set.
            clock: unix seconds.
            entropy: for ids of deposits, from a cryptographic source.
            metrics: counts.
        """
        self._deposits = deposits
        self._writer = writer
        self._options = options
        self._set_secret = set_secret
        self._clock = clock
        self._entropy = entropy
        self._metrics = metrics

    @property
    def name(self) -> MethodName:
        """``portal``."""
        return MethodName.PORTAL

    async def render(self, entry: QueueEntry, message: Message, content: bytes) -> Rendering | Unavailable | Ended:
        """The notice for the entry's one recipient, once the original is in the portal's store.

        Raises:
            StoreError: the portal's store is away or full: the copy is tried again.
        """
        if len(entry.recipients) != 1:
            raise ValueError("the portal serves one recipient at a time")
        try:
            kept = edited(content, entry.treatment, travels=False)
        except ValueError as error:
            return Unavailable(f"a header that the policy adds cannot be written: {error}", "header")
        secret = _secret_of(content)
        wanted = self._deposit(entry, message, kept)
        deposit = await self._deposits.deposit(wanted, kept, events=(_deposited(wanted, entry),))
        if deposit.id == wanted.id:
            self._metrics.count("postern_portal_fallback_total", {"reason": deposit.reason})
        if deposit.state in _ENDS:
            return Ended(*_ENDS[deposit.state])
        if deposit.state is DepositState.WITHDRAWN:
            return Unavailable("the portal's notice could not be delivered", "notice-refused")
        if secret:
            await self._set_secret(deposit, secret)
        return Rendering(
            content=self._writer.notice(deposit),
            floor=self._options.special_floor if deposit.special else self._options.floor,
            fate_on_delivery=FateKind.NOTIFIED,
            own=True,
        )

    def _deposit(self, entry: QueueEntry, message: Message, content: bytes) -> Deposit:
        now, terms, (state,) = self._clock(), entry.treatment.portal, entry.recipients
        lasts = self._options.expire_after if terms.expire_after is None else terms.expire_after
        return Deposit(
            id=_deposit_id(self._entropy),
            message_id=message.id,
            number=state.number,
            mailbox=state.recipient.address,
            tenant=message.session.tenant,
            sender=message.envelope.reverse_path,
            origin_from=_header(content, "From"),
            origin_to=_listed(content, "To"),
            origin_cc=_listed(content, "Cc"),
            subject=_header(content, "Subject"),
            date=_header(content, "Date"),
            size=len(content),
            deposited_at=now,
            expires_at=now + lasts,
            reason=fallback_cause(entry),
            rule=entry.treatment.rule,
            special=_is_special(message),
            secret=_asked(terms.secret, special=_is_special(message)),
            may_reply=terms.reply and not message.envelope.reverse_path.is_null,
            may_forward=terms.forward,
            receipts=terms.receipts or state.recipient.wants("SUCCESS"),
            language=self._language(message, content),
        )

    def _language(self, message: Message, content: bytes) -> str:
        said = _header(content, "Content-Language").partition(",")[0].partition("-")[0].strip().lower()
        if said in self._options.languages:
            return said
        return self._options.brand_languages.get(message.session.tenant, self._options.language)


_ENDS: Final = {
    DepositState.RECALLED: (FateKind.RECALLED, "recalled in the portal before its notice was delivered"),
    DepositState.EXPIRED: (FateKind.PORTAL_EXPIRED, "its time in the portal was over before its notice was delivered"),
}


def _is_special(message: Message) -> bool:
    """Whether the scan found a specially protected kind, or more than it lists: then it may have (law 3)."""
    return message.verdict.truncated or any(finding.sensitive for finding in message.verdict.findings)


def _asked(word: str, *, special: bool) -> Secret:
    if word:
        return Secret(word)
    return Secret.SHARED if special else Secret.NONE


def _deposited(deposit: Deposit, entry: QueueEntry) -> AuditEvent:
    facts = {
        "numbers": [deposit.number],
        "event": "deposited",
        "deposit": deposit.id,
        "entry": entry.id,
        "reason": deposit.reason,
        "rule": deposit.rule,
        "secret": deposit.secret.value,
        "expires_at": deposit.expires_at,
    }
    return AuditEvent(kind="portal", at=deposit.deposited_at, message_id=deposit.message_id, facts=facts)


def _deposit_id(entropy: Callable[[int], bytes]) -> str:
    """128 random bits, URL-safe; no hyphen first, or an operator who gives it to a verb gives an option."""
    while (text := base64.urlsafe_b64encode(entropy(_ID_BYTES)).rstrip(b"=").decode()).startswith("-"):
        continue
    return text


def _secret_of(content: bytes) -> str:
    """The secret that the sender set; empty for none, and for what cannot be one."""
    text = _decoded(edit.get(content, SECRET_HEADER) or b"")
    if len(text) > _LONGEST_WRITTEN:
        return ""
    folded = "".join(unicodedata.normalize("NFKC", text).casefold().split())
    return text if _LEAST_SECRET <= len(folded) <= _MAX_SECRET else ""


def _header(content: bytes, name: str) -> str:
    return _clean(_decoded(edit.get(content, name) or b""))


def _listed(content: bytes, name: str) -> tuple[str, ...]:
    """Mailboxes of a header as a reader sees them, ``Name <mailbox>``; those that To and Cc disclose."""
    raw = (edit.get(content, name) or b"")[:_MAX_HEADER].decode("utf-8", "surrogateescape")
    listed = []
    for display, mailbox in mailboxes([raw])[:_MAX_LISTED]:
        shown = _clean(decode_value(display))
        if mailbox:
            listed.append(f"{shown} <{_clean(mailbox)}>" if shown else _clean(mailbox))
    return tuple(listed)


def _decoded(raw: bytes) -> str:
    return decode_value(raw[:_MAX_HEADER].decode("utf-8", "surrogateescape"))


def _clean(text: str) -> str:
    """Without control characters, and bounded."""
    shown = "".join(mark if mark.isprintable() else " " for mark in text[: _MAX_TEXT * 2])
    return " ".join(shown.split())[:_MAX_TEXT]
