"""Text of plainly well-formed HTML, against what the parser makes of the same."""

from collections import Counter
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail import html as reading
from relay.mail.html import html_to_text
from relay.mail.plainhtml import plain_text
from relay.mail.weight import is_light

WORDS = st.sampled_from(
    [
        "Jane ",
        "Roe",
        "DOB:&nbsp;",
        "1 &lt; 2",
        "&amp;c ",
        "caf&eacute; ",
        "03/04",
        "<a href=x>of it</a>",
        "<p class=c>one",
        "<p>two</p>",
        " x > y ",
        "\n",
        "ö ",
    ]
)
INLINE = ("span", "b", "I", "font", "em", "o:p")
BLOCK = ("div", "h2", "center", "blockquote", "section", "ul", "DIV")
QUIET = ["", ' class="a b"', " width=10", " hidden", ' style="color: red; x: y"', "\n id = 'x'"]
SPOKEN = [" Title='of it'", ' alt="Ann &amp; Bo"', " aria-label=Spoken"]
# Of an inline element the parser makes several, where blocks begin and end in it: it is not asked for spoken words.


def wrapped(inner, names, attributes):
    return st.builds(
        lambda name, given, content: f"<{name}{given}>{content}</{name}>",
        st.sampled_from(names),
        st.sampled_from(attributes),
        inner,
    )


def row(cells):
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


PIECES = st.recursive(
    WORDS | st.sampled_from(["<br>", "<br/>", "<img src=x alt='A picture' />", "<!-- no -- text -->", "<wbr>", "<hr>"]),
    lambda inner: st.one_of(
        wrapped(st.lists(inner, max_size=3).map("".join), INLINE, QUIET),
        wrapped(st.lists(inner, max_size=3).map("".join), BLOCK, QUIET + SPOKEN),
        st.lists(st.lists(inner, min_size=1, max_size=3), max_size=3).map(
            lambda rows: f"<table>{''.join(map(row, rows))}</table>"
        ),
        st.lists(inner, max_size=3).map(lambda items: f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"),
    ),
    max_leaves=12,
)
HEADS = st.sampled_from(
    ["", "<title>On Jane &amp; Bo</title>", "<style>p > a { color: red }</style>", "<meta charset=utf-8>",
     "<style type='text/css'><!-- .x { } --></style>", "<!--[if mso]><style>x</style> <![endif]-->"]
)  # fmt: skip


def parsed(source):
    with mock.patch.object(reading, "plain_text", return_value=None):
        return html_to_text(source)


def lines(text):
    return [line.split() for line in text.splitlines() if line.strip()]


@given(HEADS, st.lists(PIECES, max_size=4).map("".join))
def test_well_formed_html_reads_as_the_parser_reads_it(head, body):
    source = f"<!DOCTYPE html><html><head>{head}</head><body>{body}</body></html>"
    assert plain_text(source) is not None
    assert lines(html_to_text(source)) == lines(parsed(source))


def test_tags_that_touch_are_read_as_one_by_one():
    """A run of tags means what they mean apart: white space between them stays, a style in their midst is dropped."""
    source = (
        "<html><head><style>a > b { c: MRN }</style><title>On it</title></head> \n <body><p title='said'><b>one</b></p>"
        "<style><!-- x --> y</style><table><tr><td>two</td> <td>three</td></tr></table></body></html>"
    )
    text = plain_text(source)
    assert text is not None
    assert lines(text) == [["On", "it"], ["one"], ["two", "three"], ["said"]]
    assert lines(text) == lines(parsed(source))


FRAGMENTS = st.sampled_from(
    ["<b>", "</b>", "<p>", "</p>", "<table>", "</table>", "<tr>", "<td>", "<!-- ", " -->", "<!--->", "--!>", "<style>",
     "</style>", "<title>", "</title>", "<script>", "</script>", "<!", "<!x>", "<?y>", "<![CDATA[ ", "]]>", "<", ">",
     "</", "</ >", '<a href="', '">', "'", "<i ", "<u/>", "<svg>", "</svg>", "<select>", "<option>", "<textarea>",
     "</textarea>", "<object>", "</object>", "<noscript>", "<template>", "<plaintext>", "<frameset>", "<pre>", "<PRE>",
     "<body>", "</body>", "</html>", "<head>", "<a title=' ", "<a =>", "<x-y:z>", "\0", "&lt;",
     "<STYLE >", "</Title\n>", "<style/>", "<title x='>'>", "--", "-", "<!- ", "<!>"]
)  # fmt: skip


@given(st.lists(FRAGMENTS, max_size=12))
def test_no_text_is_lost_whatever_the_tags(fragments):
    """What the parser would show of a soup of tags is there, each word as often."""
    source = "".join(f"{fragment} w{number} " for number, fragment in enumerate(fragments))
    text = plain_text(source)
    if text is not None:
        shown = [word for word in parsed(source).split() if word.startswith("w") and word[1:].isdigit()]
        assert not Counter(shown) - Counter(text.split()), (source, text)


@pytest.mark.parametrize(
    "source",
    [
        "<title><!--</title>MRN 4471829<title>--></title>",
        "<style><!--</style>MRN 4471829<style>--></style>",
        "<title>a <b> MRN 4471829</title>",
        "<style>x</style><textarea><b></textarea>MRN 4471829",
        "<a title='a>b'>MRN 4471829",
        "a < b MRN 4471829",
        "<title>MRN 4471829",
    ],
)
def test_what_is_not_plain_is_left_to_the_parser(source):
    assert plain_text(source) is None
    assert "4471829" in html_to_text(source)


@pytest.mark.parametrize("unit", ["<li><dd>", "<dt><li>", "<td><li><dd>"])
def test_list_items_in_one_another_count_as_nested(unit):
    """Each keeps the other from ending: 60 KB of it took the parser more than a second."""
    assert not is_light(unit * 4000, work=4_000_000)


def test_a_style_sheet_is_no_reason_to_think_html_heavy():
    """Python before 3.11.5 found no end of it by a possessive repetition."""
    assert is_light("<style>a > b { c: d }</style><!-- - a -->" + '<p class="x">y</p>' * 3000, work=4_000_000)


@pytest.mark.parametrize("source", ["<!--" * 50_000, "<!-- a --><!-- b", "<p>a</p>" + "<!-- " * 50_000 + "--"])
def test_comments_without_an_end_are_left_to_the_parser(source):
    """Each was looked for to the end of the text: 120 KB of them took a minute and a half."""
    assert plain_text(source) is None


@pytest.mark.parametrize("unit", ["<", "<a ", "</", "<![", "<?", "<p>a</p><b", " <"], ids=repr)
def test_tags_without_an_end_are_left_to_the_parser(unit):
    """Each was looked for to the end of the text: a quarter of a megabyte of them took twenty seconds."""
    assert plain_text("<p>a</p>" + unit.rpartition(">")[2] * 1_000_000) is None


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("<p>1 &lt<b>;2", "\n1 <;2"),
        ("<i>&am</i>p; &<b>amp;</b>", "&amp; &amp;"),
        ("<i>&not</i>in; &#65<b>1;", "\xacin; A1;"),
        ("<p>a&nbsp;<br>b", "\na\xa0\nb"),
    ],
)
def test_an_entity_ends_where_a_tag_begins(source, text):
    assert plain_text(source) == text
