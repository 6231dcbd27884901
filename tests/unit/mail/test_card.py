"""Calendar entries and contacts, as they are shown."""

import base64

from hypothesis import given
from hypothesis import strategies as st

from relay.mail.card import card_files, card_text, is_card


def folded(text, width):
    return "\r\n ".join(text[place : place + width] for place in range(0, len(text), width))


@given(
    st.text(st.characters(codec="ascii", exclude_categories=["Cc"], exclude_characters="\\"), min_size=1),
    st.integers(2, 75),
)
def test_a_value_is_whole_wherever_its_line_is_folded(value, width):
    text = f"BEGIN:VCALENDAR\r\n{folded('DESCRIPTION:' + value, width)}\r\nEND:VCALENDAR\r\n"
    assert f"DESCRIPTION: {value}" in card_text(text).split("\n")


def test_marks_are_read_and_html_is_shown():
    text = "NOTE:a\\, b\\nc\\\\d\r\nX-ALT-DESC;FMTTYPE=text/html:<p>5<b>36</b></p>\r\n"
    lines = card_text(text).split("\n")
    assert lines[:2] == ["NOTE: a, b", "c\\d"]
    assert any("536" in line for line in lines)


def test_quoted_printable_goes_on_in_the_next_line():
    assert card_text("NOTE;ENCODING=QUOTED-PRINTABLE:=41=\r\n=42") == "NOTE;ENCODING=QUOTED-PRINTABLE: AB"


def test_files_are_found_and_portraits_are_not_files():
    coded = base64.b64encode(b"hello" * 40).decode()
    text = f'ATTACH;ENCODING=BASE64;X-FILENAME="a.txt":{folded(coded, 60)}\r\nPHOTO;ENCODING=b;TYPE=JPEG:{coded}\r\n'
    assert list(card_files(text)) == [("a.txt", b"hello" * 40)]
    assert len(list(card_files(f"ATTACH;ENCODING=BASE64:{coded}\r\n" * 500))) == 100


def test_only_what_begins_so_is_one():
    assert is_card(b"\xef\xbb\xbfbegin:vcard\r\n")
    assert not is_card(b"To begin:vcard\r\n")
    assert not is_card(b"BEGIN:VCARDS ")
