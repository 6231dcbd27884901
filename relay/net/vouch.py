"""Who vouches that a host is the right one for a domain, and what its connection must reach (RFC 7672, RFC 8461)."""

from typing import Final, Protocol

from relay.core.errors import StoreError
from relay.core.level import Level, Voucher
from relay.core.outcome import Failure, Stage, Trouble
from relay.net.assurance import NOTHING, Assurance
from relay.net.dane import TlsaFinder
from relay.net.handshake import HostError
from relay.net.mta_sts import PolicyCache
from relay.net.mx import Host
from relay.trust.dane import Tlsa
from relay.trust.mta_sts import Mode, Policy
from relay.trust.sessions import NO_POLICY, AppliedPolicy, Fault
from relay.trust.tlsrpt import PolicyType, ResultType

_UNUSABLE: Final = Fault(result=ResultType.TLSA_INVALID, detail="none of its TLSA records can be used")
_NOT_NAMED: Final = "the domain's MTA-STS policy does not name this host"


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
            fault = Fault(result=ResultType.DNSSEC_INVALID, detail=tlsa.failed)
            failure = Failure(trouble=Trouble.DNS, stage=Stage.DNS, detail=tlsa.failed, host=host.name)
            raise HostError(failure, fault=fault, policy=AppliedPolicy(kind=PolicyType.TLSA, mx=(host.name,)))
        if tlsa is not None and tlsa.records:
            names = tuple(dict.fromkeys((tlsa.base, host.name, domain)))
            why = "its TLSA records ask for a certificate that matches"
            return Assurance(
                voucher=Voucher.DANE, floor=Level.AUTHENTICATED, why=why, tlsa=tlsa.records, names=names,
                sni=tlsa.base, dane="usable", policy=_tlsa_policy(host, tlsa.records),
            )  # fmt: skip
        unusable = tlsa is not None and tlsa.present
        policy, breach = await self._policy(domain, host)
        applied = self._applied(policy, breach)
        if unusable and policy is None:
            applied, breach = AppliedPolicy(kind=PolicyType.TLSA, mx=(host.name,)), _UNUSABLE
        mode = policy.mode if policy is not None else None
        enforced = mode is Mode.ENFORCE
        voucher = Voucher.MTA_STS if enforced else Voucher.DNSSEC if self._mx and host.mx_secure else Voucher.NOBODY
        floor = Level.AUTHENTICATED if enforced else Level.ENCRYPTED if unusable else Level.CLEAR
        why = "the domain's MTA-STS policy asks for it" if enforced else "its TLSA records ask for TLS"
        return Assurance(
            voucher=voucher, floor=floor, why=why if floor else "",
            mta_sts=mode.value if mode is not None else "", dane="unusable" if unusable else "",
            policy=applied, breach=breach,
        )  # fmt: skip

    def _applied(self, policy: Policy | None, breach: Fault | None) -> AppliedPolicy | None:
        """What a report is to say of the domain's policy; nothing where nobody looked for one."""
        if self._mta_sts is None:
            return None
        if policy is not None:
            return _sts_policy(policy)
        return AppliedPolicy(kind=PolicyType.STS) if breach is not None else NO_POLICY

    async def _policy(self, domain: str, host: Host) -> tuple[Policy | None, Fault | None]:
        """The domain's policy, and how it or the host fails: it cannot be had, or does not name the host.

        Raises:
            HostError: an enforced policy does not name the host, or what is known cannot be read.
        """
        if self._mta_sts is None:
            return None, None
        try:
            policy = await self._mta_sts.policy(domain)
        except StoreError as error:
            detail = "what is known of the domain's MTA-STS policy cannot be read now"
            failure = Failure(trouble=Trouble.LOCAL, stage=Stage.DNS, detail=detail, host=host.name)
            raise HostError(failure) from error
        if policy is None:
            return None, self._mta_sts.fault(domain)
        if policy.admits(host.name):
            return policy, None
        breach = Fault(result=ResultType.VALIDATION_FAILURE, detail=_NOT_NAMED)
        if policy.mode is Mode.ENFORCE:
            failure = Failure(trouble=Trouble.BELOW_FLOOR, stage=Stage.DNS, detail=_NOT_NAMED, host=host.name)
            raise HostError(failure, fault=breach, policy=_sts_policy(policy))
        return policy, breach


def _tlsa_policy(host: Host, records: tuple[Tlsa, ...]) -> AppliedPolicy:
    strings = tuple(f"{one.usage} {one.selector} {one.matching} {one.data.hex()}" for one in records)
    return AppliedPolicy(kind=PolicyType.TLSA, strings=strings, mx=(host.name,))


def _sts_policy(policy: Policy) -> AppliedPolicy:
    return AppliedPolicy(kind=PolicyType.STS, strings=tuple(policy.text().splitlines()), mx=policy.mx)
