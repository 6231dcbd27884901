"""Signed return addresses: ours alone are known again, whatever is done to them, and for their time only."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.address import Address
from relay.protect.keyring import KeyRing
from relay.protect.returnpath import NoReturn, ReturnPath, ReturnPaths

NOW = 1_700_000_000.0
DAY = 86_400.0
DOMAIN = "return.clinic.example"
ENTRY = "01M812TVPXRTDGK76AT9.1"
CHANCE = random.Random(7)


def a_ring():
    return KeyRing.create(now=NOW, random=CHANCE.randbytes)


@pytest.fixture
def rings():
    return [a_ring()]


@pytest.fixture
def paths(rings):
    return ReturnPaths(lambda: rings[-1], 14 * DAY)


def made(paths, number=0, domain=DOMAIN, now=NOW):
    address = paths.make(ENTRY, number, domain, now)
    assert address is not None
    return address


@pytest.mark.parametrize("number", [None, 0, 999_999])
@pytest.mark.parametrize("spelt", [str.lower, str.upper, str])
def test_what_it_makes_it_knows_again_in_any_case(paths, number, spelt):
    address = made(paths, number)
    assert Address.parse(str(address)) == address
    assert len(address.local) <= 64
    got = paths.read(Address.parse(spelt(str(address))), NOW + DAY)
    assert got == ReturnPath(entry_id=ENTRY, number=number, day=int(NOW // DAY))


@given(place=st.integers(0, 53), mark=st.sampled_from("0123456789abcdefghjkmnpqrstvwxyz.-"))
def test_any_other_mark_anywhere_is_forged(place, mark):
    ring = KeyRing.create(now=NOW, random=random.Random(1).randbytes)
    paths = ReturnPaths(lambda: ring, 14 * DAY)
    local = made(paths).local
    changed = local[:place] + mark + local[place + 1 :]
    assert (paths.read(Address(changed, DOMAIN), NOW) is NoReturn.FORGED) is (changed != local)


@given(st.text(max_size=80))
def test_no_local_part_raises(local):
    ring = KeyRing.create(now=NOW, random=random.Random(1).randbytes)
    assert ReturnPaths(lambda: ring, DAY).read(Address(local, DOMAIN), NOW) is NoReturn.FORGED


def test_another_domain_or_installation_did_not_make_it(paths):
    address = made(paths)
    assert paths.read(Address(address.local, "other.example"), NOW) is NoReturn.FORGED
    other = a_ring()
    assert ReturnPaths(lambda: other, DAY).read(address, NOW) is NoReturn.FORGED


def test_it_ends_after_its_lifetime_and_is_never_of_the_future(paths):
    address = made(paths)
    assert isinstance(paths.read(address, NOW + 14 * DAY), ReturnPath)
    assert paths.read(address, NOW + 15 * DAY) is NoReturn.EXPIRED
    assert paths.read(address, NOW - 2 * DAY) is NoReturn.EXPIRED


def test_a_rotated_ring_knows_older_addresses_until_their_key_is_retired(paths, rings):
    old = made(paths)
    rings.append(rings[-1].rotated(now=NOW, random=CHANCE.randbytes))
    new = made(paths)
    assert old != new
    assert isinstance(paths.read(old, NOW), ReturnPath)
    assert isinstance(paths.read(new, NOW), ReturnPath)
    rings.append(rings[-1].without(1))
    assert paths.read(old, NOW) is NoReturn.FORGED
    assert isinstance(paths.read(new, NOW), ReturnPath)


@pytest.mark.parametrize("name", ["m1.1", "01M812TVPXRTDGK76AT9", f"{ENTRY}.2", "01M812TVPXRTDGK76AT9.x", ""])
def test_a_name_that_does_not_fit_gets_none(paths, name):
    assert paths.make(name, 0, DOMAIN, NOW) is None


def test_a_clock_before_all_days_makes_addresses_too(paths):
    address = paths.make(ENTRY, 0, DOMAIN, -1.0)
    assert isinstance(paths.read(address, 0.0), ReturnPath)
