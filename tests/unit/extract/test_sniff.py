"""What a file is taken for, by its content and name."""

import pytest

from relay.extract.sniff import sniff


@pytest.mark.parametrize("count", [8, 200, 1000])
def test_many_comments_before_the_first_tag_are_each_read_once(count):
    # Each could be taken to end at any later end: 32 of them took four seconds, 100 would have outlasted this test.
    assert sniff(b"<!--" + b"--><!--" * count + b"-->", "text/plain") == "text"


def test_html_may_begin_with_comments():
    assert sniff(b"<!-- a --><!-- b -->\n<table><tr><td>1</table>", "application/octet-stream") == "html"


@pytest.mark.parametrize("text", [b"<pat@mail.example> wrote:", b"<b@x>", b"< p >", b"a <p>b</p>", b"<1>"])
def test_what_only_looks_like_a_tag_is_text(text):
    assert sniff(text, "text/plain") == "text"


def test_the_name_tells_html_that_begins_as_text():
    assert sniff(b"Results <b>below</b>", "text/plain", "R.HTM") == "html"
    assert sniff(b"Results <b>below</b>", "text/plain", "r.txt") == "text"


def test_xml_in_utf_16_is_what_it_would_be_in_utf_8():
    text = '<?xml version="1.0" encoding="utf-16"?><ClinicalDocument/>'
    assert sniff(text.encode("utf-16"), "application/octet-stream") == "c-cda"
    assert sniff(text.encode("utf-16-be"), "application/octet-stream") == "c-cda"
