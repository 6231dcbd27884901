"""Text in the one form that detectors read, whatever it went through on its way."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.charset import decode
from relay.mail.html import html_to_text
from relay.mail.text import normalise, text_of
from relay.mail.words import decode_value


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("\uff11\uff12\uff13-\uff14\uff15", "123-45"),
        ("DOB\u00a003/04", "DOB 03/04"),
        ("123\u00ad45", "12345"),
        ("1\u200b2\u200c3\u200d4\ufeff5\u2060", "12345"),
        ("\u202e123\u202c\u200f\u200e45", "12345"),
        ("123\u201045\u20116789\u2013x\u2212y", "123-45-6789-x-y"),
        ("\u0661\u0662\u0663", "123"),
        ("Patient\u2019s \u201cMRN\u201d", 'Patient\'s "MRN"'),
        ("a\r\nb\rc", "a\nb\nc"),
        ("diabe-\n  tes", "diabetes"),
        ("219-45-\n9876", "219-45-\n9876"),
        ("o\ufb03ce", "office"),
    ],
)
def test_normalise(written, read):
    assert normalise(written) == read


def test_marks_without_end_are_put_in_order_a_piece_at_a_time(monkeypatch):
    real, pieces = unicodedata.normalize, []

    def counting(form, piece):
        pieces.append(len(piece))
        return real(form, piece)

    monkeypatch.setattr(unicodedata, "normalize", counting)
    marks = "a" + "\u0301\u0327" * 60_000
    assert len(normalise(f"SSN 219\uff0d45\u20119876 {marks} ward")) > 100_000
    assert max(pieces) <= 1024


@given(
    st.lists(st.text(alphabet="ae\u0301\u0327\uff11\ufb03\u1100\u1161\u11a8\u3042\u3099", max_size=40), max_size=200)
)
def test_what_has_blanks_is_normalised_as_if_it_were_one_piece(words):
    text = " ".join(words)
    assert normalise(text) == unicodedata.normalize("NFKC", text)


@given(st.text(max_size=80))
def test_normalising_twice_changes_nothing_more(text):
    once = normalise(text)
    if "-\n" not in once.replace(" ", "").replace("\t", ""):
        assert normalise(once) == once


@pytest.mark.parametrize(
    ("data", "label", "text"),
    [
        ("café".encode(), "iso-8859-1", "café"),
        ("café".encode("latin-1"), "utf-8", "café"),
        ("café".encode("latin-1"), "no-such-charset", "café"),
        ("café".encode("utf-16"), "utf-8", "café"),
        ("MRN 4471".encode("utf-16-le"), "us-ascii", "MRN 4471"),
        ("MRN 4471".encode("utf-16-be"), "", "MRN 4471"),
        (b"\xef\xbb\xbfcaf\xc3\xa9", "", "café"),
        ("日本".encode("iso-2022-jp"), "iso-2022-jp", "日本"),
        ("日本".encode("shift-jis"), "shift-jis", "日本"),
        ("“x”".encode("cp1252"), "us-ascii", "“x”"),
    ],
)
def test_charsets_with_wrong_labels(data, label, text):
    assert decode(data, label) == text


@given(
    st.binary(max_size=64),
    st.sampled_from(["utf-8", "utf-16", "utf-7", "base64", "rot13", "idna", "cp037", "\0", "x" * 300]),
)
def test_decoding_never_raises_and_gives_text_that_can_be_written(data, label):
    decode(data, label).encode("utf-8")


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>D<b>O</b>B&#58;&nbsp;03&#x2F;04</p>", "DOB: 03/04"),
        ("<td>DOB</td><td>03/04/1961</td>", "DOB 03/04/1961"),
        ("<script>var x='secret'</script><style>.a{}</style>seen", "seen"),
        ("4<!-- x -->471", "4471"),
        ("di<wbr>abetes", "diabetes"),
        ('<span style="display:none">hidden</span>', "hidden"),
        ('<img src="cid:1" alt="Jane Roe">', "Jane Roe"),
        ("a<br>b<div>c</div>", "a b c"),
        ("<p>unclosed <b>tag", "unclosed tag"),
    ],
)
def test_html_is_read_as_people_see_it(html, text):
    assert " ".join(normalise(html_to_text(html)).split()) == text


def test_cells_and_rows_stay_apart():
    text = text_of(b"<table><tr><th>DOB<th>MRN</tr><tr><td>1<td>2</tr></table>", "text/html", "utf-8")
    assert [line.split() for line in text.splitlines() if line.strip()] == [["DOB", "MRN"], ["1", "2"]]


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("=?utf-8?B?SmFuZSBSb2U=?= =?utf-8?Q?_result?=", "Jane Roe result"),
        ("=?iso-8859-1?Q?caf=E9?=", "café"),
        ("=?x-unknown?Q?caf=C3=A9?=", "café"),
        ("=?utf-8?B?%%%?=", "=?utf-8?B?%%%?="),
        ("a\r\n b", "a b"),
        ("caf\udcc3\udca9", "café"),
    ],
)
def test_header_values(raw, value):
    assert decode_value(raw) == value


@pytest.mark.parametrize("tag", ["<div>", "<font size=3>", "<table><tr><td>", "<p><b>"])
def test_what_is_nested_beyond_all_sense_is_read_without_a_parser(tag, monkeypatch):
    """A parser takes the square of the depth: a quarter of a megabyte of ``<div>`` took eight seconds."""
    heavy = tag * 5000 + "MRN: 44&#55;1<b>829</b><img alt='HIV'>"
    monkeypatch.setattr("relay.mail.html.LexborHTMLParser", None)
    text = html_to_text(heavy)
    assert "MRN: 4471829" in text
    assert text.endswith("\nHIV")


def test_a_long_and_flat_newsletter_still_goes_through_the_parser():
    rows = "<tr><td><style>.patient { color: red }</style>Row</td><td><a href='x'>more</a></td></tr>" * 3000
    text = html_to_text(f"<table>{rows}</table>")
    assert text.count("Row") == 3000
    assert "color: red" not in text
