"""AUTH as a client says it, line by line (RFC 4954): CRAM-MD5 (RFC 2195), PLAIN (RFC 4616), LOGIN."""

import base64
import hmac
from collections.abc import Generator
from typing import Final

MECHANISMS: Final = ("CRAM-MD5", "PLAIN", "LOGIN")
"""Those that are known, the best first."""
CANCEL: Final = b"*"
"""Said in the place of an answer that is not known: it ends the exchange (RFC 4954 section 4)."""


def login(mechanism: str, username: str, password: str) -> Generator[bytes, str, None]:
    """The lines to say, without line ends; each but the first is asked for with the text of a 334.

    Args:
        mechanism: one of :data:`MECHANISMS`.
        username: in UTF-8 on the wire.
        password: likewise.
    """
    user, secret = username.encode(), password.encode()
    if mechanism == "CRAM-MD5":
        challenge = yield b"AUTH CRAM-MD5"
        try:
            proof = hmac.new(secret, base64.b64decode(challenge, validate=True), "md5").hexdigest()
        except ValueError:  # not base64, or MD5 is forbidden here
            yield CANCEL
        else:
            yield base64.b64encode(user + b" " + proof.encode())
    elif mechanism == "PLAIN":
        yield b"AUTH PLAIN " + base64.b64encode(b"\0" + user + b"\0" + secret)
    else:
        yield b"AUTH LOGIN"
        yield base64.b64encode(user)
        yield base64.b64encode(secret)
