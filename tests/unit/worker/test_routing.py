"""The first route of the configuration that matches a domain is taken, and its floor goes with it."""

from hypothesis import given
from hypothesis import strategies as st

from relay.core.address import Address
from relay.core.level import Level
from relay.delivery.routing import Route, RouteTable

DOMAINS = ("a.example", "b.a.example", "c.b.a.example", "other.example")
PATTERNS = (*DOMAINS, "*.a.example", "*.b.a.example", "*.example", "*")


def matches(pattern, domain):
    if pattern == "*":
        return True
    return domain.endswith(pattern[1:]) if pattern.startswith("*.") else domain == pattern


@given(st.lists(st.lists(st.sampled_from(PATTERNS), max_size=3), max_size=5), st.sampled_from(DOMAINS))
def test_the_first_that_matches_is_taken(routes, domain):
    table = RouteTable(tuple(Route(name=f"r{number}", domains=tuple(domains)) for number, domains in enumerate(routes)))
    expected = next(
        (f"route:r{number}" for number, domains in enumerate(routes) if any(matches(one, domain) for one in domains)),
        domain,
    )
    assert table.destination(Address("bob", domain)) == expected


def test_the_policy_names_a_route_before_the_domain_does():
    table = RouteTable((Route(name="all", domains=("*",)), Route(name="named", domains=())))
    bob = Address("bob", "mail.example")
    assert table.destination(bob, "named") == "route:named"
    assert table.destination(bob, "gone") == "route:gone", "never another way than the one that was decided"
    assert RouteTable(()).destination(bob, "gone") == "route:gone"


def test_a_destination_has_the_floor_of_its_own_route_alone():
    table = RouteTable((Route(name="x", domains=("x.example",), floor=Level.AUTHENTICATED),))
    assert table.floor("route:x") is Level.AUTHENTICATED
    assert table.floor("x.example") is Level.CLEAR
    assert table.floor("route:gone") is Level.CLEAR
    assert table.route_of("route:gone") is None


def test_a_domain_that_is_called_like_a_route_is_not_that_route():
    table = RouteTable((Route(name="mercy.example", domains=(), floor=Level.AUTHENTICATED),))
    assert table.destination(Address("bob", "mercy.example")) == "mercy.example"
    assert table.route_of("mercy.example") is None
    assert table.floor("mercy.example") is Level.CLEAR
