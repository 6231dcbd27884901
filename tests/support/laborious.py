"""A message that costs much more to take apart than its size says."""


def laborious(lines: int, inside: int, head: bytes = b"") -> bytes:
    """Lines of text in multiparts inside one another, none of which is closed."""
    parts = (b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (each, each) for each in range(inside))
    return head + b"".join(parts) + b"Content-Type: text/plain\r\n\r\n" + b"a\r\n" * lines
