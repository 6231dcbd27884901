"""The vocabulary of the portal: what is deposited for a mailbox, what its owner did with it, and what it hands out.

Workers deposit and hand on; the portal's process reads deposits, keeps accounts and sessions, and writes what must
become mail or an audit event into its own outbox. It can open portal messages only: the key ring, the database and the
user of the portal are its own, and of the queue it knows nothing.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, Protocol

from relay.core.address import Address, ReversePath
from relay.core.change import AuditEvent


class DepositState(StrEnum):
    """Where a deposit stands. The last three are final, and its data key is shredded with them."""

    WAITING = "waiting"
    """Deposited; the notice may be on its way, taken or refused; nobody has opened it."""
    OPENED = "opened"
    """An authenticated person opened it by a POST."""
    EXPIRED = "expired"
    RECALLED = "recalled"
    """By its sender, by an operator, or by a person who said that it is not meant for them."""
    WITHDRAWN = "withdrawn"
    """Its notice could not be delivered: the sender has a DSN."""


FINAL_STATES: Final = frozenset({DepositState.EXPIRED, DepositState.RECALLED, DepositState.WITHDRAWN})
"""States that a deposit never leaves: its content is gone."""
LIVE_STATES: Final = frozenset(DepositState) - FINAL_STATES
"""States in which a deposit can be read."""


class Secret(StrEnum):
    """What a deposit asks of its reader beside the code that is mailed to them."""

    NONE = "none"
    ENROLLED = "enrolled"
    """A passphrase, passkey or TOTP of their own: set before it is read."""
    SHARED = "shared"
    """A secret set by the sender or the clinic: for specially protected kinds, since link and code travel alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    """One recipient's copy in the portal, without its content.

    Attributes:
        id: of the deposit: 128 random bits, URL-safe; it is in links, and gives no right by itself.
        message_id: the queue id of the message.
        number: the recipient's number in the envelope. ``(message_id, number)`` is unique.
        mailbox: for whom.
        tenant: of the client that gave the message: brand, limits and language follow it.
        sender: who is told of receipts, replies and recalls.
        origin_from, origin_to, origin_cc, subject, date: of the original's headers, decoded and bounded, for the inbox;
            sealed at rest.
        size: octets of the original.
        deposited_at, expires_at, opened_at, downloaded_at, reminded_at: unix seconds, UTC; ``None``: not yet.
        notified_at: when a mail server took the notice.
        answered_at: when its reader first replied or forwarded.
        state: where it stands.
        reason: why the portal was the method: what ``postern_portal_fallback_total`` counts.
        rule: the id of the policy's rule.
        special: it holds a specially protected kind: notices and codes of it travel at the level that the
            configuration sets for those.
        secret: what it asks of its reader.
        may_reply, may_forward: what policy allows.
        receipts: the sender asked to be told (NOTIFY=SUCCESS, or policy).
        language: ``en``, ``es``: of notice and first page.
    """

    id: str
    message_id: str
    number: int
    mailbox: Address
    tenant: str
    sender: ReversePath
    origin_from: str
    origin_to: tuple[str, ...]
    origin_cc: tuple[str, ...]
    subject: str
    date: str
    size: int
    deposited_at: float
    expires_at: float
    opened_at: float | None = None
    downloaded_at: float | None = None
    reminded_at: float | None = None
    notified_at: float | None = None
    answered_at: float | None = None
    state: DepositState = DepositState.WAITING
    reason: str = ""
    rule: str = ""
    special: bool = False
    secret: Secret = Secret.NONE
    may_reply: bool = True
    may_forward: bool = False
    receipts: bool = False
    language: str = "en"


def taken_over(there: Deposit, wanted: Deposit) -> Deposit | None:
    """The stored deposit with the new state and times of one that was read a moment ago.

    What another did meanwhile is kept: first times are the first, an extension is not taken back, and what was extended
    does not expire (``None``: nothing is to be changed).
    """
    if wanted.state is DepositState.EXPIRED and there.expires_at > wanted.expires_at:
        return None
    return replace(
        there,
        state=wanted.state,
        expires_at=max(there.expires_at, wanted.expires_at),
        opened_at=_first(there.opened_at, wanted.opened_at),
        downloaded_at=_first(there.downloaded_at, wanted.downloaded_at),
        notified_at=_first(there.notified_at, wanted.notified_at),
        answered_at=_first(there.answered_at, wanted.answered_at),
        reminded_at=wanted.reminded_at,
    )


def _first(there: float | None, wanted: float | None) -> float | None:
    return wanted if there is None else there


class PostKind(StrEnum):
    """What the portal asks the workers to send; each with a fixed floor (law 2), none with patient data but a reply."""

    CODE = "code"
    SENDER_CODE = "sender-code"
    """Opens the pages of what somebody sent: needs what a receipt needs on its way."""
    ENROLLED = "enrolled"
    """A passphrase, passkey or TOTP was set, changed or removed; or a new device signed in."""
    NOTICE = "notice"
    """The notice once more: an operator or the sender asked for it."""
    REMINDER = "reminder"
    RECEIPT = "receipt"
    """To the sender: opened, expired, recalled, not me."""
    REPLY = "reply"
    """A whole message that the reader wrote: to the sender by internal routes or verified TLS only."""
    FORWARD = "forward"


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """Mail that the portal hands to the workers through its outbox: sealed at rest, taken at least once.

    Attributes:
        id: the queue id it will have: the same at every try, so that a hand-over that is repeated is recognised.
        kind: which.
        recipients: for whom.
        content: the message, CRLF, ready to be signed; whoever takes it adds nothing.
        deposit_id: what it is about; empty for none.
        tenant: whose.
        at: unix seconds.
    """

    id: str
    kind: PostKind
    recipients: tuple[Address, ...]
    content: bytes = field(repr=False)
    deposit_id: str = ""
    tenant: str = ""
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxItem:
    """What the portal handed out in one of its transactions: in the order of ``seq``.

    Attributes:
        seq: its place; another item may have the same after a backup was restored.
        id: its own for ever, the same at every take: whoever takes it twice knows it by this.
        posts: mail.
        events: for the audit trail.
    """

    seq: int
    id: str
    posts: tuple[Post, ...] = ()
    events: tuple[AuditEvent, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DepositFilter:
    """What ``postern portal list`` and an inbox select; empty fields select all. ``text`` is sought in the sender.

    ``sender`` is the envelope's, whole.
    """

    mailbox: Address | None = None
    sender: Address | None = None
    message_id: str = ""
    tenant: str = ""
    states: frozenset[DepositState] = frozenset()
    text: str = ""
    since: float | None = None
    until: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalFigures:
    """Counts for metrics.

    Attributes:
        by_state: deposits in each state.
        outbox: items not yet taken over by a worker.
        oldest_waiting_at: when the oldest unopened deposit was made; ``None``: there is none.
    """

    by_state: tuple[tuple[DepositState, int], ...]
    outbox: int
    oldest_waiting_at: float | None


class Deposits(Protocol):
    """The portal's messages. One contract suite holds over every implementation (tests/contract).

    Every change that people must be able to prove, or that must become mail, takes its posts and events into the same
    transaction. Reads and changes raise ``StoreUnavailableError`` while the database is away.
    """

    async def deposit(self, deposit: Deposit, content: bytes, *, events: Sequence[AuditEvent] = ()) -> Deposit:
        """Keep it under a data key of its own, on disk when this returns.

        Idempotent by ``(message_id, number)``: what is there already is returned as it is, its id with it.
        """

    async def find(self, deposit_id: str) -> Deposit | None:
        """One deposit, in any state."""

    async def ended_at(self, deposit_id: str) -> float | None:
        """When it reached its final state, unix seconds; ``None``: it has not, or is not there."""

    async def of_message(self, message_id: str) -> Sequence[Deposit]:
        """All deposits of a message."""

    async def page(
        self, where: DepositFilter, *, after: str = "", limit: int = 50, newest_first: bool = True
    ) -> tuple[Sequence[Deposit], str]:
        """A keyset page by time of deposit, and where the next begins; empty at the end.

        A page that is shorter than ``limit`` need not be the last: a search for ``text`` looks at so many and no more.
        """

    def content(self, deposit_id: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The original's octets from ``start`` up to ``end``, in pieces of at most 64 KiB, each authenticated.

        Raises:
            CorruptError: a piece does not authenticate.
            StoreError: no such deposit, or its key is shredded.
        """

    async def change(
        self,
        deposit: Deposit,
        *,
        expected: DepositState,
        posts: Sequence[Post] = (),
        events: Sequence[AuditEvent] = (),
    ) -> bool:
        """Store the deposit's new state and times if it stands in ``expected`` still; whether it did.

        A final state shreds the data key in the same transaction, and with it the content and what the headers said:
        ``origin_from``, ``origin_to``, ``origin_cc``, ``subject`` and ``date`` are empty from then on.
        """

    async def hand_out(self, *, posts: Sequence[Post] = (), events: Sequence[AuditEvent] = ()) -> None:
        """Write into the outbox what belongs to no change of a deposit."""

    async def prune(self, *, before: float, limit: int) -> int:
        """Delete what is left of deposits that reached a final state before then; how many."""

    async def scrub(self) -> None:
        """Get rid of what deleted rows leave on the disk, as far as the database lets us.

        Costs next to nothing while no deposit has ended since it was done; what is put off is done the next time.
        """

    async def due(self, *, now: float, remind_before: float, limit: int) -> Sequence[Deposit]:
        """Deposits past their expiry, and those unopened whose reminder is due."""

    async def take_outbox(self, *, owner: str, lease: float, limit: int) -> Sequence[OutboxItem]:
        """The oldest items that nobody else holds, leased to ``owner`` for ``lease`` seconds."""

    async def forget_outbox(self, seqs: Sequence[int]) -> None:
        """Delete what was handed on."""

    async def word(self, seconds: float) -> bool:
        """Wait until the outbox may hold something new, at the most so long; whether it may (a hint)."""

    async def figures(self) -> PortalFigures:
        """Counts now, for metrics."""
