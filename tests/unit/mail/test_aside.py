"""What HTML shows beside its text."""

import base64

import pytest

from relay.mail.aside import aside, data_files
from relay.mail.text import text_of


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("<!--[if mso]><p>5<b>36</b></p><![endif]-->", True),
        ("<!--[if (gte mso 9)|(IE)]><td>536</td><![endif]--><!--[if !mso]><!-->x<!--<![endif]-->", True),
        ("<!--[if !mso]><!--><p>x</p><!--<![endif]--><!--[if mso]>536<![endif]-->", True),
        ("<!-- 536 -->", False),
        ("<!--[if mso]>536-->", False),
        ('<input placeholder="&#53;36">', True),
        ("<optgroup label='536'>", True),
        ("<table summary=536>", True),
        ('<iframe srcdoc="&lt;p>5&lt;b>36">', True),
        ('<style>p::after { content: "536" }</style>', True),
        ("<object data=x><p>536</p></object>", True),
        ("<svg><text>12</text><text>536</text></svg>", True),
    ],
)
def test_it_is_read_as_it_is_shown(source, shown):
    text = text_of(f"<html><body><p>Hello</p>{source}</body></html>".encode(), "text/html", "utf-8")
    assert ("536" in text.split()) is shown, text


def test_ordinary_html_has_nothing_aside():
    source = "<!--[if mso]><table><tr><td><![endif]--><p>Hi</p><!--[if mso]></td></tr></table><![endif]-->"
    assert "".join(aside(source)).strip() == ""
    assert list(aside('<p class="label">content</p><a aria-label="x">')) == []


@pytest.mark.parametrize(
    "piece", ["<!--[if mso]>", "<!--[if mso]><!-->", "label=", "srcdoc='", 'content:"', "summary= "]
)
def test_what_never_ends_is_looked_at_once(piece):
    assert sum(map(len, aside(piece * 100_000))) < 3_000_000


def test_files_in_urls_are_found():
    coded = base64.b64encode(b"hello").rstrip(b"=")
    source = b'<img src="data:image/png;base64,' + coded + b'"><a href=\'data:,a%20b\'><i style="x:url(data:font/x,1)">'
    assert list(data_files(source)) == [("image/png", b"hello"), ("text/plain", b"a b")]
    assert len(list(data_files(source * 500))) == 200
    assert list(data_files(b"data:;;;;" * 1000)) == []
    assert list(data_files(b"no such data: here, or there")) == []
