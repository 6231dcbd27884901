"""What one mail transaction has gathered on the server's side (RFC 5321 section 3.3)."""

from enum import Enum, auto
from typing import Final

from relay.core.envelope import Envelope, Recipient
from relay.smtp.endofdata import DataReader
from relay.smtp.server_events import Mail
from relay.smtp.server_limits import SessionLimits

_OVERSHOOT: Final = 1000
"""Recipients over the limit that a client may still name: it comes again with them (RFC 5321 section 4.5.3.1.10)."""


class Over(Enum):
    """What one recipient too many is."""

    FIRST = auto()
    """The first of this transaction: to be told of."""
    AGAIN = auto()
    """One of those that are not told of: a list may be long."""
    ENDLESS = auto()
    """One of a list without an end: an error."""


class OpenTransaction:
    """Empty until MAIL is granted, and again once the message is whole or forgotten.

    Attributes:
        sender: what MAIL said.
        recipients: those that were granted.
        data: reads the message.
    """

    __slots__ = ("_over", "data", "recipients", "sender")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget it (RFC 5321 section 4.1.4: RSET, HELO, EHLO and the end of a message do)."""
        self.sender: Mail | None = None
        self.recipients: list[Recipient] = []
        self.data: DataReader | None = None
        self._over = 0

    @property
    def held(self) -> int:
        """Octets of the message in memory."""
        return self.data.held if self.data is not None else 0

    @property
    def smtputf8(self) -> bool:
        """Whether addresses may be international (RFC 6531)."""
        return self.sender is not None and self.sender.smtputf8

    def one_over(self) -> Over:
        """One recipient too many was named."""
        self._over += 1
        if self._over > _OVERSHOOT:
            return Over.ENDLESS
        return Over.FIRST if self._over == 1 else Over.AGAIN

    def begin_data(self, limits: SessionLimits, max_size: int) -> None:
        """Read the message from here on."""
        self.data = DataReader(max_size=max_size, max_line=limits.max_line, bare_newlines=limits.bare_newlines)

    def envelope(self) -> Envelope:
        """Who sends the message to whom.

        Raises:
            RuntimeError: nobody does.
        """
        sender = self.sender
        if sender is None:
            raise RuntimeError("a message without a sender")
        return Envelope(
            reverse_path=sender.reverse_path,
            recipients=tuple(self.recipients),
            body_8bit=sender.body_8bit,
            smtputf8=sender.smtputf8,
            require_tls=sender.require_tls,
            envelope_id=sender.envelope_id,
            ret=sender.ret,
        )
