"""Which language a page is in."""

import html
import re
from email.message import EmailMessage
from email.policy import SMTP

import httpx
import pytest
from starlette.requests import Request

from relay.portal.pages import LANGUAGE, language_of


def request(*, query=b"", cookie="", accepts=""):
    headers = [(b"accept-language", accepts.encode())] if accepts else []
    if cookie:
        headers.append((b"cookie", f"{LANGUAGE}={cookie}".encode()))
    return Request({"type": "http", "method": "GET", "path": "/", "query_string": query, "headers": headers})


@pytest.mark.parametrize(
    ("asked", "preferred", "expected"),
    [
        ({}, "", "en"),
        ({}, "es", "es"),
        ({"accepts": "en"}, "es", "es"),
        ({"accepts": "es-MX,en;q=0.5"}, "en", "es"),
        ({"accepts": "fr"}, "en", "en"),
        ({"accepts": "fr"}, "es", "es"),
        ({"cookie": "en", "accepts": "es"}, "es", "en"),
        ({"query": b"lang=es", "cookie": "en"}, "en", "es"),
        ({"query": b"lang=xx%0d%0a", "accepts": "es"}, "", "es"),
    ],
)
def test_the_reader_first_then_the_message_then_the_browser(asked, preferred, expected):
    assert language_of(request(**asked), preferred) == expected


async def test_another_language_shows_the_very_same_page(site):
    deposit = await site.deposit()
    browser = await site.browser().sign_in(deposit)
    await browser.get(f"/inbox/{deposit.id}")
    await browser.send(f"/inbox/{deposit.id}/open")
    for path in (
        f"/inbox/{deposit.id}/reply?all=1",
        f"/inbox/{deposit.id}?view=text",
        "/sign-in?next=%2Fa%22%3E&lang=en",
    ):
        browser.client.cookies.pop("__Host-language", None)
        await browser.get(path)
        href = re.search(r'href="([^"]*)" lang="es" hreflang="es"', browser.page.text)[1]
        there = httpx.URL(html.unescape(href))
        asked = httpx.URL(path)
        assert there.path == asked.path
        assert dict(there.params) == {**dict(asked.params), "lang": "es"}
        assert '<html lang="es">' in (await browser.get(str(there))).text


@pytest.mark.parametrize("view", ["", "?view=text"])
async def test_what_people_wrote_stands_in_the_direction_of_its_script(site, view):
    mail = EmailMessage(policy=SMTP)
    mail["From"], mail["To"], mail["Subject"] = (
        "\u05d3\u05e0\u05d4 <dana@clinic.example>",
        "pat@mail.example",
        "\u05e9\u05dc\u05d5\u05dd 12.",
    )
    mail.set_content("\u05e9\u05dc\u05d5\u05dd (HbA1c 5.4%).")
    mail.add_alternative("<p>\u05e9\u05dc\u05d5\u05dd</p>", subtype="html")
    mail.add_attachment(b"x", "application", "pdf", filename="\u05d3\u05d5\u05d7.pdf")
    deposit = await site.deposit(content=mail.as_bytes(), subject=mail["Subject"])
    browser = await site.browser().sign_in(deposit)
    await browser.get("/inbox")
    assert '<span class="what" dir="auto">\u05e9' in browser.page.text
    await browser.get(f"/inbox/{deposit.id}")
    await browser.send(f"/inbox/{deposit.id}/open")
    page = (await browser.get(f"/inbox/{deposit.id}{view}")).text
    for words in ('<h1 dir="auto">\u05e9', '<dd dir="auto">\u05d3', '<strong dir="auto">\u05d3'):
        assert words in page
    frame = (await browser.get(f"/inbox/{deposit.id}/frame")).text
    assert ('<div class="letter" dir="auto">\u05e9' in page) if view else ('<body dir="auto"><p>\u05e9' in frame)
    reply = (await browser.get(f"/inbox/{deposit.id}/reply")).text
    assert re.search(r'<textarea id="text"[^>]* dir="auto"', reply)
