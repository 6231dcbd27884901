"""Looks up the TLSA records of a mail server (RFC 7672 section 2.2): the AD bit decides, a failure defers."""

from dataclasses import dataclass
from typing import Any, Final

from relay.net.mx import Host
from relay.net.resolver import Answer, Found, Resolver
from relay.trust.dane import Tlsa, usable


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsaFinding:
    """What the TLSA look-up of a host came to.

    Attributes:
        base: the name that the records are at, which is also asked for in SNI.
        present: there are records, and DNSSEC vouches for them.
        records: those that can authenticate a server.
        failed: why nothing is known, so that the host must not be used now; empty when something is.
    """

    base: str = ""
    present: bool = False
    records: tuple[Tlsa, ...] = ()
    failed: str = ""


_NONE: Final = TlsaFinding()


class TlsaFinder:
    """Finds TLSA records; of use only over a resolver whose AD bit is believed."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def find(self, host: Host, port: int) -> TlsaFinding:
        """The records of a host that a domain's MX named.

        Nothing is asked for hosts whose own zone is not signed: servers of such zones often fail on TLSA (RFC 7672
        section 2.2.2), and records there would prove nothing.
        """
        if host.literal or not host.mx_secure:
            return _NONE
        for base in await self._bases(host):
            answer = await self._resolver.lookup(f"_{port}._tcp.{base}", "TLSA")
            if answer.found is Found.FAILED:
                return TlsaFinding(base=base, failed=f"its TLSA records cannot be looked up: {answer.detail}")
            if answer.found is Found.FOUND and answer.secure:
                records = tuple(_record(record) for record in answer.records)
                return TlsaFinding(base=base, present=True, records=usable(records))
        return _NONE

    async def _bases(self, host: Host) -> list[str]:
        """Names to look below: the end of the CNAMEs when all are secure, then the host (RFC 7672 section 2.2.2)."""
        if host.secure:
            return list(dict.fromkeys((host.canonical or host.name, host.name)))
        if host.canonical in ("", host.name):
            return []
        alias: Answer = await self._resolver.lookup(host.name, "CNAME")
        return [host.name] if alias.found is Found.FOUND and alias.secure else []


def _record(rdata: Any) -> Tlsa:
    return Tlsa(usage=rdata.usage, selector=rdata.selector, matching=rdata.mtype, data=bytes(rdata.cert))
