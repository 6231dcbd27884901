"""Sealed tokens: a ticket is good for its use, its browser and its time, and for nothing that somebody made up."""

import base64
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.portal.tickets import Tickets
from relay.protect.sealing import RingVault
from tests.support.portal import portal_ring

LIFE = 600.0
RING = portal_ring()


def tickets(now=1000.0, ring=RING):
    return Tickets(RingVault(ring, os.urandom), lambda: now, os.urandom, life=LIFE)


def test_a_ticket_opens_for_its_use_and_holder_until_its_time():
    ticket = tickets().seal("totp-set", "holder", "value")
    assert tickets().open("totp-set", "holder", ticket).value == "value"
    assert tickets(1000.0 + LIFE - 1).open("totp-set", "holder", ticket) is not None
    assert tickets(1000.0 + LIFE).open("totp-set", "holder", ticket) is None


@pytest.mark.parametrize(
    ("use", "holder"), [("passkey-create", "holder"), ("totp-set", "other"), ("totp-set", ""), ("totp-set\0holder", "")]
)
def test_a_ticket_for_one_use_and_holder_is_of_none_for_another(use, holder):
    ticket = tickets().seal("totp-set", "holder", "value")
    assert tickets().open(use, holder, ticket) is None


def test_a_ticket_under_another_ring_is_none():
    assert tickets().open("use", "holder", tickets(ring=portal_ring()).seal("use", "holder", "value")) is None


def test_no_two_tickets_have_a_nonce_in_common():
    made = [tickets().open("use", "holder", tickets().seal("use", "holder", "value")).nonce for _ in range(50)]
    assert len(set(made)) == 50


@given(at=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_a_ticket_that_was_changed_anywhere_is_none(at, bit):
    sealed = bytearray(base64.urlsafe_b64decode(tickets().seal("use", "holder", "value")))
    sealed[at % len(sealed)] ^= 1 << bit
    assert tickets().open("use", "holder", base64.urlsafe_b64encode(sealed).decode()) is None


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: base64.urlsafe_b64encode(data).decode()))
def test_what_was_made_up_is_none(text):
    assert tickets().open("use", "holder", text) is None
    assert tickets().open("use", "holder", text * 50) is None
