"""Faults that only two settings together show: names given twice, things named that do not exist."""

from collections.abc import Hashable, Iterable

from relay.config.document import Document, Location
from relay.config.settings import Settings
from relay.config.types import ROUTE_PREFIX
from relay.core.errors import Problem


def cross_check(settings: Settings, document: Document) -> list[Problem]:
    """Every such fault, at the later of the two places."""
    return [
        *_listeners(settings, document),
        *_routes(settings, document),
        *_tls_rules(settings, document),
        *_dkim(settings, document),
        *_sizes(settings, document),
        *_portal(settings, document),
        *_returns(settings, document),
    ]


def _twice(document: Document, what: str, hint: str, values: Iterable[tuple[Location, Hashable]]) -> list[Problem]:
    seen: dict[Hashable, Location] = {}
    problems = []
    for place, value in values:
        if value in seen:
            first = document.where(seen[value])
            problems.append(
                Problem(where=document.where(place), what=what.format(value), hint=f"{hint}; the other is at {first}")
            )
        seen.setdefault(value, place)
    return problems


def _listeners(settings: Settings, document: Document) -> list[Problem]:
    listeners = list(enumerate(settings.listeners))
    names = [(("listeners", number, "name"), one.name) for number, one in listeners]
    sockets = [
        (("listeners", number, "port"), f"{one.address} port {one.port}") for number, one in listeners if one.port
    ]
    problems = _twice(document, "the listener name {} is given twice", "give each its own name", names)
    problems += _twice(document, "two listeners want {}", "give each its own port or address", sockets)
    admin = settings.admin
    for number, one in listeners:
        if one.port and one.port == admin.port and one.address == admin.address:
            where = document.where(("listeners", number, "port"))
            problems.append(Problem(where=where, what=f"port {one.port} is also admin.port", hint="change one of them"))
    return problems


def _portal(settings: Settings, document: Document) -> list[Problem]:
    portal = settings.portal
    if portal is None or not portal.port:
        return []
    others = [(one.address, one.port, f"the listener {one.name}") for one in settings.listeners]
    others.append((settings.admin.address, settings.admin.port, "admin"))
    where = document.where(("portal", "port"))
    return [
        Problem(where=where, what=f"port {port} of {address} is also wanted by {name}", hint="change one of them")
        for address, port, name in others
        if (address, port) == (portal.address, portal.port)
    ]


def _routes(settings: Settings, document: Document) -> list[Problem]:
    routes = list(enumerate(settings.routes))
    names = [(("routes", number, "name"), one.name) for number, one in routes]
    domains = [
        (("routes", number, "domains", place), domain)
        for number, one in routes
        for place, domain in enumerate(one.domains)
    ]
    problems = _twice(document, "the route name {} is given twice", "give each its own name", names)
    problems += _twice(document, "{} has a route already, so this one is never taken", "keep one", domains)
    for number, one in routes:
        if "*" in one.domains and any(later.domains for _, later in routes[number + 1 :]):
            where = document.where(("routes", number, "domains"))
            problems.append(
                Problem(where=where, what=f"the route {one.name} takes all mail before the routes below it",
                        hint="put the route for * last")
            )  # fmt: skip
    return problems


def _tls_rules(settings: Settings, document: Document) -> list[Problem]:
    known = {f"{ROUTE_PREFIX}{route.name}" for route in settings.routes}
    named = [
        (("tls", "rules", number, "destinations", place), name)
        for number, rule in enumerate(settings.tls.rules)
        for place, name in enumerate(rule.destinations)
    ]
    problems = [
        Problem(where=document.where(place), what=f"{name} is not there", hint="name one that stands under routes")
        for place, name in named
        if name.startswith(ROUTE_PREFIX) and name not in known
    ]
    return problems + _twice(document, "{} has a TLS rule already, so this one never holds", "keep one", named)


def _dkim(settings: Settings, document: Document) -> list[Problem]:
    domains = [(("dkim", "domains", number, "domain"), one.domain) for number, one in enumerate(settings.dkim.domains)]
    selectors = [
        (("dkim", "domains", number, "keys", place, "selector"), f"{key.selector}._domainkey.{one.domain}")
        for number, one in enumerate(settings.dkim.domains)
        for place, key in enumerate(one.keys)
    ]
    problems = _twice(document, "the signing domain {} is given twice", "put all its keys under one", domains)
    return problems + _twice(document, "two keys want the record {}", "give each its own selector", selectors)


def _sizes(settings: Settings, document: Document) -> list[Problem]:
    largest, read, held = settings.limits.message_size, settings.scan.read_size, settings.limits.bytes_in_flight
    problems = []
    if read < largest:
        where = document.where(
            ("scan", "read_size") if document.raw(("scan", "read_size")) else ("limits", "message_size")
        )
        what = "limits.message_size is above scan.read_size: the largest messages would always be unreadable"
        problems.append(Problem(where=where, what=what, hint="make scan.read_size as large at least"))
    if held < largest:
        flight = ("limits", "bytes_in_flight")
        where = document.where(flight if document.raw(flight) else ("limits", "message_size"))
        what = "limits.message_size is above limits.bytes_in_flight: the largest messages could never be taken"
        problems.append(Problem(where=where, what=what, hint="make limits.bytes_in_flight larger"))
    return problems


def _returns(settings: Settings, document: Document) -> list[Problem]:
    """Where every address is a signed one, no other mailbox can be."""
    postmaster = settings.dsn.postmaster.rpartition("@")[2]
    where = document.where(("returns", "domain" if settings.returns.domain == postmaster else "by_sender"))
    if postmaster not in settings.returns.domains:
        return []
    what = f"{postmaster} is also the postmaster's domain: mail to its other addresses would be refused"
    return [Problem(where=where, what=what, hint="use a domain of its own, such as return.clinic.example")]
