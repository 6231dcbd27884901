"""Transfer encodings, undone."""

from hypothesis import given
from hypothesis import strategies as st

from relay.mail.transfer import decode_transfer


@given(st.lists(st.sampled_from([b"QUJD", b"QUI=", b"\r\n", b" ", b"*", b"\0", b"\xe9", b"-", b"\x0b"])).map(b"".join))
def test_base64_with_something_else_in_it_is_a_fault(raw):
    allowed = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/= \t\r\n\x0b\x0c"
    _, fault = decode_transfer(raw, "base64")
    assert not (fault and all(octet in allowed for octet in raw))
    assert fault or all(octet in allowed for octet in raw.strip())
