"""The simulated Internet: a DNS server, and one mail server a domain, each on a loopback address of its own."""

import contextlib
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from relay.demo.authority import Authority, Certificate
from relay.demo.dns import DnsServer
from relay.demo.peer import Peer
from relay.demo.ports import free_port
from relay.demo.scenario import Domain


class Internet:
    """Runs a scenario's domains. Use as an async context manager; ``peers`` holds them by domain.

    Args:
        authority: who signs the good certificates.
        domains: who is there.
    """

    def __init__(self, authority: Authority, domains: tuple[Domain, ...]) -> None:
        self.domains = domains
        self._authority = authority
        addresses = [_address(number) for number in range(1, len(domains) + 1)]
        self.port = free_port(*addresses)  # one for all, as port 25 is
        self.dns = DnsServer()
        self.peers: dict[str, Peer] = {}
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.dns)
        for number, domain in enumerate(self.domains, start=1):
            address = _address(number)
            behaviour = replace(domain.behaviour, certificate=self._certificate(domain))
            self.peers[domain.name] = await self._stack.enter_async_context(
                Peer(behaviour, host=address, port=self.port)
            )
            host = behaviour.hostname
            self.dns.set(domain.name, {"MX": [f"10 {host}."]})
            self.dns.set(host, {"A": [address]})
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def routes(self) -> list[dict[str, Any]]:
        """Routes for the configuration: the domains that the clinic has agreed a fixed next hop with."""
        return [
            {
                "name": domain.name.partition(".")[0],
                "domains": [domain.name],
                "hosts": [f"{domain.behaviour.hostname}:{self.port}"],
                "internal": True,
            }
            for domain in self.domains
            if domain.route
        ]

    def _certificate(self, domain: Domain) -> Certificate | None:
        host = domain.behaviour.hostname
        if domain.certificate == "none":
            return None
        if domain.certificate == "self-signed":
            return self._authority.issue(host, self_signed=True)
        if domain.certificate == "wrong-name":
            return self._authority.issue("mx.somebody-else.example")
        if domain.certificate == "expired":
            return self._authority.issue(host, expired=True)
        return self._authority.issue(host)


def _address(number: int) -> str:
    return f"127.0.1.{number}"
