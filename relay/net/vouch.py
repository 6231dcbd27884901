"""Who vouches that a host is the right one for a domain, and what its connection must reach (RFC 7672, RFC 8461)."""

from typing import Protocol

from relay.core.errors import StoreError
from relay.core.level import Level, Voucher
from relay.core.outcome import Failure, Stage, Trouble
from relay.net.assurance import NOTHING, Assurance
from relay.net.dane import TlsaFinder
from relay.net.handshake import HostError
from relay.net.mta_sts import PolicyCache
from relay.net.mx import Host
from relay.trust.mta_sts import Mode


class Vouching(Protocol):
    """Asked once a host before it is connected to; static routes vouch for themselves and do not ask."""

    async def vouch(self, domain: str, host: Host, port: int) -> Assurance:
        """What is known of this host.

        Raises:
            HostError: it must not be used now: no look-up of its TLSA records, or the domain's policy excludes it.
        """


class Nobody:
    """Vouches for nothing: an MX answer alone proves no name."""

    async def vouch(self, domain: str, host: Host, port: int) -> Assurance:  # noqa: ARG002  the interface's arguments
        """Nobody does."""
        return NOTHING


class Vouchers:
    """DANE first, then MTA-STS, then a DNSSEC-secure MX answer.

    Usable TLSA records decide alone, so that MTA-STS never overrides a failing DANE check (RFC 8461 section 2). ``mx``
    says whether a signed MX answer vouches.
    """

    def __init__(self, *, dane: TlsaFinder | None, mta_sts: PolicyCache | None, mx: bool = True) -> None:
        self._dane = dane
        self._mx = mx
        self._mta_sts = mta_sts

    async def vouch(self, domain: str, host: Host, port: int) -> Assurance:
        """What is known of this host.

        Raises:
            HostError: as for :class:`Vouching`, or what is known cannot be read now.
        """
        if host.literal:
            return NOTHING
        tlsa = await self._dane.find(host, port) if self._dane is not None else None
        if tlsa is not None and tlsa.failed:
            raise HostError(Failure(trouble=Trouble.DNS, stage=Stage.DNS, detail=tlsa.failed, host=host.name))
        if tlsa is not None and tlsa.records:
            names = tuple(dict.fromkeys((tlsa.base, host.name, domain)))
            why = "its TLSA records ask for a certificate that matches"
            return Assurance(
                voucher=Voucher.DANE, floor=Level.AUTHENTICATED, why=why, tlsa=tlsa.records, names=names,
                sni=tlsa.base, dane="usable",
            )  # fmt: skip
        unusable = tlsa is not None and tlsa.present
        mode = await self._mode(domain, host)
        enforced = mode is Mode.ENFORCE
        voucher = Voucher.MTA_STS if enforced else Voucher.DNSSEC if self._mx and host.mx_secure else Voucher.NOBODY
        floor = Level.AUTHENTICATED if enforced else Level.ENCRYPTED if unusable else Level.CLEAR
        why = "the domain's MTA-STS policy asks for it" if enforced else "its TLSA records ask for TLS"
        return Assurance(
            voucher=voucher, floor=floor, why=why if floor else "",
            mta_sts=mode.value if mode is not None else "", dane="unusable" if unusable else "",
        )  # fmt: skip

    async def _mode(self, domain: str, host: Host) -> Mode | None:
        """The mode of the domain's policy.

        Raises:
            HostError: an enforced policy does not name the host, or what is known cannot be read.
        """
        if self._mta_sts is None:
            return None
        try:
            policy = await self._mta_sts.policy(domain)
        except StoreError as error:
            detail = "what is known of the domain's MTA-STS policy cannot be read now"
            failure = Failure(trouble=Trouble.LOCAL, stage=Stage.DNS, detail=detail, host=host.name)
            raise HostError(failure) from error
        if policy is None:
            return None
        if policy.mode is Mode.ENFORCE and not policy.admits(host.name):
            detail = "the domain's MTA-STS policy does not name this host"
            raise HostError(Failure(trouble=Trouble.BELOW_FLOOR, stage=Stage.DNS, detail=detail, host=host.name))
        return policy.mode
