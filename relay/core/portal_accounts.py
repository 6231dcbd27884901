"""The vocabulary of who comes to the portal: accounts, what they prove, sessions, devices, limits; and the port.

The mailbox is the account. Whoever reads a code that was mailed to it has shown that they read that mailbox, and no
more; a second factor of their own shows more. Tokens never reach the port: callers hand in their digests, so that
nothing in the database lets anyone in.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from relay.core.address import Address
from relay.core.change import AuditEvent
from relay.core.portal import Deposit, Post


class Factor(StrEnum):
    """What a person may set beside the mailed code."""

    PASSPHRASE = "passphrase"  # noqa: S105  a word, not a secret
    PASSKEY = "passkey"
    TOTP = "totp"


class Assurance(StrEnum):
    """What a session rests on. No NIST assurance level is claimed for any."""

    PENDING = "pending"
    """A mailed code, where a second factor is set that was not given yet: shows nothing."""
    MAILED = "mailed"
    """A code that was mailed to the mailbox."""
    SECOND = "second"
    """A secret of their own with a mailed code or a known device, or a passkey that verified its user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passkey:
    """A WebAuthn credential (W3C Web Authentication Level 3).

    Attributes:
        id: the credential's id, base64url.
        public_key: COSE key, base64url.
        sign_count: as the authenticator last told; 0 when it does not count.
        name: what its owner calls it.
        created_at, used_at: unix seconds; ``None``: not used yet.
    """

    id: str
    public_key: str
    sign_count: int
    name: str
    created_at: float
    used_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What is kept of a mailbox that has been here.

    Attributes:
        mailbox: whose.
        handle: WebAuthn's user handle: 32 random bytes, base64url; says nothing of the mailbox.
        created_at: unix seconds.
        passphrase: an argon2id hash in PHC form; empty: none.
        totp: the shared secret, base32; empty: none.
        totp_step: the last time step that was used: none is used twice (RFC 6238 section 5.2).
        passkeys: in the order they were made.
        hidden_before: deposits from before this moment are hidden since a recovery; 0: none.
        shown_from: senders (look-up keys) who approved meanwhile.
        era: rises when the ways to sign in change, with a recovery, and when all sessions are ended: what was begun
            in an older one, a mailed code with it, leads nowhere any more.
        version: rises with every change.
    """

    mailbox: Address
    handle: str
    created_at: float
    passphrase: str = field(default="", repr=False)
    totp: str = field(default="", repr=False)
    totp_step: int = 0
    passkeys: tuple[Passkey, ...] = ()
    hidden_before: float = 0.0
    shown_from: tuple[str, ...] = ()
    era: int = 0
    version: int = 0

    @property
    def factors(self) -> frozenset[Factor]:
        """What is set."""
        there = {Factor.PASSPHRASE: self.passphrase, Factor.TOTP: self.totp, Factor.PASSKEY: self.passkeys}
        return frozenset(factor for factor, value in there.items() if value)

    def may_see(self, deposit: Deposit) -> bool:
        """Whether no recovery hides it."""
        if deposit.deposited_at >= self.hidden_before:
            return True
        sender = deposit.sender.address
        return sender is not None and sender.key in self.shown_from


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One signed-in browser.

    Attributes:
        key: the digest of its token: what the store knows it by.
        mailbox: whose.
        assurance: what it rests on.
        device: the id of the device; empty while pending.
        tenant: of the message that led here: whose pages they look like.
        grants: scopes of shared secrets that were given in this session.
        created_at, seen_at: unix seconds.
        expires_at: its end however busy it is.
        locked: nobody has used it for too long: it shows nothing, and only lets a draft be kept.
    """

    key: str
    mailbox: Address
    assurance: Assurance
    device: str = ""
    tenant: str = ""
    grants: frozenset[str] = frozenset()
    created_at: float
    seen_at: float
    expires_at: float
    locked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A browser that has signed in for a mailbox.

    Attributes:
        id: shown in forms: random, gives no right.
        token: the digest of what its cookie holds.
        name: such as ``Firefox on Android``.
        first_seen, last_seen: unix seconds.
    """

    id: str
    token: str
    name: str
    first_seen: float
    last_seen: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """A mailed code that waits for its answer.

    Attributes:
        visit: the digest of the browser's cookie: no other browser can use the code.
        subject: the deposit it was asked for; empty when it was asked for at the sign-in page.
        mailbox: whose; ``None`` where there is no such account: it is kept all the same, and no code fits it.
        code: the digits.
        tries: how many wrong answers it bears.
        made_at, expires_at: unix seconds.
    """

    visit: str
    subject: str
    mailbox: Address | None
    code: str = field(repr=False)
    tries: int
    made_at: float
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Redemption:
    """What became of an answer to a code.

    Attributes:
        mailbox: whose code it was, if it fitted; else ``None``.
        tries: how many wrong answers the code bears after this one; 0 when there is none any more.
    """

    mailbox: Address | None = None
    tries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How often something may happen: at most ``most`` times in a window of ``window`` seconds.

    Attributes:
        name: which limit: a word for metrics and logs.
        key: of whom: a mailbox, network or message; only its digest is stored.
    """

    name: str
    key: str
    most: int
    window: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedSecret:
    """A secret set by the sender or the clinic, for one deposit or for all that a tenant sends a mailbox.

    Attributes:
        scope: what it opens: ``deposit:ID`` or ``tenant:NAME``.
        verifier: argon2id, PHC form.
    """

    scope: str
    verifier: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plea:
    """After a recovery: what a sender is asked to approve.

    Attributes:
        token: the digest of what the sender's link holds.
        mailbox: who recovered.
        sender: the look-up key of who is asked.
        hidden_before: of the recovery; an older one's plea has lapsed.
        expires_at: unix seconds.
    """

    token: str
    mailbox: Address
    sender: str
    hidden_before: float
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Whom a change is told: mail and audit events, written in the same transaction."""

    posts: tuple[Post, ...] = ()
    events: tuple[AuditEvent, ...] = ()


UNTOLD: Final = Told()


class Accounts(Protocol):
    """Who comes to the portal. Every method is one transaction; times are arguments.

    Raises ``StoreUnavailableError`` while the database is away.
    """

    # --- limits

    async def allow(self, limits: Sequence[Limit], *, now: float) -> Limit | None:
        """Count one more under each of the limits, or under none: the first that is reached, else ``None``."""

    async def use_once(self, nonce: str, *, until: float) -> bool:
        """Whether this is the first time that this is used; kept until then."""

    async def is_used(self, nonce: str) -> bool:
        """Whether it was used."""

    # --- codes

    async def challenge(
        self, challenge: Challenge, *, again_after: float, limits: Sequence[Limit] = (), told: Told = UNTOLD
    ) -> Limit | None:
        """Keep it in the place of an older one for the same visit and subject, and tell; the limit that forbids it.

        While one stands that was made less than ``again_after`` seconds ago nothing happens and nothing is counted.
        """

    async def redeem(self, visit: str, subject: str, code: str, *, now: float) -> Redemption:
        """Use up the code if it fits, in time, for this visit and subject, and the first time.

        A wrong answer takes one of its tries. A code that was made in an older era of the account fits nothing.
        """

    # --- accounts

    async def account(self, mailbox: Address) -> Account | None:
        """The account of a mailbox."""

    async def account_of(self, handle: str) -> Account | None:
        """The account with this WebAuthn user handle."""

    async def save(self, account: Account, *, told: Told = UNTOLD, end_sessions: str | None = None) -> Account | None:
        """Store it if nobody has changed it since it was read: with its new version, or ``None``.

        Version 0 is a new account. ``end_sessions``: end all sessions of the mailbox but the one with this key, forget
        all devices but that session's, and begin a new era.
        """

    # --- sessions and devices

    async def start(
        self,
        session: Session,
        *,
        device: Device | None = None,
        replaces: str = "",
        told: Told = UNTOLD,
        era: int | None = None,
    ) -> bool:
        """Keep a new session, and the device if it is new; the session ``replaces`` ends.

        ``era``: of the account when its owner proved themselves; if another has begun since, nothing is kept. Whether
        it was. A mailbox has 20 sessions and devices at the most: the one that was unused for longest makes room.
        """

    async def session(self, key: str, *, now: float) -> Session | None:
        """The session, unless its end has come."""

    async def seen(self, key: str, *, at: float) -> None:
        """It was used."""

    async def grant(self, key: str, scope: str) -> None:
        """Its owner gave the shared secret of this scope."""

    async def end(self, key: str) -> None:
        """End it."""

    async def end_all(self, mailbox: Address, *, told: Told = UNTOLD) -> int:
        """End all sessions of a mailbox, forget its devices and begin a new era; how many sessions there were."""

    async def devices(self, mailbox: Address) -> Sequence[Device]:
        """All known devices of a mailbox, last seen first."""

    async def device(self, mailbox: Address, token: str) -> Device | None:
        """The device with this token, if it is this mailbox's."""

    async def forget_device(self, mailbox: Address, device_id: str, *, told: Told = UNTOLD) -> bool:
        """Forget the device and end its sessions; whether there was one."""

    # --- shared secrets

    async def set_shared(self, mailbox: Address, secret: SharedSecret, *, told: Told = UNTOLD) -> None:
        """Set it, in the place of an older one; all tries are left again."""

    async def shared(self, mailbox: Address, scopes: Sequence[str]) -> SharedSecret | None:
        """The first of these that is set."""

    async def try_shared(self, mailbox: Address, scope: str, *, most: int) -> bool:
        """Count a try before it is judged; whether there was one left."""

    async def clear_shared(self, mailbox: Address, scope: str) -> None:
        """It was given rightly, or the clinic allows it: all tries are left again."""

    # --- recovery

    async def plead(self, pleas: Sequence[Plea], *, told: Told = UNTOLD) -> None:
        """Keep what senders are asked."""

    async def plea(self, token: str, *, now: float) -> Plea | None:
        """What the sender with this link is asked."""

    async def answer(self, token: str, *, now: float, told: Told = UNTOLD) -> bool:
        """The sender approves: their older messages show again, and the plea is used up."""

    # --- housekeeping

    async def sweep(self, *, now: float) -> int:
        """Delete what is past its time; how many rows."""
