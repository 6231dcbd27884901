"""The hosts of a domain, in the order they are tried (RFC 5321 section 5.1, RFC 7505, RFC 6890)."""

import asyncio
import ipaddress
import itertools
import random
from dataclasses import dataclass
from typing import Final

from relay.core.outcome import Failure, Stage, Trouble
from relay.core.ports import ConnectError
from relay.net.resolver import Answer, Found, Resolver
from relay.net.special import AddressGuard

_RANDOM: Final = random.SystemRandom()


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host to try.

    Attributes:
        name: as DNS gives it, lower case, without the final dot; an address literal's own text for a literal.
        addresses: where it listens, in the order to try them.
        secure: its addresses carried the AD bit, CNAMEs on the way included; answers that failed are not asked.
        mx_secure: the answer that named it as the domain's host carried the AD bit.
        canonical: the name at the end of its CNAMEs; its own when there are none.
        literal: it is an address and has no name a certificate could show.
    """

    name: str
    addresses: tuple[str, ...]
    secure: bool = False
    mx_secure: bool = False
    canonical: str = ""
    literal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MxOptions:
    """How hosts are found.

    Attributes:
        own_names: host names that are ourselves.
        own_addresses: IP addresses that are ourselves.
        allowed_networks: special-purpose networks that may be connected to all the same.
        ipv4, ipv6: which families this machine can reach.
        max_hosts: hosts looked up and tried for one destination.
        max_addresses: addresses tried of one host.
    """

    own_names: frozenset[str] = frozenset()
    own_addresses: frozenset[str] = frozenset()
    allowed_networks: tuple[str, ...] = ()
    ipv4: bool = True
    ipv6: bool = True
    max_hosts: int = 10
    max_addresses: int = 4


@dataclass(frozen=True, slots=True)
class _Addresses:
    """What the addresses of one name came to."""

    usable: tuple[str, ...]
    ours: bool
    forbidden: bool
    failed: bool
    secure: bool
    canonical: str


class HostFinder:
    """Finds the hosts of a domain; the randomness inside one preference is ``shuffle``."""

    def __init__(self, resolver: Resolver, options: MxOptions | None = None, *, rng: random.Random = _RANDOM) -> None:
        self._resolver = resolver
        self._options = options or MxOptions()
        self._guard = AddressGuard(self._options.allowed_networks)
        self._own_names = frozenset(name.rstrip(".").lower() for name in self._options.own_names)
        self._own_addresses = frozenset(str(ipaddress.ip_address(text)) for text in self._options.own_addresses)
        self._rng = rng

    async def hosts(self, domain: str) -> tuple[Host, ...]:
        """The hosts of a domain or address literal, best first, at least one.

        Raises:
            ConnectError: with one typed failure: no such domain, null MX, no host, DNS failure, loop, forbidden.
        """
        if domain.startswith("["):
            return (self._literal(domain),)
        answer = await self._resolver.lookup(domain, "MX")
        match answer.found:
            case Found.NXDOMAIN:
                raise _refusal(Trouble.NO_DOMAIN, "the domain does not exist", domain)
            case Found.FAILED:
                raise _refusal(Trouble.DNS, f"MX look-up: {answer.detail}", domain)
            case Found.NODATA:
                return await self._implicit(domain, secure=answer.secure)
        return await self._explicit(domain, answer)

    async def named(self, name: str, *, internal: bool = False) -> Host:
        """A host that an operator configured by name or address: looked up without MX.

        ``internal`` allows it to lie in a special-purpose network; a configured address may in any case.

        Raises:
            ConnectError: it has no address now that may be used.
        """
        try:
            return Host(name=name, addresses=(str(ipaddress.ip_address(name.strip("[]"))),), literal=True)
        except ValueError:
            name = name.rstrip(".").lower()
            found = await self._addresses(name, guarded=not internal)
        if not found.usable and found.forbidden and not internal:
            detail = "the configured host is in a special-purpose network, and its route is not internal"
            raise _refusal(Trouble.FORBIDDEN_ADDRESS, detail, name)
        if not found.usable:
            raise _refusal(Trouble.DNS, "the configured host has no address now", name)
        return Host(name=name, addresses=found.usable, secure=found.secure, canonical=found.canonical)

    def _literal(self, domain: str) -> Host:
        text = domain[1:-1].removeprefix("IPv6:")
        address = _plain(text)
        if address in self._own_addresses:
            raise _refusal(Trouble.LOOP, "the address literal is this server itself", domain)
        if not self._guard.permits(address):
            raise _refusal(Trouble.FORBIDDEN_ADDRESS, "the address literal is in a special-purpose network", domain)
        return Host(name=domain, addresses=(address,), literal=True)

    async def _implicit(self, domain: str, *, secure: bool) -> tuple[Host, ...]:
        """RFC 5321 section 5.1: without MX, the domain itself is the host with preference 0."""
        return await self._reachable(domain, [(0, domain)], secure=secure, implicit=True)

    async def _explicit(self, domain: str, answer: Answer) -> tuple[Host, ...]:
        records = [
            (record.preference, record.exchange.to_text(omit_final_dot=True).lower()) for record in answer.records
        ]
        if all(name in {"", "."} for _, name in records):
            raise _refusal(Trouble.NULL_MX, "the domain accepts no mail (null MX)", domain)
        # RFC 7505 section 3: a null MX beside others is an error of theirs; the others are used.
        records = [(preference, name) for preference, name in records if name not in {"", "."}]
        self._rng.shuffle(records)  # random inside one preference, which the stable sort then keeps
        records.sort(key=lambda record: record[0])
        return await self._reachable(domain, records, secure=answer.secure, implicit=False)

    async def _reachable(
        self, domain: str, records: list[tuple[int, str]], *, secure: bool, implicit: bool
    ) -> tuple[Host, ...]:
        own = min((preference for preference, name in records if name in self._own_names), default=None)
        if own is not None:
            records = [record for record in records if record[0] < own]
        if not records:
            raise _refusal(Trouble.LOOP, "the best MX is this server itself", domain)
        records = records[: self._options.max_hosts]
        found = await asyncio.gather(*(self._addresses(name) for _, name in records))
        ours = min((record[0] for record, one in zip(records, found, strict=True) if one.ours), default=None)
        hosts = tuple(
            Host(name=name, addresses=one.usable, secure=one.secure, mx_secure=secure, canonical=one.canonical)
            for (preference, name), one in zip(records, found, strict=True)
            if one.usable and (ours is None or preference < ours)
        )
        if hosts:
            return hosts
        raise _no_host(domain, found, implicit=implicit)

    async def _addresses(self, name: str, *, guarded: bool = True) -> _Addresses:
        types = [kind for kind, wanted in (("AAAA", self._options.ipv6), ("A", self._options.ipv4)) if wanted]
        answers = await asyncio.gather(*(self._resolver.lookup(name, kind) for kind in types))
        answered = [answer for answer in answers if answer.found is not Found.FAILED]
        # The families in turn (RFC 8305 section 4): many addresses of one that leads nowhere leave room for the other.
        turns = itertools.zip_longest(*([_plain(record.address) for record in answer.records] for answer in answers))
        every = [text for turn in turns for text in turn if text is not None]
        if not guarded:
            usable = every
        else:
            usable = [text for text in every if self._guard.permits(text) and text not in self._own_addresses]
        return _Addresses(
            usable=tuple(usable[: self._options.max_addresses]),
            ours=guarded and any(text in self._own_addresses for text in every),
            forbidden=any(not self._guard.permits(text) for text in every),
            failed=any(answer.found is Found.FAILED for answer in answers),
            # A failure says nothing: it must not make a signed host look unsigned, and so free of its TLSA records.
            secure=bool(answered) and all(answer.secure for answer in answered),
            canonical=next((answer.name for answer in answered if answer.name), name),
        )


def _plain(text: str) -> str:
    """An address as it is compared; an IPv4 address that is written as one of IPv6 is that IPv4 address."""
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _no_host(domain: str, found: list[_Addresses], *, implicit: bool) -> ConnectError:
    """Why no host is left; what may pass by itself is named before what may not."""
    if any(one.failed for one in found):
        return _refusal(Trouble.DNS, "the addresses of its mail servers could not be looked up", domain)
    if any(one.ours for one in found):
        return _refusal(Trouble.LOOP, "the best MX is this server itself", domain)
    if any(one.forbidden for one in found):
        return _refusal(Trouble.FORBIDDEN_ADDRESS, "its mail servers are in special-purpose networks", domain)
    what = "the domain has neither MX nor address" if implicit else "none of its MX hosts has an address"
    return _refusal(Trouble.NO_HOST, what, domain)


def _refusal(trouble: Trouble, detail: str, host: str) -> ConnectError:
    return ConnectError((Failure(trouble=trouble, stage=Stage.DNS, detail=detail, host=host),))
