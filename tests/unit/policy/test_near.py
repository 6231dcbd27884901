"""A domain is near a well-known one as a walk over all members, slip by slip, would find it."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.policy.near import Neighbours, distance

WORDS = st.text("ab.", max_size=7)
MEMBERS = ("abcdefgh.com", "abcdefghi.com", "short.org", "mail.com")
"""Of 12, 13 and 9 characters, and one whose label is too short to be compared."""


def slips(text, alphabet):
    """All that one insertion, deletion, substitution or swap of neighbours makes of a text."""
    for place in range(len(text) + 1):
        head, tail = text[:place], text[place:]
        yield from (head + letter + tail for letter in alphabet)
        yield from (head + letter + tail[1:] for letter in alphabet if tail)
        yield head + tail[1:]
        if len(tail) > 1:
            yield head + tail[1] + tail[0] + tail[2:]


@given(WORDS, WORDS)
def test_a_distance_is_the_same_both_ways_and_no_further_than_the_longer_text(left, right):
    found = distance(left, right)
    assert found == distance(right, left)
    assert abs(len(left) - len(right)) <= found <= max(len(left), len(right))
    assert (found == 0) is (left == right)


@given(WORDS, WORDS)
def test_a_distance_of_one_is_one_slip(left, right):
    assert (distance(left, right) <= 1) is (right == left or right in set(slips(left, "ab.")))


@given(st.sampled_from(MEMBERS[:3]), st.integers(0, 5000), st.integers(0, 5000))
def test_so_many_slips_as_a_members_length_allows_are_found(member, first, second):
    one = next(itertools.islice(itertools.cycle(slips(member, "xz.")), first, None))
    two = next(itertools.islice(itertools.cycle(slips(one, "xz.")), second, None))
    index = Neighbours(MEMBERS)
    for domain in (one, two):
        reached = {
            name for name in MEMBERS[:3] if distance(domain, name) <= (2 if len(name) >= 13 else 1)
        }  # fmt: skip
        found = index.nearest(domain)
        assert found in reached if reached and domain not in MEMBERS else found == ""


@pytest.mark.parametrize(
    ("domain", "nearest"),
    [
        ("abcdefg.com", "abcdefgh.com"),
        ("cdefghi.com", "abcdefghi.com"),  # two left out of thirteen
        ("bcdefghi.co", "abcdefghi.com"),
        ("abcdef.com", ""),  # two left out of twelve
        ("abcdefghixx.com", "abcdefghi.com"),  # two more than the longest has
        ("abcdefghixxx.com", ""),
        ("mial.com", ""),
        ("shotr.org", "short.org"),
    ],
)
def test_two_slips_count_from_thirteen_characters_on(domain, nearest):
    assert Neighbours(MEMBERS).nearest(domain) == nearest


def test_what_lies_below_a_member_is_not_near_it():
    index = Neighbours(["short.org"], below=["hort.org"])
    assert index.nearest("s.hort.org") == ""
    assert Neighbours(["short.org"]).nearest("s.hort.org") == "short.org"
    assert Neighbours([]).nearest("a.org") == ""
