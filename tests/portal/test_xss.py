"""Hostile HTML mail: nothing that runs, loads or leads elsewhere is left of it."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from relay.portal.message import sanitise
from relay.portal.message.sanitise import TooHeavyError, clean, places

CORPUS = Path(__file__).parent / "xss"
PAYLOADS = sorted(CORPUS.glob("*.html"))
TOKEN = "0123456789abcdef"
ALLOWED = sanitise._ALLOWED
ATTRIBUTES = {name for names in ALLOWED["attributes"].values() for name in names} | {"target", "rel"}
SOURCE = re.compile(
    rf"cid:postern-{TOKEN}-\d+\Z|data:image/(png|jpe?g|gif|webp);base64,[A-Za-z0-9+/=\s]+\Z", re.IGNORECASE
)


def assert_harmless(html):
    """Look at it with a parser that is not the sanitiser's."""
    tree = LexborHTMLParser(f"<!doctype html><html><head></head><body>{html}</body></html>")
    assert not tree.css("head > *")
    for node in tree.css("body *"):
        assert node.tag in ALLOWED["elements"] or node.tag.startswith("-"), node.tag
        for name, value in node.attributes.items():
            assert name in ATTRIBUTES, name
            if name == "href":
                assert re.match(r"(https?://|mailto:|tel:)", value, re.IGNORECASE), value
            if name == "src":
                assert SOURCE.match(value), value
            if name == "style":
                assert not re.search(r"url|expression|image|@|\\|position", value, re.IGNORECASE), value
            if name == "target":
                assert value == "_blank"
            if name == "rel":
                assert "noopener" in value
                assert "noreferrer" in value


def shape(html):
    """The HTML with the attributes of each tag in order: the sanitiser leaves that to chance."""
    return re.sub(r"<[^>]*>", lambda tag: " ".join(sorted(tag[0].strip("<>").split(" "))), html)


@pytest.mark.parametrize("path", PAYLOADS, ids=lambda path: path.stem)
def test_nothing_that_runs_is_left(path):
    cleaned = clean(path.read_text(), {"logo@x": 3}, TOKEN)
    assert_harmless(cleaned.html)


@pytest.mark.parametrize("path", PAYLOADS, ids=lambda path: path.stem)
def test_what_was_cleaned_stays_as_it_is(path):
    """Markup that changes when it is read again is how sanitisers are passed (mutation XSS)."""
    once = clean(path.read_text(), {}, TOKEN).html
    assert shape(clean(once, {}, TOKEN).html) == shape(once)


FRAGMENTS = st.sampled_from(
    ["<", ">", '"', "'", "<!--", "-->", "</", "<svg>", "<math>", "<style>", "</style>", "<img src=x onerror=1>", "<p ",
     "title=", "<template>", "<noscript>", "</noscript>", "<table>", "<td>", "<mglyph>", "<mtext>", "</p>", "<a href=",
     "javascript:1", "data:", "cid:a", "&lt;", "&quot;", "`", "\0", "<select>", "<textarea>", "<title>", "<form>",
     "<annotation-xml encoding=text/html>", "<desc>", "<![CDATA[", "]]>", "<b>", "</b>", " style=color:red"]
)  # fmt: skip


@given(st.lists(FRAGMENTS, max_size=25).map("".join))
def test_no_arrangement_of_fragments_runs(source):
    cleaned = clean(source, {"a": 1}, TOKEN)
    assert_harmless(cleaned.html)


def test_ordinary_mail_keeps_its_look():
    source = (
        '<h1 style="color:#036">Your results</h1><p>Dear <b>Pat</b>,<br>see the <a href="https://clinic.example/x">page</a>.'
        '<table border=1 bgcolor="#eee"><tr><th scope=col>Test<td style="text-align:right; position:fixed">5.1</table>'
        '<ul><li>one</ul><img src="cid:logo@x" alt="Logo" width=100>'
    )
    cleaned = clean(source, {"logo@x": 4}, TOKEN)
    for kept in ('style="color:#036"', 'href="https://clinic.example/x"', "<b>Pat</b>", 'scope="col"', 'alt="Logo"',
                 'bgcolor="#eee"', 'style="text-align:right"', f'src="cid:postern-{TOKEN}-4"'):  # fmt: skip
        assert kept in cleaned.html
    assert cleaned.pictures == (4,)
    assert cleaned.blocked == 0


def test_pictures_from_elsewhere_are_left_out_and_counted():
    cleaned = clean((CORPUS / "remote-everything.html").read_text(), {}, TOKEN)
    assert cleaned.blocked == 2  # a relative address goes before it is looked at
    assert "evil.example" not in cleaned.html


def test_a_message_cannot_name_the_place_of_a_picture():
    html = clean((CORPUS / "img-cid-guess.html").read_text().replace("0000000000000000", TOKEN), {}, TOKEN).html
    numbers = [place for place in places(html, TOKEN) if isinstance(place, int)]
    assert numbers in ([], [1])  # in text a quote stays a quote; the token is one that no message can know
    assert [place for place in places(html, "f" * 16) if isinstance(place, int)] == []


HEAVY = {
    "deep": "<div>" * 200_000,
    "deep behind comments": "<div><!--</div>-->" * 50_000,
    "deep behind attributes": '<div title="</div>">' * 50_000,
    "deep behind odd quotes": '<div x=a"><i t="</div></div>">' * 20_000,
    "deep behind styles": "<style></div></style><div>" * 30_000,
    "many fonts": "".join(f"<font size={number}>" for number in range(10_000)),
    "styles without end": "<style>" * 150_000,
    "paragraph ends": "<div>" * 5_000 + "</p>" * 60_000,
}


@pytest.mark.parametrize("source", HEAVY.values(), ids=HEAVY)
def test_what_would_take_a_parser_too_long_is_not_parsed(source):
    with pytest.raises(TooHeavyError):
        clean(source, {}, TOKEN)


LARGE = {
    "a report": "<table>"
    + "<tr><td style='color:red'><p class=x><span lang=EN>1.0<o:p></o:p></span></p></td></tr>" * 4000
    + "</table>",
    "with a style of Word's": "<style>\n<!-- /* Font */ p.x { color: red } -->\n</style>" + "<p><b>x</b></p>" * 9000,
    "with comments": "<!--[if mso]><table><tr><td><![endif]--><div>x</div><!--[if mso]></table><![endif]-->" * 3000,
}


@pytest.mark.parametrize("source", LARGE.values(), ids=LARGE)
def test_what_is_large_and_well_formed_is_shown(source):
    assert len(clean(source, {}, TOKEN).html) > 30_000
