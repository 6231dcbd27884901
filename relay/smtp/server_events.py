"""What a server session reports to whoever drives it.

:class:`AuthRequest`, :class:`Mail`, :class:`Rcpt`, :class:`MessageComplete` and :class:`Turn` are questions: the
session stands still until :meth:`relay.smtp.server.ServerSession.reply` answers. The others only tell.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

from relay.core.address import ReversePath
from relay.core.envelope import Envelope, Recipient
from relay.core.reply import Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Helo:
    """The peer named itself. ``extended``: with EHLO. The name is neutered: printable, bounded, unverified."""

    name: str
    extended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTls:
    """``220`` is in the output: write it, shake hands, then call ``tls_started``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthRequest:
    """Is this the password of this identity? A positive reply makes the session authenticated."""

    mechanism: str
    identity: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """May this sender start a message?

    ``size`` as declared (RFC 1870), 0 when it was not; ``envelope_id`` and ``ret``: ENVID and RET (RFC 3461), or empty.
    """

    reverse_path: ReversePath
    size: int = 0
    body_8bit: bool = False
    smtputf8: bool = False
    require_tls: bool = False
    envelope_id: str = ""
    ret: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rcpt:
    """May the message go there? ``count``: recipients taken so far."""

    recipient: Recipient
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageComplete:
    """A well-formed message within the limits; ``content`` has CRLF line ends and is not dot-stuffed."""

    envelope: Envelope
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Much was sent in one piece, and enough of it was answered for now: may others have their turn first?

    Any reply means: go on.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The session refused something by itself; the reply is in the output already.

    ``verb`` is a command that exists, or empty: what a stranger typed may be anything, and events are logged.
    """

    verb: str
    reply: Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Quit:
    """The peer said QUIT; ``Closed`` follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """The session is over: write the output, close the connection. ``reason`` is one clause for the log."""

    reason: str


Question: TypeAlias = AuthRequest | Mail | Rcpt | MessageComplete | Turn
Event: TypeAlias = Helo | StartTls | Question | Refused | Quit | Closed
