"""What protection a connection reached, as ordered values (law 2)."""

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final


class Level(IntEnum):
    """``CLEAR < ENCRYPTED < VERIFIED < AUTHENTICATED``; a copy may travel only at or above its floor."""

    CLEAR = 0
    ENCRYPTED = 1
    """TLS of at least the minimum version, the peer's identity unproven."""
    VERIFIED = 2
    """A certificate that chains to a trusted root and names the MX host (RFC 6125, RFC 9525)."""
    AUTHENTICATED = 3
    """Verified, and the MX name itself is vouched for; see :class:`Voucher`."""

    @classmethod
    def from_word(cls, word: str) -> "Level":
        """Read a word of a policy file; ``opportunistic`` is a wish, and its floor is ``CLEAR``.

        Raises:
            KeyError: an unknown word.
        """
        return cls.CLEAR if word == "opportunistic" else cls[word.upper()]

    @property
    def word(self) -> str:
        """The word policies, proofs and metrics use."""
        return _WORDS[self]


_WORDS: Final = tuple(level.name.lower() for level in Level)


class Voucher(Enum):
    """Who vouches that the MX host is the right one for the domain."""

    DANE = "dane"
    MTA_STS = "mta-sts"
    DNSSEC = "dnssec"
    ROUTE = "route"
    PIN = "pin"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """How one delivery was protected: what the compliance officer files.

    Attributes:
        level: the level reached, judged on the live connection after its handshake.
        vouched_by: who vouched for the host's name.
        host: the MX or route host name that was connected to.
        address: its IP address.
        tls_version: such as ``TLSv1.3``; empty in the clear.
        cipher: the OpenSSL name of the cipher suite; empty in the clear.
        certificate_sha256: hex fingerprint of the leaf certificate (DER); empty in the clear.
        issuer: the leaf's issuer as an RFC 4514 string; empty in the clear.
        not_after: the leaf's expiry, unix seconds; 0 when unknown.
        failure: why the next level up was not reached; empty when nothing failed.
        downgraded: in the clear although the peer offers TLS, or did: only a copy whose own attempt at it failed before
            may go this way.
        checked_by: what the certificate was checked by: ``PKIX``, ``DANE-EE 3 1 1``, ``pin``; empty: by nothing.
        names: DNS names in the leaf, bounded.
        chain: hex fingerprints (SHA-256, DER) of all certificates as the server sent them, the leaf first.
    """

    level: Level
    vouched_by: Voucher = Voucher.NOBODY
    host: str = ""
    address: str = ""
    tls_version: str = ""
    cipher: str = ""
    certificate_sha256: str = ""
    issuer: str = ""
    not_after: float = 0.0
    failure: str = ""
    downgraded: bool = False
    checked_by: str = ""
    names: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()
