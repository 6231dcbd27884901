"""The server side of SASL PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login) inside AUTH (RFC 4954)."""

import binascii
from typing import Final

from relay.core.reply import Reply
from relay.smtp.wire import CommandError

MECHANISMS: Final = ("PLAIN", "LOGIN")
_ASK_ANYTHING: Final = Reply.of(334, "", "")
_ASK_NAME: Final = Reply.of(334, "", "VXNlcm5hbWU6")  # "Username:"
_ASK_PASSWORD: Final = Reply.of(334, "", "UGFzc3dvcmQ6")  # "Password:"


class Exchange:
    """One AUTH command. Ask :meth:`prompt` for what to say, give :meth:`answer` each line, until ``credentials``.

    Attributes:
        credentials: identity and password when the exchange is complete.
    """

    __slots__ = ("_identity", "credentials", "mechanism")

    def __init__(self, mechanism: str) -> None:
        if mechanism not in MECHANISMS:
            raise CommandError(504, "5.5.4", f"The mechanism is not supported; use {' or '.join(MECHANISMS)}")
        self.mechanism = mechanism
        self._identity: str | None = None
        self.credentials: tuple[str, str] | None = None

    def prompt(self) -> Reply:
        """The challenge that asks for the next line."""
        if self.mechanism == "PLAIN":
            return _ASK_ANYTHING
        return _ASK_NAME if self._identity is None else _ASK_PASSWORD

    def initial(self, text: str) -> None:
        """Take an initial response, in which ``=`` stands for nothing (RFC 4954 section 4)."""
        self.answer("" if text == "=" else text)

    def answer(self, text: str) -> None:
        """Take one line.

        Raises:
            CommandError: cancelled, not base64, or not what the mechanism wants.
        """
        if text == "*":
            raise CommandError(501, "5.7.0", "Authentication cancelled")
        decoded = _decode(text)
        if self.mechanism == "PLAIN":
            self.credentials = _plain(decoded)
        elif self._identity is None:
            self._identity = decoded
        else:
            self.credentials = (self._identity, decoded)


def _decode(text: str) -> str:
    try:
        return binascii.a2b_base64(text, strict_mode=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise CommandError(501, "5.5.2", "The response is not base64 of UTF-8") from None


def _plain(decoded: str) -> tuple[str, str]:
    parts = decoded.split("\0")
    if len(parts) != 3 or not parts[1]:
        raise CommandError(501, "5.5.2", "PLAIN wants: authorisation NUL identity NUL password")
    if parts[0] not in {"", parts[1]}:
        raise CommandError(535, "5.7.8", "Nobody may act for another identity")
    return parts[1], parts[2]
