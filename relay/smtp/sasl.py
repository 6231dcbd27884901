"""The server side of SASL PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login) inside AUTH (RFC 4954)."""

import binascii
from typing import Final

from relay.core.reply import Reply
from relay.smtp import server_replies as say
from relay.smtp.server_events import AuthRequest
from relay.smtp.server_limits import SessionLimits
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
            raise CommandError.of(504, "5.5.4", f"The mechanism is not supported; use {' or '.join(MECHANISMS)}")
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
            raise CommandError.of(501, "5.7.0", "Authentication cancelled")
        decoded = _decode(text)
        if self.mechanism == "PLAIN":
            self.credentials = _plain(decoded)
        elif self._identity is None:
            self._identity = decoded
        else:
            self.credentials = (self._identity, decoded)


class Authentication:
    """The AUTH side of one session: whether it may, how far it has come, how often it failed.

    Attributes:
        authenticated: whether an AUTH succeeded.
    """

    __slots__ = ("_exchange", "_failures", "_limits", "authenticated")

    def __init__(self, limits: SessionLimits) -> None:
        self._limits = limits
        self._exchange: Exchange | None = None
        self._failures = 0
        self.authenticated = False

    def possible(self, *, secure: bool) -> bool:
        """Whether AUTH may be used: never in the clear unless the listener is told so."""
        return self._limits.auth and (secure or self._limits.auth_over_clear)

    def offers(self, *, secure: bool) -> tuple[str, ...]:
        """What EHLO says of AUTH."""
        if self.authenticated or not self.possible(secure=secure):
            return ()
        mechanisms = " ".join(MECHANISMS)
        return (f"AUTH {mechanisms}", f"AUTH={mechanisms}") if self._limits.auth_equals else (f"AUTH {mechanisms}",)

    def begin(self, argument: str, *, secure: bool) -> Reply | AuthRequest:
        """Take the AUTH command; the next challenge, or the question once it is complete.

        Raises:
            CommandError: not now, not here, or not like this.
        """
        words = argument.split()
        if not self._limits.auth:
            raise CommandError(say.AUTH_UNOFFERED)
        if not self.possible(secure=secure):
            raise CommandError(say.AUTH_CLEAR)
        if self.authenticated:
            raise CommandError(say.AUTH_ALREADY)
        if not 1 <= len(words) <= 2:
            raise CommandError(say.AUTH_SYNTAX)
        self._exchange = Exchange(words[0].upper())
        if len(words) == 2:
            self._exchange.initial(words[1])
        return self._next(self._exchange)

    def proceed(self, text: str) -> Reply | AuthRequest:
        """Take the peer's answer to a challenge.

        Raises:
            CommandError: as for :meth:`Exchange.answer`.
        """
        if self._exchange is None:
            raise RuntimeError("no SASL exchange is under way")
        self._exchange.answer(text)
        return self._next(self._exchange)

    def settle(self, *, success: bool) -> bool:
        """Record the answer to the question; whether the session has failed too often to go on."""
        self.authenticated = success
        self._failures += not success
        return self._failures >= self._limits.max_auth_failures

    def leave(self) -> None:
        """Forget an exchange that was broken off."""
        self._exchange = None

    def _next(self, exchange: Exchange) -> Reply | AuthRequest:
        if exchange.credentials is None:
            return exchange.prompt()
        identity, password = exchange.credentials
        self._exchange = None
        return AuthRequest(mechanism=exchange.mechanism, identity=identity, password=password)


def _decode(text: str) -> str:
    try:
        return binascii.a2b_base64(text, strict_mode=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise CommandError.of(501, "5.5.2", "The response is not base64 of UTF-8") from None


def _plain(decoded: str) -> tuple[str, str]:
    parts = decoded.split("\0")
    if len(parts) != 3 or not parts[1]:
        raise CommandError.of(501, "5.5.2", "PLAIN wants: authorisation NUL identity NUL password")
    if parts[0] not in {"", parts[1]}:
        raise CommandError.of(535, "5.7.8", "Nobody may act for another identity")
    return parts[1], parts[2]
