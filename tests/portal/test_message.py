"""A message as it is shown and saved."""

import base64
import io
import logging
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pypdfium2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from relay.portal.message import frame
from relay.portal.message.files import SAFE_TYPES, download_headers, is_risky, safe_name, served_type
from relay.portal.message.outline import OutlineLimits, OutlineReader
from relay.portal.message.pdf import Copy, PdfLimits, write_pdf
from relay.portal.message.plain import linked, unflow
from relay.portal.message.reader import MessageReader, ViewLimits
from relay.portal.message.view import arrange
from relay.portal.moments import Moments
from relay.portal.words import words
from tests.support.portal import MemoryDeposits, a_deposit

XSS = Path(__file__).parent / "xss"
WORDS = words("en")


def picture(form="PNG", size=(40, 20)):
    out = io.BytesIO()
    Image.new("RGB", size, "#1b5e8c").save(out, form)
    return out.getvalue()


def message(text="Hello Pat.\n", html="", *, related=(), files=(), **headers):
    mail = EmailMessage(policy=SMTP)
    for name, value in {"From": "Dr. Ada <doctor@clinic.example>", "To": "pat@mail.example", "Subject": "Hi"}.items():
        mail[name] = headers.pop(name.lower(), value)
    for name, value in headers.items():
        mail[name.replace("_", "-")] = value
    if text:
        mail.set_content(text)
    if html:
        mail.add_alternative(html, subtype="html") if text else mail.set_content(html, subtype="html")
        body = mail.get_payload()[-1] if text else mail
        for cid, octets, subtype in related:
            body.add_related(octets, "image", subtype, cid=f"<{cid}>")
    for name, octets, kind in files:
        main, _, sub = kind.partition("/")
        mail.add_attachment(octets, main, sub, filename=name)
    return mail.as_bytes()


async def reader_of(content, **limits):
    deposits = MemoryDeposits()
    deposit = await deposits.deposit(a_deposit(), content)
    return MessageReader(deposits, ViewLimits(**limits)), deposit.id


async def letter_of(content, **limits):
    reader, deposit_id = await reader_of(content, **limits)
    return await reader.letter(deposit_id, WORDS)


async def document_of(content):
    reader, deposit_id = await reader_of(content)
    letter = await reader.letter(deposit_id, WORDS)
    pieces = frame.document(
        reader, deposit_id, letter, language="en", title="Text", stylesheet="/static/letter.css?v=1"
    )
    return b"".join([piece async for piece in pieces]).decode()


# --- what is text and what is a file


async def test_plain_text_is_the_text():
    letter = await letter_of(message())
    assert letter.section.text == "Hello Pat."
    assert letter.section.html == ""
    assert letter.section.files == ()
    assert (letter.cut, letter.damaged, letter.blocked) == (False, False, 0)


async def test_of_alternatives_both_forms_are_kept():
    letter = await letter_of(message("plain", "<p>fancy</p>"))
    assert letter.section.text == "plain"
    assert letter.section.html == "<p>fancy</p>\n"


async def test_html_alone_gives_its_text_too():
    letter = await letter_of(message("", "<h1>Result</h1><p>All is <b>well</b>.</p><script>x()</script>"))
    assert "All is well." in letter.section.text
    assert "x()" not in letter.section.text + letter.section.html


async def test_pictures_of_html_are_no_files_and_others_are():
    content = message(
        "t", '<img src="cid:logo@x">', related=[("logo@x", picture(), "png"), ("unused@x", picture(), "png")],
        files=[("scan.pdf", b"%PDF-", "application/pdf")],
    )  # fmt: skip
    letter = await letter_of(content)
    assert [part.content_id for part in letter.section.pictures] == ["logo@x"]
    assert [file.part.content_type for file in letter.section.files] == ["image/png", "application/pdf"]


async def test_the_frame_holds_its_pictures():
    shown = picture()
    page = await document_of(message("t", '<p>see</p><img src="cid:logo@x">', related=[("logo@x", shown, "png")]))
    assert f'src="data:image/png;base64,{base64.b64encode(shown).decode()}"' in page
    assert "cid:" not in page


async def test_a_large_picture_comes_whole():
    noise = base64.b64encode(bytes(range(256)) * 1200)
    page = await document_of(message("t", '<img src="cid:a">', related=[("a", noise, "jpeg")]))
    assert base64.b64encode(noise).decode() in page


@pytest.mark.parametrize("name", ["cid-svg", "inner-message", "file-names", "charset-tricks", "header-subject"])
async def test_hostile_messages_are_shown_without_harm(name):
    content = (XSS / f"{name}.eml").read_bytes()
    page = await document_of(content)
    assert "<script" not in page
    assert "onerror=" not in page
    assert "onload=" not in page
    assert "image/svg" not in page


async def test_a_message_inside_is_shown_and_can_be_saved():
    inner = message("inner text", files=[("in.csv", b"a,b", "text/csv")], subject="Inner")
    outer = EmailMessage(policy=SMTP)
    outer["From"] = "a@b.example"
    outer.set_content("outer text")
    outer.add_attachment(message_from_bytes(inner, policy=SMTP))
    letter = await letter_of(outer.as_bytes())
    assert letter.section.text == "outer text"
    assert [file.name for file in letter.section.files] == ["attached message.eml"]
    (inside,) = letter.section.inner
    assert inside.message.header("subject") == "Inner"
    assert inside.text == "inner text"
    assert [file.name for file in inside.files] == ["in.csv"]


async def test_a_signature_is_no_file():
    content = (
        b"Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n"
        b"Content-Type: text/plain\r\n\r\nsigned text\r\n--s\r\n"
        b"Content-Type: application/pkcs7-signature; name=smime.p7s\r\n\r\nxx\r\n--s--\r\n"
    )
    letter = await letter_of(content)
    assert letter.section.text == "signed text"
    assert letter.section.files == ()


async def test_text_with_a_name_is_a_file():
    letter = await letter_of(message(files=[("notes.txt", b"notes", "text/plain")]))
    assert [file.name for file in letter.section.files] == ["notes.txt"]


async def test_what_is_too_long_is_cut_and_said():
    letter = await letter_of(message("word " * 1000), text=100)
    assert letter.cut
    assert len(letter.section.text) <= 100


async def test_too_many_stretches_of_text_are_cut_and_said():
    content = b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + b"--a\r\n\r\nx\r\n" * 50
    letter = await letter_of(content, texts=3)
    assert letter.cut
    assert letter.section.text == "x\n\nx\n\nx"


async def test_html_that_is_too_heavy_is_shown_as_text():
    letter = await letter_of(message("", "<p>still here</p>" + "<div>" * 20_000))
    assert letter.damaged
    assert letter.section.html == ""
    assert "still here" in letter.section.text


async def test_pictures_beyond_the_limit_become_files():
    content = message(
        "t", '<img src="cid:a"><img src="cid:b">', related=[("a", picture(), "png"), ("b", picture(), "png")]
    )
    letter = await letter_of(content, pictures=200)
    assert [part.content_id for part in letter.section.pictures] == ["a"]
    assert [file.part.content_id for file in letter.section.files] == ["b"]


async def test_broken_encodings_are_said():
    content = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!!not base64 at all\r\n"
    assert (await letter_of(content)).damaged


@given(st.binary(max_size=300))
async def test_no_octets_raise(content):
    letter = await letter_of(b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n" + content)
    assert isinstance(letter.section.text, str)


async def test_outlines_are_kept_and_the_oldest_goes():
    deposits = MemoryDeposits()
    reader = MessageReader(deposits, ViewLimits(outlines=2))
    ids = [(await deposits.deposit(a_deposit(number), message(str(number)))).id for number in range(4)]
    for deposit_id in ids:
        await reader.outline(deposit_id)
    assert list(reader._outlines) == ids[2:]


# --- names and types


@pytest.mark.parametrize(
    ("given_name", "content_type", "expected"),
    [
        ("report.pdf", "application/pdf", "report.pdf"),
        ("../../etc/passwd", "text/plain", "passwd.txt"),
        ("..\\..\\boot.ini", "text/plain", "boot.ini"),
        ("a\r\nSet-Cookie: x=y", "text/plain", "a__Set-Cookie_ x=y.txt"),
        ("invoice\u202efdp.exe", "application/pdf", "invoicefdp.exe"),
        (".htaccess", "text/plain", "htaccess.txt"),
        ("CON.txt", "text/plain", "_CON.txt"),
        ("", "image/png", "file 1.png"),
        ("...", "image/png", "file 1.png"),
        ("x" * 500 + ".pdf", "application/pdf", "x" * 116 + ".pdf"),
        ("x" * 5000 + ".pdf", "application/pdf", "x" * 116 + ".pdf"),
        ("résultat médico.pdf", "application/pdf", "résultat médico.pdf"),
        ('a"b<c>d|e?.pdf', "application/pdf", "a_b_c_d_e_.pdf"),
        ("no ending", "application/x-unknown", "no ending"),
    ],
)
def test_names_are_safe(given_name, content_type, expected):
    assert safe_name(given_name, content_type, "file 1") == expected


@given(st.text(max_size=200), st.sampled_from(["application/pdf", "x/y", "text/plain"]))
def test_any_name_is_safe(name, content_type):
    shown = safe_name(name, content_type, "file 1")
    assert 0 < len(shown) <= 120
    assert not set(shown) & set('/\\:*?"<>|;%\r\n\0\u202e\u200b')
    assert not shown.startswith(".")
    header = download_headers(shown)["Content-Disposition"]
    assert header.startswith("attachment; ")
    header.encode("ascii")


@pytest.mark.parametrize(
    "content_type", ["text/html", "image/svg+xml", "application/xhtml+xml", "text/xml", "application/javascript", "x/y"]
)
def test_what_a_browser_could_run_leaves_as_octets(content_type):
    assert served_type(content_type) == "application/octet-stream"
    assert content_type not in SAFE_TYPES


def test_files_that_run_are_told():
    assert is_risky("a.exe")
    assert is_risky("a.pdf.JS")
    assert is_risky("page.html")
    assert not is_risky("a.pdf")
    assert not is_risky("exe")


# --- plain text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one \ntwo\n", "one two\n"),
        ("one\ntwo", "one\ntwo"),
        ("> a \n> b\nc", "> a b\nc"),
        (">> a \n> b", ">> a \n> b"),
        ("-- \nname", "-- \nname"),
        (" >not a quote", ">not a quote"),
        ("", ""),
    ],
)
def test_flowed_lines_are_joined(text, expected):
    assert unflow(text) == expected


def test_flowed_lines_without_spaces_of_languages_that_have_none():
    assert unflow("長い \n行", delsp=True) == "長い行"


@given(st.lists(st.text(alphabet=">- a", max_size=6), max_size=30), st.booleans())
def test_a_flowed_paragraph_is_its_lines_one_after_the_other(lines, delsp):
    shown = unflow("\r\n".join(lines), delsp=delsp)
    assert shown.replace(">", "").replace(" ", "").replace("\n", "") == "".join(lines).replace(">", "").replace(" ", "")


def test_addresses_become_links_and_nothing_else_does():
    html = linked('See https://a.example/x?y=1&z=2. <b> javascript:x "https://b.example/q" (http://c.example/)')
    assert 'href="https://a.example/x?y=1&amp;z=2"' in html
    assert ">https://b.example/q</a>&#34;" in html
    assert 'href="http://c.example/"' in html
    assert "<b>" not in html
    assert html.count("<a ") == 3


@given(st.text(alphabet=st.sampled_from("https://a.b<>\"'& \n()"), max_size=60))
def test_linked_text_shows_the_text(text):
    html = linked(text)
    assert html.striptags().split() == text.split()


# --- the copy as PDF


async def pdf_of(content, language="en", **limits):
    reader, deposit_id = await reader_of(content)
    letter = await reader.letter(deposit_id, words(language))
    pictures = [
        b"".join([piece async for piece in reader.stream(deposit_id, part)]) for part in letter.section.pictures
    ]
    copy = Copy(section=letter.section, pictures=pictures, brand="River Clinic", at=1_772_442_000.0)
    return write_pdf(copy, words(language), Moments(), PdfLimits(**limits))


def text_of(pdf):
    document = pypdfium2.PdfDocument(pdf)
    try:
        return "\n".join(page.get_textpage().get_text_bounded() for page in document)
    finally:
        document.close()


async def test_headers_of_messages_inside_count_against_the_pages_of_a_pdf():
    head = "".join(f"{name}: {'planted ' * 60}\r\n" for name in ("From", "To", "Cc", "Subject"))
    inner = "".join(f"--x\r\nContent-Type: message/rfc822\r\n\r\n{head}\r\nbody\r\n" for _ in range(30))
    content = f"Subject: outer\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n{inner}--x--\r\n".encode()
    text = text_of(await pdf_of(content, characters=4_000))
    assert 100 < text.count("planted") < 600, "of 7,200"


async def test_the_copy_says_what_the_message_says():
    content = message(
        "¿Qué tal? Ваш результат готов.", '<p>x</p><img src="cid:a">', related=[("a", picture(), "png")],
        files=[("scan.pdf", b"%PDF-", "application/pdf")], subject="Laboratorio",
    )  # fmt: skip
    pdf = await pdf_of(content)
    text = text_of(pdf)
    for expected in (
        "Laboratorio",
        "¿Qué tal?",
        "Ваш результат готов.",
        "doctor@clinic.example",
        "scan.pdf",
        "River Clinic",
    ):
        assert expected in text
    assert b"/Subtype /Image" in pdf
    assert pdf.startswith(b"%PDF-")
    assert pdf == await pdf_of(content)  # no clock and no chance in it


async def test_the_copy_is_bounded_and_says_so():
    text = text_of(await pdf_of(message("word " * 5000), characters=1000))
    assert "longer than this document shows" in " ".join(text.split())
    assert len(text) < 3000


@pytest.mark.parametrize("octets", [b"", b"not a picture", picture()[:40], b"\x89PNG\r\n\x1a\n" + b"\0" * 100])
async def test_a_picture_that_cannot_be_read_is_left_out(octets):
    content = message("text", '<img src="cid:a">', related=[("a", octets or b"x", "png")])
    assert "text" in text_of(await pdf_of(content))


async def test_a_picture_that_is_too_large_is_left_out():
    content = message("text", '<img src="cid:a">', related=[("a", picture(size=(300, 300)), "png")])
    assert b"/Subtype /Image" in await pdf_of(content)
    assert b"/Subtype /Image" not in await pdf_of(content, pixels=300 * 300 - 1)


async def test_the_copy_writes_nothing_of_the_message_to_the_log(capfd):
    heard = []
    listener = logging.Handler()
    listener.emit = heard.append
    logging.getLogger().addHandler(listener)
    try:
        await pdf_of(message("secret \u65e5\u672c \U0001f600 text", subject="\u65e5"))
    finally:
        logging.getLogger().removeHandler(listener)
    assert heard == []
    assert capfd.readouterr() == ("", "")


def test_an_outline_of_nothing_is_a_message_without_text():
    view = arrange(OutlineReader(OutlineLimits()).finish(), unnamed="file", message_name="message")
    assert view.files == ()
