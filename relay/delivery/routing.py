"""Where a recipient's copy goes first: a fixed route, or the domain's own mail servers."""

from dataclasses import dataclass
from typing import Final

from relay.core.address import Address
from relay.core.level import Level

ROUTE_PREFIX: Final = "route:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A fixed next hop.

    Attributes:
        name: as policies and logs call it.
        domains: recipient domains it serves: exact, ``*.x`` for what is below x, or ``*``.
        internal: lies inside the organisation's own network: our own DSNs may take it at any level.
        floor: the least that its connection must reach, whatever the copy's own floor.
    """

    name: str
    domains: tuple[str, ...]
    internal: bool = False
    floor: Level = Level.VERIFIED


class RouteTable:
    """All routes, in the order of the configuration: the first that matches a domain is taken."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self._by_name = {route.name: route for route in routes}
        self._exact: dict[str, Route] = {}
        self._patterns: list[tuple[int, str, Route]] = []
        self._order = {route.name: number for number, route in enumerate(routes)}
        for number, route in enumerate(routes):
            for pattern in route.domains:
                if pattern.startswith("*"):
                    self._patterns.append((number, pattern[1:], route))
                else:
                    self._exact.setdefault(pattern, route)

    def destination(self, address: Address, route: str = "") -> str:
        """The queue's key for a recipient: ``route:NAME``, or the domain when no route serves it.

        A route that the policy names and nobody configured is the key all the same: such mail waits, alerted, for its
        route; it never takes another way than the one that was decided (law 3).

        Args:
            address: the recipient.
            route: the route that the policy names, or empty.
        """
        if route:
            return f"{ROUTE_PREFIX}{route}"
        found = self._matching(address.domain)
        return f"{ROUTE_PREFIX}{found.name}" if found else address.domain

    def route_of(self, destination: str) -> Route | None:
        """The route behind a destination key; ``None`` for a domain, or a route that is no longer configured."""
        if not destination.startswith(ROUTE_PREFIX):
            return None
        return self._by_name.get(destination.removeprefix(ROUTE_PREFIX))

    def floor(self, destination: str) -> Level:
        """The least that a destination's own route asks; ``CLEAR`` where there is no route."""
        route = self.route_of(destination)
        return route.floor if route is not None else Level.CLEAR

    def _matching(self, domain: str) -> Route | None:
        best = self._exact.get(domain)
        rank = self._order[best.name] if best else len(self._order)
        for number, suffix, route in self._patterns:
            if number >= rank:
                break
            if domain.endswith(suffix):
                return route
        return best
