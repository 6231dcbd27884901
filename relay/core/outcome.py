"""What one attempt led to, recipient by recipient: typed, never a substring of an error text."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from relay.core.envelope import Recipient
from relay.core.level import Level, Proof
from relay.core.reply import EnhancedStatus, Reply


class Stage(StrEnum):
    """Where in an attempt something happened."""

    PLAN = "plan"
    RENDER = "render"
    DNS = "dns"
    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "ehlo"
    TLS = "tls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    FINAL = "final"


class Trouble(StrEnum):
    """The class of what went wrong; ``delivery/trouble.py`` turns each into its one written fate."""

    REPLY = "reply"
    """A server answered 4yz or 5yz; the reply says which."""
    NO_DOMAIN = "no-domain"
    """The domain does not exist (NXDOMAIN)."""
    NULL_MX = "null-mx"
    """The domain accepts no mail (RFC 7505)."""
    NO_HOST = "no-host"
    """The domain exists and has neither MX nor address."""
    DNS = "dns"
    """DNS did not answer, or answered SERVFAIL or bogus."""
    LOOP = "loop"
    """The best MX is ourselves."""
    FORBIDDEN_ADDRESS = "forbidden-address"
    """Every address lies in a special-purpose range (RFC 6890) that is not configured."""
    NETWORK = "network"
    """Refused, unreachable, reset, timed out before the final dot."""
    AMBIGUOUS = "ambiguous"
    """The connection broke after the final dot and before its answer: it may have been taken. Retried."""
    BELOW_FLOOR = "below-floor"
    """No host reached the copy's floor: no STARTTLS, a failed handshake, a certificate that does not verify."""
    PROTOCOL = "protocol"
    """The peer spoke something that is not SMTP, or broke its own promises."""
    UNSUPPORTED = "unsupported"
    """The peer lacks an extension that this message needs (SMTPUTF8: 5.6.7, 8BITMIME: 5.6.3, SIZE: 5.3.4)."""
    UNAVAILABLE = "unavailable"
    """The method is not available for this copy: no key, not configured."""
    SUPPRESSED = "suppressed"
    """The mailbox was suppressed after the message was taken: nothing is sent; the status says why."""
    LOCAL = "local"
    """Something of our own failed (a key, the store): kept, retried, alerted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a recipient, or everything, was not delivered in this attempt.

    Attributes:
        trouble: the class.
        stage: where.
        reply: the server's answer, when there was one (not yet scrubbed).
        detail: one clause for operators, our own words, without patients' data.
        host: the host it happened with, or empty.
        status: the enhanced status that fits where no server gave one (5.6.7, 5.3.4 ...); ``None``: the class's own.
    """

    trouble: Trouble
    stage: Stage
    reply: Reply | None = None
    detail: str = ""
    host: str = ""
    status: EnhancedStatus | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientResult:
    """One recipient's result of one SMTP transaction: a positive reply to the final dot, or a failure."""

    number: int
    reply: Reply | None = None
    failure: Failure | None = None

    @property
    def delivered(self) -> bool:
        """Only a positive answer is final."""
        return self.failure is None and self.reply is not None and self.reply.is_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerFeatures:
    """What a peer's EHLO offered."""

    pipelining: bool = False
    eight_bit_mime: bool = False
    smtputf8: bool = False
    dsn: bool = False
    require_tls: bool = False
    starttls: bool = False
    chunking: bool = False
    size: int | None = None
    """The SIZE it declared (RFC 1870), ``None`` when it declared none or 0."""
    size_offered: bool = False
    """Whether it offers SIZE at all, so that MAIL may carry the parameter (RFC 1870 section 3)."""
    auth: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One MAIL, its RCPTs and one DATA.

    Attributes:
        reverse_path_text: for MAIL FROM, without brackets; empty for the null sender.
        recipients: (number, recipient).
        content: the bytes to send, CRLF line ends, not dot-stuffed.
        floor: the level the live connection must have reached; checked again before MAIL FROM.
        body_8bit, smtputf8, require_tls: parameters to use where the peer offers them.
        fence: asked before the last bytes are sent; ``False``: no final dot is sent, for another may have the copy.
    """

    reverse_path_text: str
    recipients: tuple[tuple[int, Recipient], ...]
    content: bytes = field(repr=False)
    floor: Level
    body_8bit: bool = False
    smtputf8: bool = False
    require_tls: bool = False
    envelope_id: str = ""
    ret: str = ""
    fence: Callable[[], bool] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionResult:
    """Results of one transaction, one a recipient, and the proof of the connection they travelled on."""

    results: tuple[RecipientResult, ...]
    proof: Proof
    reusable: bool = True
    """Whether the session can carry another transaction."""
