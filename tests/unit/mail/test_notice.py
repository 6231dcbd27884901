"""Notices, reminders and receipts: what they say, what they never say, and that they are the same at every try."""

import dataclasses
import html
from email import message_from_bytes, policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.address import NULL_SENDER, Address
from relay.mail.notice import NoticeBrand, NoticeOptions, NoticeWriter
from relay.methods.notice import LANGUAGES, load_texts
from tests.support.portal import a_deposit

NOW = 1_772_442_000.0
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(200))
BRAND = NoticeBrand(name="Riverside <Clinic> & Sons", address="1 River Road, Springfield", phone="555-0100", logo=PNG)
OPTIONS = NoticeOptions(
    origin="https://secure.clinic.example",
    mail_from=Address.parse("secure@clinic.example"),
    texts=load_texts(),
    brands={"clinic": BRAND},
)
WRITER = NoticeWriter(OPTIONS)
PRIVATE = ("Your result", "Ada Example", "doctor@clinic.example", "01J00000000000000000")


def read(raw):
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))
    assert raw.replace(b"\r\n", b"").count(b"\n") == 0
    return message_from_bytes(raw, policy=policy.default)


def texts_of(message):
    return [message.get_body((kind,)).get_content() for kind in ("plain", "html")]


def test_the_languages_say_the_same_things_with_the_same_places():
    import string

    texts = load_texts()
    english = texts["en"]
    for language in LANGUAGES:
        assert texts[language].keys() == english.keys()
        for key, text in texts[language].items():
            places = {name for _, name, _, _ in string.Formatter().parse(text) if name}
            assert places == {name for _, name, _, _ in string.Formatter().parse(english[key]) if name}, (language, key)
            assert text
    assert texts["en"]["notice.opening"] != texts["es"]["notice.opening"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_notice_leads_to_the_page_and_says_how_to_tell_it_is_genuine(language):
    message = read(WRITER.notice(a_deposit(language=language)))
    assert message["To"].addresses[0].addr_spec == "pat@mail.example"
    assert message["From"].addresses[0].addr_spec == "secure@clinic.example"
    assert message["From"].addresses[0].display_name == BRAND.name
    assert (message["Content-Language"], message["Auto-Submitted"]) == (language, "auto-generated")
    link = "https://secure.clinic.example/m/deposit-00000000000000"
    plain, page = texts_of(message)
    assert f"\n  {link}\n" in plain.replace("\r\n", "\n")
    assert f'href="{link}"' in page
    for said in (plain, html.unescape(page)):
        joined = " ".join(said.split())
        for what in (BRAND.name, BRAND.phone, BRAND.address, "2026-04-01", "https://secure.clinic.example/genuine"):
            assert what in joined, what
    assert f'<html lang="{language}">' in page


def test_a_notice_fetches_nothing_and_carries_its_picture():
    message = read(WRITER.notice(a_deposit()))
    page = message.get_body(("html",)).get_content()
    assert 'src="cid:brand"' in page
    assert page.count("src=") == 1
    (picture,) = [part for part in message.walk() if part.get_content_type() == "image/png"]
    assert (picture.get_content(), picture["Content-ID"]) == (PNG, "<brand>")
    bare = read(NoticeWriter(dataclasses.replace(OPTIONS, brands={})).notice(a_deposit()))
    assert "src=" not in bare.get_body(("html",)).get_content()


@pytest.mark.law
@pytest.mark.parametrize("kind", ["notice", "again", "reminder"])
def test_nothing_tells_of_patients_subjects_or_senders(kind):
    deposit = a_deposit(origin_to=("Jane Roe <pat@mail.example>",))
    raw = getattr(WRITER, kind)(deposit, **({} if kind == "notice" else {"now": NOW}))
    said = "\n".join([*map(str, read(raw).items()), *texts_of(read(raw)), raw.decode("ascii")])
    for private in (*PRIVATE, "Jane Roe", "phi"):
        assert private not in said


@given(
    st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=40),
    st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30),
)
def test_whatever_a_brand_is_called_the_notice_is_well_formed_and_carries_no_markup_of_it(name, phone):
    brand = NoticeBrand(name=name + "<b>", phone=phone)
    message = read(NoticeWriter(dataclasses.replace(OPTIONS, brand=brand, brands={})).notice(a_deposit()))
    assert message["To"].addresses[0].addr_spec == "pat@mail.example"
    assert "<b>" not in message.get_body(("html",)).get_content()
    assert not message.defects


def test_a_notice_that_is_tried_again_is_the_same_message_and_one_sent_again_is_not():
    assert WRITER.notice(a_deposit()) == NoticeWriter(OPTIONS).notice(a_deposit())
    ids = [
        read(raw)["Message-ID"]
        for raw in (
            WRITER.notice(a_deposit()),
            WRITER.again(a_deposit(), now=NOW),
            WRITER.again(a_deposit(), now=NOW + 1),
            WRITER.reminder(a_deposit(), now=NOW),
            WRITER.notice(a_deposit(1)),
        )
    ]
    assert len(set(ids)) == 5


def test_an_unknown_language_is_english_and_an_international_mailbox_keeps_its_name():
    assert read(WRITER.notice(a_deposit(language="xx")))["Content-Language"] == "en"
    raw = WRITER.notice(a_deposit(mailbox=Address.parse("jürgen@mail.example")))
    assert "To: jürgen@mail.example\r\n".encode() in raw


@pytest.mark.parametrize("what", ["notified", "opened", "downloaded", "expired", "recalled"])
def test_a_receipt_tells_the_sender_alone(what):
    raw = WRITER.receipt(a_deposit(), what, now=NOW)
    message = read(raw)
    assert message["To"].addresses[0].addr_spec == "doctor@clinic.example"
    said = " ".join(message.get_content().split())
    assert "pat@mail.example" in said
    assert "01J00000000000000000" in said
    assert "Your result" not in raw.decode()
    assert "pat@" not in message["Subject"]
    assert WRITER.receipt(a_deposit(sender=NULL_SENDER), what, now=NOW) is None
