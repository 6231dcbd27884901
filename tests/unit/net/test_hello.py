"""What an EHLO answer offers, and AUTH as a client says it."""

import base64
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.outcome import PeerFeatures
from relay.core.reply import Reply
from relay.smtp.hello import features
from relay.smtp.login import CANCEL, MECHANISMS, login


def offered(*lines):
    return features(Reply(250, None, ("mx.example greets you", *lines)))


def test_the_first_line_is_a_name_and_the_rest_are_keywords_in_any_case():
    assert features(Reply(250, None, ("STARTTLS",))) == PeerFeatures()
    assert offered("pipelining", "8bitMIME", "SMTPUTF8", "dsn", "REQUIRETLS", "STARTTLS", "CHUNKING") == PeerFeatures(
        pipelining=True, eight_bit_mime=True, smtputf8=True, dsn=True, require_tls=True, starttls=True, chunking=True
    )


@pytest.mark.parametrize(
    ("line", "size"),
    [("SIZE 1000", 1000), ("SIZE 0", None), ("SIZE", None), ("SIZE x", None), ("SIZE " + "9" * 21, None)],
)
def test_size(line, size):
    assert (offered(line).size, offered(line).size_offered) == (size, True)


@pytest.mark.parametrize(
    "lines",
    [("AUTH plain CRAM-MD5",), ("AUTH=PLAIN CRAM-MD5",), ("AUTH PLAIN", "AUTH=CRAM-MD5"), ("AUTH  PLAIN\tCRAM-MD5 ",)],
)
def test_mechanisms_in_the_new_form_and_the_old(lines):
    assert offered(*lines).auth == {"PLAIN", "CRAM-MD5"}


@given(st.lists(st.text(max_size=30), max_size=8).map(tuple))
def test_any_lines_can_be_read(lines):
    assert features(Reply(250, None, ("x", *lines))) == features(Reply(250, None, ("y", *lines)))


def said(mechanism, username, password, *answers):
    lines = login(mechanism, username, password)
    return [next(lines), *(lines.send(answer) for answer in answers)]


def test_cram_md5_is_that_of_rfc_2195():
    challenge = base64.b64encode(b"<1896.697170952@postoffice.reston.mci.net>").decode()
    answer = base64.b64encode(b"tim b913a602c7eda7a495b4e6e7334d3890")
    assert said("CRAM-MD5", "tim", "tanstaaftanstaaf", challenge) == [b"AUTH CRAM-MD5", answer]


def test_a_challenge_that_is_none_is_cancelled_and_so_is_one_where_md5_is_forbidden(monkeypatch):
    assert said("CRAM-MD5", "tim", "secret", "not base64!")[-1] == CANCEL

    def forbidden(*_):
        raise ValueError("disabled for FIPS")

    monkeypatch.setattr(hmac, "new", forbidden)
    assert said("CRAM-MD5", "tim", "secret", "PDE+")[-1] == CANCEL


def test_plain_and_login():
    assert said("PLAIN", "tim", "pä") == [b"AUTH PLAIN " + base64.b64encode("\0tim\0pä".encode())]
    assert said("LOGIN", "tim", "secret", "VXNlcm5hbWU6", "UGFzc3dvcmQ6") == [b"AUTH LOGIN", b"dGlt", b"c2VjcmV0"]
    assert MECHANISMS == ("CRAM-MD5", "PLAIN", "LOGIN")
