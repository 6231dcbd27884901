"""The interfaces between the layers. Code above sees these; only ``relay/app.py`` names the classes behind them."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from relay.core.address import Address
from relay.core.change import AuditEvent, Remember, UnitOfWork
from relay.core.decision import Explanation, MethodName, PolicyDecision
from relay.core.entry import Claimed, EntryState, QueueEntry
from relay.core.envelope import Attachment, Message, MessageFacts
from relay.core.fate import FateKind
from relay.core.level import Level, Proof
from relay.core.outcome import Failure, PeerFeatures, Transaction, TransactionResult
from relay.core.phi import PhiVerdict
from relay.core.suppression import Suppression

Clock = Callable[[], float]
"""Unix seconds, UTC."""


# --- sealing ----------------------------------------------------------


class Vault(Protocol):
    """Sealing at rest (law 7) under the key ring's newest version; opening under any version still in the ring."""

    def seal(self, purpose: str, context: str, plain: bytes) -> bytes:
        """AES-256-GCM in frames of 64 KiB; the result names its key version.

        ``purpose`` (``body``, ``findings``, ``audit`` ...) and ``context`` (the message id) are associated data.
        """

    def open(self, purpose: str, context: str, sealed: bytes) -> bytes:
        """The plain bytes.

        Raises:
            SealError: wrong context, changed bytes, or a key version not in the ring.
        """

    def seal_address(self, text: str) -> bytes:
        """AES-SIV of a mailbox: equal text gives equal bytes under one key version, so that look-ups work."""

    def open_address(self, sealed: bytes) -> str:
        """The mailbox.

        Raises:
            SealError: as for :meth:`open`.
        """

    def address_tokens(self, text: str) -> tuple[bytes, ...]:
        """What :meth:`seal_address` gives under every version in the ring: look-ups match any of them."""

    def digest(self, text: str) -> str:
        """Keyed digest (hex) of a finding's normalised text."""


# --- scan and policy --------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanReport:
    """What reading a message gave: verdict, decoded subject and headers, attachments."""

    verdict: PhiVerdict
    subject: str
    headers: tuple[tuple[str, str], ...]
    attachments: tuple[Attachment, ...] = ()


class Scanner(Protocol):
    """Reads a message once."""

    async def scan(self, content: bytes, client: str = "") -> ScanReport:
        """Never raises for what is in the message: what cannot be read is a finding ``unreadable`` (law 3).

        ``client`` is the name of the configured client whose mail it is: operators may tune the scan for it.
        """


class PolicyEngine(Protocol):
    """The running policy."""

    @property
    def version(self) -> str:
        """SHA-256 of the canonical form with the contents of its lists, hex."""

    def decide(self, facts: MessageFacts, recipient: Address) -> PolicyDecision:
        """Judge one recipient's copy. Never raises: an error holds the message and is in ``error`` (law 3)."""

    def floor(self, facts: MessageFacts, recipient: Address) -> Level:
        """The floor the running policy gives this copy now; the higher of this and the decided one holds (law 2)."""

    def explain(self, facts: MessageFacts, recipient: Address) -> Explanation:
        """The decision with every condition's value."""


# --- store ------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFilter:
    """What ``postern queue list`` selects; empty fields select all."""

    state: EntryState | None = None
    destination: str = ""
    message_id: str = ""
    recipient: Address | None = None
    due_before: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStats:
    """Figures for metrics and ``postern queue stats``: entries by state and the age of the oldest, in seconds."""

    ready: int
    deferred: int
    held: int
    leased: int
    oldest_created_at: float | None
    bytes: int
    outbox: int
    destinations: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """The audit events of one unit, or of several that were committed together, in their order.

    Attributes:
        seq: rises with commit order.
        events: in order.
        digest: tells rows of one ``seq`` apart, where the store has one: 32 hex digits over the row as it is kept.
    """

    seq: int
    events: tuple[AuditEvent, ...]
    digest: str = ""


class QueueStore(Protocol):
    """The queue. One contract suite holds over every implementation (tests/contract)."""

    async def open(self, incarnation: str) -> None:
        """Open, migrate if needed, register this process under a name unique to its life, free leases of dead ones."""

    async def close(self) -> None:
        """Give back every lease and close."""

    async def commit(self, unit: UnitOfWork) -> None:
        """Apply the changes in one transaction; when this returns they are on disk, fsynced (law 1).

        Raises:
            StoreFullError: less than the reserve would be left.
            StoreUnavailableError: cannot be reached now; whether it was applied has been resolved: it was not.
            StoreError: a lease was lost (fence) or the unit is impossible; nothing of it was applied.
        """

    async def claim(self, *, now: float, limit: int, skip: frozenset[str] = frozenset()) -> Sequence[Claimed]:
        """Lease due entries to this process, urgent first, then the longest due; also those past expiry or warning.

        Destinations in ``skip`` are passed over: another worker serves them, or this one has its hands full of them.
        """

    def holds(self, entry_id: str) -> bool:
        """Whether it is certain that nobody else can have this leased entry in hand: asked before the final dot.

        Asks nobody and costs nothing. Where a lease lasts as long as its process lives the answer is always yes.
        """

    async def release(self, entry_ids: Sequence[str]) -> None:
        """Give leases back unchanged."""

    async def reap(self) -> int:
        """Free the leases of processes that are dead; how many."""

    async def next_due(self, *, after: float) -> float | None:
        """When the next free entry falls due."""

    async def message(self, message_id: str) -> Message | None:
        """A message still in the queue."""

    async def content(self, message_id: str) -> bytes:
        """Its body, opened.

        Raises:
            CorruptError: it does not authenticate.
            StoreError: no such message.
        """

    async def entry(self, entry_id: str) -> QueueEntry | None:
        """An entry still in the queue."""

    async def acquire(self, entry_id: str) -> Claimed | None:
        """Lease one entry for an operator's change, whatever its state and due time.

        ``None`` when it is gone or leased by another.
        """

    def entries(self, where: QueueFilter, *, page: int = 200) -> AsyncIterator[QueueEntry]:
        """Entries in id order, read in short keyset pages."""

    async def recall(self, prefix: str, *, limit: int = 1000) -> Sequence[Remember]:
        """What is remembered under names that begin so and is not past its time, in the order of the names."""

    async def stats(self) -> QueueStats:
        """Figures now."""

    async def outbox(self, *, limit: int) -> Sequence[OutboxRow]:
        """The oldest outbox rows, for the archiver."""

    async def forget_outbox(self, upto_seq: int) -> None:
        """Delete rows that are in a synced segment."""

    async def checkpoint(self) -> None:
        """Housekeeping that one process does for all (WAL checkpoint, incremental vacuum)."""

    def on_ready(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` when an entry may have become due that nobody leases (a hint; polling is the safety net)."""

    # Counters that all workers share: client rates and AUTH failures.

    async def count(self, counter: str, *, window: float, now: float, add: int = 1) -> int:
        """Add to a fixed-window counter; return the sum in the window that ``now`` lies in, this addition included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Something learnt of another domain: its MTA-STS policy, what its servers can do; or what is sealed already.

    No mailbox and no patient's data in the open.

    Attributes:
        kind: ``mta-sts``, ``capability`` and so on.
        name: what it is known of, such as a domain.
        value: as its kind encodes it.
        until: unix seconds; after it the store forgets.
    """

    kind: str
    name: str
    value: bytes
    until: float


Seen: TypeAlias = Known | Literal["anything"] | None
"""What somebody who wants to keep something new saw before: that, nothing, or whatever it is."""


class Knowledge(Protocol):
    """What is known of other domains, shared by all workers; the stores of the queue keep it too."""

    async def known(self, kind: str, name: str) -> Known | None:
        """What is known and not past its time.

        Raises:
            StoreError: it cannot be read now.
        """

    async def learn(self, known: Known, *, over: Seen = "anything", events: tuple[AuditEvent, ...] = ()) -> bool:
        """Keep it, in the place of what was known before; whether it was kept.

        Args:
            known: what to keep.
            over: keep it only while this, by its value, is what is known (``None``: nothing is), so that of several
                processes that go on from the same one alone is told that it did. By itself: in any case.
            events: go to the audit trail in the same commit, if it is kept.

        Raises:
            StoreError: it cannot be kept now.
        """

    async def all_known(self, kind: str, *, after: str = "", limit: int = 200) -> Sequence[Known]:
        """A page of all that is known of a kind and not past its time, in the order of the names."""

    async def forget(self, kind: str, name: str) -> None:
        """Know it no more."""


class Suppressions(Protocol):
    """Mailboxes that get no mail for now, shared by all workers."""

    async def suppress(self, item: Suppression, *, events: tuple[AuditEvent, ...] = ()) -> None:
        """Add it, in the place of an older one for the same mailbox, tenant and stream; ``events`` in the same commit.

        Raises:
            StoreError: it cannot be kept now.
        """

    async def lift(self, address: Address, *, tenant: str, stream: str, exempt_until: float = 0.0) -> bool:
        """Take it off; whether it was on. Until ``exempt_until`` bounces do not put it on again."""

    async def page(self, *, after: str = "", limit: int = 200) -> tuple[Sequence[Suppression], str]:
        """Suppressions in a fixed order, and where the next page begins; empty at the end."""

    async def find(self, address: Address) -> Sequence[Suppression]:
        """All suppressions of one mailbox."""


# --- transport --------------------------------------------------------


class DeliverySession(Protocol):
    """A live connection to one host of a destination, past EHLO (and STARTTLS and AUTH where used)."""

    @property
    def proof(self) -> Proof:
        """What the connection reached."""

    @property
    def features(self) -> PeerFeatures:
        """What the peer offers after TLS."""

    @property
    def alive(self) -> bool:
        """Whether another transaction may be tried on it."""

    async def transact(self, transaction: Transaction) -> TransactionResult:
        """Send one transaction. Never raises for what the peer does; refuses (law 2) below the transaction's floor."""

    async def close(self) -> None:
        """QUIT politely and briefly."""


class ConnectError(Exception):
    """No host of the destination could be used; one failure a host, the last is the one to report."""

    def __init__(self, failures: tuple[Failure, ...]) -> None:
        self.failures = failures
        super().__init__(failures[-1].detail if failures else "no host")


class Connector(Protocol):
    """Finds a destination's hosts and connects to the best that reaches a floor."""

    async def connect(
        self, destination: str, *, floor: Level, tls_failures: int = 0, heed: bool = True
    ) -> DeliverySession:
        """Connect; ``tls_failures`` says how often this copy failed for TLS before.

        Without ``heed`` what the domain publishes of its TLS is passed over; no other copy may go over that session.

        In the clear after a failed handshake only when an earlier attempt failed so too, and only at floor ``CLEAR``.

        Raises:
            ConnectError: with typed failures.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """What a method made of the original: bytes, and the floor their envelope must travel at.

    Attributes:
        content: the bytes.
        floor: the level.
        fate_on_delivery: what a recipient's copy came to once the next hop took the bytes.
        own: they are a message of ours in the place of the original: signed for their own author, and no success of
            theirs is reported as the original's.
    """

    content: bytes
    floor: Level
    fate_on_delivery: FateKind = FateKind.DELIVERED
    own: bool = False


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The method cannot serve this copy, and why.

    Attributes:
        reason: one clause for people.
        cause: the same in one word, for metrics.
    """

    reason: str
    cause: str = "unavailable"


@dataclass(frozen=True, slots=True)
class Ended:
    """The copy met its end elsewhere before it left: recalled in the portal, or past its time there."""

    fate: FateKind
    why: str


@runtime_checkable
class Method(Protocol):
    """One way to protect a copy."""

    @property
    def name(self) -> MethodName:
        """Which."""

    async def render(self, entry: QueueEntry, message: Message, content: bytes) -> Rendering | Unavailable | Ended:
        """Turn the untouched original into bytes and a transport floor; idempotent."""


# --- metrics ----------------------------------------------------------


class Metrics(Protocol):
    """Counting, behind names; labels are bounded by the implementation."""

    def count(self, name: str, labels: Mapping[str, str] | None = None, amount: float = 1) -> None:
        """Add to a counter."""

    def observe(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        """Add to a histogram, base units."""

    def set(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        """Set a gauge."""
