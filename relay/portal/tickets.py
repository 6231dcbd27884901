"""Tickets: what a page needs again from its own form, sealed into it, so that a GET writes nothing."""

import base64
import binascii
from dataclasses import dataclass
from typing import Final

import orjson

from relay.core.errors import SealError
from relay.core.ports import Clock, Vault
from relay.portal.tokens import Entropy, new_token

_PURPOSE: Final = "portal-ticket"
_MAX: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """An opened ticket.

    Attributes:
        value: what was sealed.
        nonce: to be used once (``Accounts.use_once``).
        until: unix seconds.
    """

    value: str
    nonce: str
    until: float


class Tickets:
    """Seals and opens tickets. A ticket is bound to a use and to a browser, and ends."""

    def __init__(self, vault: Vault, clock: Clock, entropy: Entropy, *, life: float) -> None:
        """Take what it works with.

        Args:
            vault: of the portal's key ring.
            clock: unix seconds.
            entropy: for nonces.
            life: seconds that a ticket holds.
        """
        self._vault = vault
        self._clock = clock
        self._entropy = entropy
        self._life = life

    def seal(self, use: str, holder: str, value: str) -> str:
        """A ticket for this use by this holder: the digest of a session or a visit."""
        document = {"value": value, "nonce": new_token(self._entropy), "until": self._clock() + self._life}
        sealed = self._vault.seal(_PURPOSE, f"{use}\0{holder}", orjson.dumps(document))
        return base64.urlsafe_b64encode(sealed).decode("ascii")

    def open(self, use: str, holder: str, ticket: str) -> Ticket | None:
        """What was sealed for this use and holder, if its time has not passed."""
        if len(ticket) > _MAX:
            return None
        try:
            sealed = base64.b64decode(ticket, altchars=b"-_", validate=True)
            opened = Ticket(**orjson.loads(self._vault.open(_PURPOSE, f"{use}\0{holder}", sealed)))
        except (binascii.Error, ValueError, SealError):
            return None
        return opened if self._clock() < opened.until else None
