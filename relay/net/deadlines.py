"""How long each phase of a connection is waited for (RFC 5321 section 4.5.3.2)."""

from dataclasses import dataclass
from typing import Final

from relay.core.outcome import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Seconds. Those that RFC 5321 section 4.5.3.2 names default to its minimum.

    Attributes:
        connect: TCP connection to one address.
        greeting: 220 (4.5.3.2.1).
        ehlo: the answer to EHLO, and to STARTTLS.
        handshake: the TLS handshake.
        auth: the whole AUTH exchange.
        mail, rcpt: the answers to MAIL and RCPT (4.5.3.2.2, 4.5.3.2.3).
        data: 354 (4.5.3.2.4).
        block: one piece of the message being taken by the network (4.5.3.2.5).
        final: the answer to the final dot (4.5.3.2.6).
        reset: the answer to RSET: it only decides whether the connection is used again.
        quit: the answer to QUIT and the end of the connection.
        attempt: finding hosts and connecting, over all hosts of a destination.
        transaction: one whole transaction, MAIL to the answer to the final dot.
    """

    connect: float = 30.0
    greeting: float = 300.0
    ehlo: float = 300.0
    handshake: float = 60.0
    auth: float = 120.0
    mail: float = 300.0
    rcpt: float = 300.0
    data: float = 120.0
    block: float = 180.0
    final: float = 600.0
    reset: float = 20.0
    quit: float = 5.0
    attempt: float = 900.0
    transaction: float = 3600.0

    def of(self, stage: Stage) -> float:
        """The deadline of a transaction's phase."""
        return getattr(self, _FIELDS[stage])  # type: ignore[no-any-return]  # every field named there is a float


_FIELDS: Final = {Stage.MAIL: "mail", Stage.RCPT: "rcpt", Stage.DATA: "data", Stage.FINAL: "final"}
