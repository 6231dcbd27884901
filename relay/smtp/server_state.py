"""The legal moves of an SMTP server session, as tables (RFC 5321 section 4.1.4, RFC 3207, RFC 4954).

Whatever is not in :data:`MOVES` is answered 503; the machine in :mod:`relay.smtp.server` holds no other opinion on the
order of commands.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from relay.core.reply import Reply
from relay.smtp import server_replies as say


class State(Enum):
    """Where a session stands. It never leaves ``CLOSED``."""

    CONNECTED = auto()
    """Nobody has said HELO or EHLO yet, or not since TLS began."""
    GREETED = auto()
    MAIL = auto()
    """A sender, no recipient yet."""
    RCPT = auto()
    """A sender and at least one recipient."""
    DATA = auto()
    """Reading the message."""
    AUTH = auto()
    """Reading the answers of a SASL exchange."""
    TLS = auto()
    """Said 220 to STARTTLS: the next byte that counts comes through TLS."""
    CLOSED = auto()

    __hash__ = object.__hash__  # Enum's own is a function in Python


_ANYWHERE: Final = ("NOOP", "VRFY", "EXPN", "HELP")


def _moves(here: State, **there: State) -> Mapping[str, State]:
    return {
        **dict.fromkeys(_ANYWHERE, here),
        "HELO": State.GREETED,
        "EHLO": State.GREETED,
        "RSET": State.CONNECTED if here is State.CONNECTED else State.GREETED,
        "QUIT": State.CLOSED,
        **there,
    }


MOVES: Final[Mapping[State, Mapping[str, State]]] = {
    State.CONNECTED: _moves(State.CONNECTED),
    State.GREETED: _moves(State.GREETED, MAIL=State.MAIL, AUTH=State.AUTH, STARTTLS=State.TLS),
    State.MAIL: _moves(State.MAIL, RCPT=State.RCPT),
    State.RCPT: _moves(State.RCPT, RCPT=State.RCPT, DATA=State.DATA),
    State.DATA: {},
    State.AUTH: {},
    State.TLS: {},
    State.CLOSED: {},
}
"""Command → the state after it succeeded. A command that is refused leaves the state as it was."""

WITHOUT_TLS: Final = frozenset({"EHLO", "HELO", "STARTTLS", "NOOP", "QUIT"})
"""What a listener that requires TLS answers before it (RFC 3207 section 4); HELO leads nowhere and may be asked."""

IN_TRANSACTION: Final = frozenset({State.MAIL, State.RCPT, State.DATA})
"""Where forgetting leads back to ``GREETED``."""

COMMANDS: Final = frozenset(verb for moves in MOVES.values() for verb in moves)
"""Every command that exists."""

IDLE_COMMANDS: Final = frozenset({"HELO", "EHLO", "RSET", *_ANYWHERE})
"""What brings no message nearer: bounded in number between two messages."""

UNOFFERED: Final = frozenset({"ETRN", "TURN", "SEND", "SOML", "SAML", "ATRN", "BURL"})
"""Known to SMTP, never offered here: 502."""

FOREIGN: Final = frozenset({"GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "PRI", "BDAT", "HOST:", "USER-AGENT:"})
"""Closes the session: another protocol talks to us on somebody's behalf, or octets follow that are not commands."""

SEQUENCE_HINTS: Final[Mapping[tuple[State, str], str]] = {
    (State.CONNECTED, "MAIL"): "Say EHLO first",
    (State.CONNECTED, "AUTH"): "Say EHLO first",
    (State.CONNECTED, "STARTTLS"): "Say EHLO first",
    (State.CONNECTED, "RCPT"): "Say EHLO and MAIL first",
    (State.CONNECTED, "DATA"): "Say EHLO, MAIL and RCPT first",
    (State.GREETED, "RCPT"): "Say MAIL first",
    (State.GREETED, "DATA"): "Say MAIL and RCPT first",
    (State.MAIL, "DATA"): "Say RCPT first: there is no valid recipient",
    (State.MAIL, "MAIL"): "A message is under way already",
    (State.RCPT, "MAIL"): "A message is under way already",
}

_NO_ARGUMENT: Final = frozenset({"DATA", "RSET", "QUIT", "STARTTLS"})


def out_of_place(state: State, verb: str, argument: str, *, locked: bool) -> Reply | None:
    """The refusal of a command that does not exist or may not come now; ``None`` when it may.

    Args:
        state: where the session stands.
        verb: upper case.
        argument: what follows it.
        locked: whether TLS is required and has not begun.
    """
    if verb in FOREIGN:
        return None
    if verb in UNOFFERED:
        return say.UNOFFERED
    if verb not in COMMANDS:
        return say.UNKNOWN
    if locked and verb not in WITHOUT_TLS:
        return say.TLS_FIRST
    if verb not in MOVES[state]:
        return Reply.of(503, "5.5.1", SEQUENCE_HINTS.get((state, verb), "Not now: bad sequence of commands"))
    if argument and verb in _NO_ARGUMENT:
        return say.NO_ARGUMENT
    return None
