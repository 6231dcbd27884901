"""Which language a page is in."""

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
