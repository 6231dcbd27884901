"""Transfer encodings, undone."""

import base64
import binascii
import string

from hypothesis import given
from hypothesis import strategies as st

from relay.mail.transfer import decode_transfer


@given(st.lists(st.sampled_from([b"QUJD", b"QUI=", b"\r\n", b" ", b"*", b"\0", b"\xe9", b"-", b"\x0b"])).map(b"".join))
def test_base64_with_something_else_in_it_is_a_fault(raw):
    allowed = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/= \t\r\n\x0b\x0c"
    _, fault = decode_transfer(raw, "base64")
    assert not (fault and all(octet in allowed for octet in raw))
    assert fault or all(octet in allowed for octet in raw.strip())


ODD = st.sampled_from([b"", b"", b"*", b"=", b"\r", b"\n", b"\r\n", b" ", b"A", b"\0", b"-"])


def plainly(raw):
    """(data where it is whole, fault), octet by octet."""
    stripped = raw.strip()
    if any(octet not in string.ascii_letters + string.digits + "+/= \t\r\n\x0b\x0c" for octet in map(chr, stripped)):
        return None, "encoding"
    if b"=" in stripped[:-2]:
        return None, ""
    try:
        return binascii.a2b_base64(stripped), ""
    except binascii.Error:
        return None, "encoding"


@given(st.binary(max_size=60), st.sampled_from([4, 8, 12]), ODD, st.integers(0, 100), st.sampled_from([b"", b"\r\n"]))
def test_base64_in_lines_of_one_length_is_judged_as_octet_by_octet(plain, width, odd, place, end):
    encoded = base64.b64encode(plain)
    raw = b"\r\n".join(encoded[start : start + width] for start in range(0, len(encoded), width)) + end
    data, fault = decode_transfer(raw, "base64")
    assert (data, fault) == (plain, "")
    raw = raw[:place] + odd + raw[place:]
    data, fault = decode_transfer(raw, "base64")
    expected, wrong = plainly(raw)
    assert fault == wrong
    assert expected is None or data == expected


@given(
    st.lists(
        st.one_of(
            st.sampled_from([b"=", b"==", b"\r\n", b" ", b"\t", b"\x0b", b"*", b"-", b"_", b"\0", b"\xff"]),
            st.text(string.ascii_letters + string.digits + "+/", max_size=90).map(str.encode),
        ),
        max_size=12,
    ).map(b"".join)
)
def test_what_base64_holds_is_what_the_standard_library_finds(raw):
    data, fault = decode_transfer(raw, "base64")
    stripped = raw.strip()
    if fault or b"=" in stripped[:-2]:
        return
    assert data == binascii.a2b_base64(stripped)
