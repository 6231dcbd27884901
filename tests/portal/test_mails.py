"""The mail of the portal's own pages: what it says, how it is written, in both languages."""

import os
from email import message_from_bytes, policy

import pytest

from relay.core.address import Address
from relay.core.portal import PostKind
from relay.portal.brand import Brand
from relay.portal.mails import Mails, texts
from relay.portal.options import PortalOptions
from tests.support.portal import a_deposit
from tests.support.portal_site import MAIL_FROM, NOW, ORIGIN, PAT, said_in, text_of

DOCTOR = Address.parse("doctor@clinic.example")
NAMES = ("code", "device", "changed", "not_me", "plea")


def writer(**brand) -> Mails:
    return Mails(PortalOptions(origin=ORIGIN, mail_from=MAIL_FROM, brand=Brand(**brand)), os.urandom)


def every_mail(mails, language="en"):
    common = {"tenant": "", "language": language, "now": NOW}
    return {
        "code": mails.code(PAT, "12345678", deposit_id="d", **common),
        "device": mails.device(PAT, "Firefox, Linux", **common),
        "changed": mails.changed(PAT, "recovered", **common),
        "not_me": mails.not_me(a_deposit(), now=NOW)[0],
        "plea": mails.plea(DOCTOR, PAT, "T" * 43, tenant="", now=NOW),
    }


def test_both_languages_have_the_same_texts_with_the_same_places():
    import string

    english, spanish = texts("en"), texts("es")
    assert english.keys() == spanish.keys()
    for key, text in english.items():
        places = [
            sorted(field for _, field, _, _ in string.Formatter().parse(one) if field) for one in (text, spanish[key])
        ]
        assert set(places[0]) == set(places[1]), key
    assert texts("fr") is not None
    assert texts("fr")["code.subject"] == english["code.subject"]


@pytest.mark.parametrize("language", ["en", "es", "fr"])
@pytest.mark.parametrize("name", NAMES)
def test_each_mail_is_a_message_that_machines_leave_alone(name, language):
    post = every_mail(writer(name="Riverside Clinic", address="1 Main St", phone="555 0100"), language)[name]
    message = message_from_bytes(post.content, policy=policy.default)
    assert not message.defects
    assert message["From"] == "Riverside Clinic <portal@clinic.example>"
    assert [str(address) for address in post.recipients] == [message["To"]]
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"] == f"<{post.id}.portal@clinic.example>"
    assert post.content.count(b"\n") == post.content.count(b"\r\n")
    assert max(len(line) for line in post.content.split(b"\r\n")) <= 78
    assert post.content.isascii()
    text = text_of(post)
    assert "{" not in text
    assert "Riverside Clinic, 1 Main St" in text
    assert "555 0100" in text


def test_kinds_have_the_floor_of_what_they_carry():
    kinds = {name: post.kind for name, post in every_mail(writer()).items()}
    assert kinds == {
        "code": PostKind.CODE,
        "device": PostKind.ENROLLED,
        "changed": PostKind.ENROLLED,
        "not_me": PostKind.RECEIPT,
        "plea": PostKind.RECEIPT,
    }


def test_the_code_is_in_the_text_and_not_in_the_subject():
    post = every_mail(writer())["code"]
    message = message_from_bytes(post.content, policy=policy.default)
    assert "1234 5678" in text_of(post)
    assert "1234" not in message["Subject"]
    assert ORIGIN not in text_of(post), "a mail with a code has no link to phish with"


@pytest.mark.parametrize(
    "name", ["Clinic\r\nBcc: evil@evil.example", "Clinic\nX: y", '"Clinic" <evil@evil.example>', "é" * 300]
)
def test_a_brand_adds_no_header(name):
    for post in every_mail(writer(name=name)).values():
        message = message_from_bytes(post.content, policy=policy.default)
        assert set(message.keys()) <= {
            "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "X-Auto-Response-Suppress",
            "Content-Language", "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
        }  # fmt: skip
        assert [address.addr_spec for address in message["From"].addresses] == ["portal@clinic.example"]


@pytest.mark.parametrize("mailbox", ['"odd local"@mail.example', "a+b.c_d@mail.example"])
def test_odd_mailboxes_are_written_to(mailbox):
    to = Address.parse(mailbox)
    post = writer().code(to, "12345678", tenant="", language="en", now=NOW)
    message = message_from_bytes(post.content, policy=policy.default)
    [address] = message["To"].addresses
    assert (address.username.strip('"'), address.domain) == (to.local.strip('"'), to.domain)


def test_a_mailbox_beyond_ascii_is_written_as_utf_8():
    post = writer().code(Address.parse("jörg@mail.example"), "12345678", tenant="", language="en", now=NOW)
    assert "\r\nTo: jörg@mail.example\r\n" in post.content.decode()


@pytest.mark.parametrize("what", [key.removeprefix("what.") for key in texts("en") if key.startswith("what.")])
def test_every_change_has_its_words(what):
    words = said_in(writer().changed(PAT, what, tenant="", language="en", now=NOW))
    assert " ".join(texts("en")[f"what.{what}"].split()) in words
    assert "2026-03-02" in words
