"""Encoded words, against the standard library's way for all of them."""

from email.header import Header

from hypothesis import given
from hypothesis import strategies as st

from relay.mail.edit import encode_words


@given(
    st.from_regex(r"[A-Za-z][A-Za-z-]{0,30}", fullmatch=True),
    st.text(st.sampled_from("aé ß=?_ \tö中😀\u00a0\u2028\x7f.,")) | st.text(max_size=90),
)
def test_a_word_is_written_as_the_standard_library_writes_it(name, text):
    plain = text.encode("utf-8", "replace").decode("utf-8")
    expected = f"{name}: {Header(plain, 'utf-8', maxlinelen=76, header_name=name).encode(linesep=chr(13) + chr(10))}"
    assert encode_words(name, text) == expected.encode("ascii") + b"\r\n"
