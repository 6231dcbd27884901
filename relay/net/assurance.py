"""What is known of a host before it is connected to: who vouches for it, and what its certificate is checked by."""

from dataclasses import dataclass
from typing import Final

from relay.core.level import Level, Voucher
from relay.trust.dane import Tlsa
from relay.trust.sessions import AppliedPolicy, Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Assurance:
    """What is known of a host before it is connected to.

    Attributes:
        voucher: who vouches for its name, should its certificate verify.
        floor: the least that a connection to it must reach, whatever the copy's own floor.
        why: who asks for that floor, one clause for operators; empty when nobody does.
        tlsa: when not empty, its certificate must match one of these, in the place of every other check.
        names: names that its certificate may bear under a DANE-TA record.
        sni: the name to ask for; empty: the host's own.
        pins: when not empty, the SHA-256 of its certificate or of its public key must be one of these.
        mta_sts: the mode of the domain's MTA-STS policy; empty without one.
        dane: what its TLSA records are: ``usable``, ``unusable`` or empty.
        policy: what its domain publishes, for reports; ``None``: sessions with it are not reported.
        breach: how the host, or what is published, fails that policy, whatever its TLS comes to.
    """

    voucher: Voucher = Voucher.NOBODY
    floor: Level = Level.CLEAR
    why: str = ""
    tlsa: tuple[Tlsa, ...] = ()
    names: tuple[str, ...] = ()
    sni: str = ""
    pins: frozenset[str] = frozenset()
    mta_sts: str = ""
    dane: str = ""
    policy: AppliedPolicy | None = None
    breach: Fault | None = None

    @property
    def binds(self) -> bool:
        """Whether records or pins decide on the certificate, and trusted roots do not."""
        return bool(self.tlsa or self.pins)


NOTHING: Final = Assurance()
"""Nobody vouches and nobody asks for more than the copy does."""
