"""Codes of apps: the vectors of RFC 4226 and RFC 6238, drift, and that none is used twice."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.portal.totp import STEP, address, fitting_step, hotp, new_secret, spaced

RFC = base64.b32encode(b"12345678901234567890").decode()


@pytest.mark.parametrize(
    ("counter", "code"),
    list(
        enumerate(["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"])
    ),
)
def test_the_vectors_of_rfc_4226(counter, code):
    assert hotp(RFC, counter) == code


@pytest.mark.parametrize(
    ("now", "code"),
    [(59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (1234567890, "005924"), (20000000000, "353130")],
)
def test_the_vectors_of_rfc_6238(now, code):
    assert fitting_step(RFC, code, now=now, after=0) == now // STEP


@given(st.integers(min_value=1000, max_value=2**40), st.integers(min_value=-5, max_value=5))
def test_a_clock_may_be_off_by_one_step(now, drift):
    step = now // STEP
    found = fitting_step(RFC, hotp(RFC, step + drift), now=now, after=0)
    if abs(drift) <= 1:
        assert found is not None
        assert hotp(RFC, found) == hotp(RFC, step + drift)


def test_a_code_is_used_once():
    step = 41152263
    assert fitting_step(RFC, hotp(RFC, step), now=step * STEP, after=step - 1) == step
    assert fitting_step(RFC, hotp(RFC, step), now=step * STEP, after=step) is None
    assert fitting_step(RFC, hotp(RFC, step - 1), now=step * STEP, after=step) is None


@pytest.mark.parametrize("typed", ["", "12345", "1234567", "abcdef", "\udcff", "٣٥٣١٣٠", " "])
def test_what_is_no_code_fits_nothing(typed):
    assert fitting_step(RFC, typed, now=59, after=0) is None


def test_spaces_do_not_count():
    assert fitting_step(RFC, " 287 082 ", now=59, after=0) == 1


def test_a_new_key_has_160_bits_and_can_be_typed():
    secret = new_secret(bytes(range(20)))
    assert len(base64.b32decode(secret)) == 20
    assert spaced(secret).replace(" ", "") == secret
    link = address(secret, issuer="Riverside & Co: Clinic", account="pat+x@mail.example")
    assert link.startswith("otpauth://totp/Riverside%20%26%20Co%3A%20Clinic:pat%2Bx@mail.example?secret=")
    assert link.endswith("&issuer=Riverside%20%26%20Co%3A%20Clinic")
