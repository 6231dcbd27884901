"""How a peer of the simulated Internet acts, and what it remembers of each message."""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from relay.demo.authority import Certificate

KEYWORDS: Final = ("PIPELINING", "SIZE 52428800", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")
"""What a peer offers in EHLO unless told otherwise; STARTTLS and AUTH come by themselves."""


class StartTls(StrEnum):
    """What becomes of STARTTLS."""

    OFFERED = "offered"
    ABSENT = "absent"
    """Not offered, answered 502."""
    REFUSED = "refused"
    """Offered, answered 454 4.7.0 (RFC 3207 section 4)."""
    BROKEN = "broken"
    """Offered, answered 220; then comes something that is not TLS."""
    CLOSES = "closes"
    """Offered, answered 220, then the connection ends."""
    STALLS = "stalls"
    """Offered, answered 220, then nothing more."""
    INJECTS = "injects"
    """Offered, answered 220 with further replies in the same clear packet, as an attacker on the wire would."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Greylist:
    """Refuse a new pair of sender and recipient at first.

    Attributes:
        attempts: how many first attempts are refused.
        seconds: and none is taken sooner than this after the first.
        reply: the refusal.
    """

    attempts: int = 1
    seconds: float = 0.0
    reply: str = "451 4.7.1 Greylisted, come back later"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedMessage:
    """One message that the peer took, or answered at its end with another final reply.

    Attributes:
        sender: the argument of MAIL FROM without brackets.
        recipients: those that were accepted, without brackets.
        content: the bytes between DATA and the final dot, dot-stuffing undone.
        parameters: what followed MAIL FROM's path, in upper case.
        recipient_parameters: what followed RCPT TO's path, by recipient, as written.
        tls_version: such as ``TLSv1.3``; empty in the clear.
        helo: what the client called itself.
        identity: whom it authenticated as; empty when not.
        connection: number of the connection, from 1.
        reply: the final reply that was given.
        at: unix seconds.
    """

    sender: str
    recipients: tuple[str, ...]
    content: bytes = field(repr=False)
    parameters: tuple[str, ...] = ()
    recipient_parameters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tls_version: str = ""
    helo: str = ""
    identity: str = ""
    connection: int = 0
    reply: str = ""
    at: float = 0.0

    @property
    def clear(self) -> bool:
        """Whether it travelled without TLS."""
        return not self.tls_version


RecipientReply = Mapping[str, str] | Callable[[str], str | None]
FinalReply = str | Callable[[ReceivedMessage], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerBehaviour:
    """How a peer acts. Replies are whole, ``"550 5.1.1 No such user"``; a line feed parts lines.

    Attributes:
        hostname: what it calls itself.
        banner: the greeting; empty: ``220 HOSTNAME ESMTP``.
        keywords: what EHLO offers.
        starttls: what becomes of STARTTLS.
        certificate: for TLS; without one STARTTLS is not offered.
        minimum_tls, maximum_tls: versions it speaks.
        implicit_tls: TLS from the first byte.
        client_root: PEM of roots; set, a client certificate is asked for (and checked if it is given).
        credentials: user to password; AUTH PLAIN and LOGIN are offered when there are any.
        auth_in_clear: offer AUTH without TLS too.
        ehlo: the reply to EHLO in place of the usual one, as of servers that know HELO alone.
        mail: the reply to MAIL FROM.
        recipients: replies by recipient; those it does not name (or answers ``None``) are accepted.
        greylist: refuse at first.
        data: the reply to DATA.
        final: the reply to the final dot; messages count as taken when it is positive.
        delay: seconds before each reply.
        drop_at: end the connection in place of this reply: ``banner``, ``ehlo``, ``starttls``, ``auth``, ``mail``,
            ``rcpt``, ``data``, ``body`` (once some of the body came) or ``final`` (after the final dot).
        stall_at: never send this reply.
        connections, then: after this many connections, act as ``then`` says.
    """

    hostname: str = "peer.example"
    banner: str = ""
    keywords: tuple[str, ...] = KEYWORDS
    starttls: StartTls = StartTls.OFFERED
    certificate: Certificate | None = None
    minimum_tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    maximum_tls: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED
    implicit_tls: bool = False
    client_root: Path | None = None
    credentials: Mapping[str, str] = field(default_factory=dict)
    auth_in_clear: bool = False
    ehlo: str = ""
    mail: str = "250 2.1.0 Ok"
    recipients: RecipientReply = field(default_factory=dict)
    greylist: Greylist | None = None
    data: str = "354 End data with <CR><LF>.<CR><LF>"
    final: FinalReply = "250 2.0.0 Ok: taken"
    delay: float = 0.0
    drop_at: str = ""
    stall_at: str = ""
    connections: int = 0
    then: "PeerBehaviour | None" = None
