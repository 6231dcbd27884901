r"""The grammar of commands (RFC 5321 section 4.1.2, RFC 6531 section 3.3, RFC 1870, RFC 6152, RFC 3461).

Tolerant where nothing can be meant but one thing and old clients need it: white space around the colon of ``FROM:`` and
``TO:`` and at the end of a line, a path without its angle brackets, a source route (removed, as RFC 5321 appendix C
wants), a bare ``postmaster``, any octets in the name of HELO and EHLO (old programs give the computer's own, in its
own charset). Not tolerant of control characters, of octets that are not UTF-8 elsewhere, of a line that ends in a bare
LF (a listener that normalises bare newlines takes that too), nor of parameters that were not offered.
"""

import functools
import re
from typing import Final, Self, TypeVar

from relay.core.address import NULL_SENDER, Address, ReversePath
from relay.core.envelope import Recipient
from relay.core.errors import AddressError, PosternError
from relay.core.reply import Reply
from relay.smtp import dsn
from relay.smtp.server_events import Mail

_PATH: Final = (
    r"[ \t]*:[ \t]*(?:<(?:@[^:<>\s]*:)?(?P<path>(?:\"(?:[^\"\\]|\\.)*\"|[^\s<>\"])*)>|(?P<bare>[^\s<>]+))"
    r"(?:[ \t]+(?P<parameters>.*))?\Z"
)
_FROM: Final = re.compile("FROM" + _PATH, re.IGNORECASE)
_TO: Final = re.compile("TO" + _PATH, re.IGNORECASE)
_PARAMETER: Final = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9-]*)(?:=(?P<value>[!-<>-~\u0080-\U0010ffff]+))?\Z")
_SIZE: Final = re.compile(r"[0-9]{1,20}\Z")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_HELO_UNSAFE: Final = re.compile(r"[^!#-'*-;=?-\[\]-~]")
_MAX_HELO: Final = 255
_GREETINGS: Final = frozenset({b"HELO ", b"EHLO "})
_UNASKED: Final[frozenset[str]] = frozenset()
_Value = TypeVar("_Value", str, frozenset[str])
_ELSEWHERE: Final = frozenset({"REQUIRETLS", "BY", "HOLDFOR", "HOLDUNTIL", "MT-PRIORITY"})
"""Parameters of extensions that other servers offer."""


class CommandError(PosternError):
    """A command that is refused for what it says; ``reply`` says why."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        super().__init__(str(reply))

    @classmethod
    def of(cls, code: int, enhanced: str, text: str) -> Self:
        """Build it from the reply's parts."""
        return cls(Reply.of(code, enhanced, text))


def decode_line(line: bytes) -> str:
    """A command line as text, white space at its end removed.

    Raises:
        CommandError: control characters (NUL and a stray CR among them), or octets that are not UTF-8 behind anything
            but HELO and EHLO.
    """
    try:
        text = line.decode("utf-8", "replace" if line[:5].upper() in _GREETINGS else "strict")
    except UnicodeDecodeError:
        raise CommandError.of(500, "5.5.2", "The command is not ASCII or UTF-8") from None
    if _CONTROL.search(text):
        raise CommandError.of(500, "5.5.2", "The command has a control character")
    return text.rstrip(" \t")


def neuter_helo(text: str) -> str:
    """A HELO name made safe for headers and logs: bounded, and ``?`` for all that could mean something there."""
    return _HELO_UNSAFE.sub("?", text[:_MAX_HELO])


@functools.lru_cache(maxsize=256)  # clients name few senders
def parse_mail(argument: str, *, secure: bool = False) -> Mail:
    """Read what follows ``MAIL``; ``secure``: over TLS, where REQUIRETLS is offered (RFC 8689 section 2).

    Raises:
        CommandError: with the reply to give.
    """
    text, parameters = _split(_FROM, argument, "MAIL FROM:<address>")
    size, body_8bit, smtputf8, require_tls, ret, envid = 0, False, False, False, "", ""
    for name, value in parameters:
        if name == "SIZE":
            if value is None or not _SIZE.match(value):
                raise CommandError.of(501, "5.5.4", "SIZE must be a number of octets")
            size = int(value)
        elif name == "BODY":
            body_8bit = _body(value)
        elif name == "SMTPUTF8" and value is None:
            smtputf8 = True
        elif name == "REQUIRETLS" and secure:
            if value is not None:
                raise CommandError.of(501, "5.5.4", "REQUIRETLS takes no value")
            require_tls = True
        elif name == "RET":
            ret = _read(dsn.read_ret(value), dsn.BAD_RET)
        elif name == "ENVID":
            envid = _read(dsn.read_envid(value), dsn.BAD_ENVID)
        elif name != "AUTH" or value is None:  # RFC 4954 section 5: taken where AUTH is offered, and trusted nowhere
            raise _unsupported(name)
    path = _reverse_path(text, smtputf8=smtputf8)
    return Mail(
        reverse_path=path, size=size, body_8bit=body_8bit, smtputf8=smtputf8, require_tls=require_tls,
        envelope_id=envid, ret=ret,
    )  # fmt: skip


def parse_rcpt(argument: str, *, smtputf8: bool, hostname: str) -> Recipient:
    """Read what follows ``RCPT``; a bare ``postmaster`` is the one of ``hostname`` (RFC 5321 section 4.5.1).

    Raises:
        CommandError: with the reply to give.
    """
    text, parameters = _split(_TO, argument, "RCPT TO:<address>")
    original, notify = _notices(parameters) if parameters else ("", _UNASKED)
    if text.lower() == "postmaster":
        text = f"{text}@{hostname}"
    if not smtputf8 and not text.isascii():
        raise CommandError.of(553, "5.6.7", "An address outside ASCII needs SMTPUTF8")
    try:
        return Recipient(address=_address(text), original=original, notify=notify)
    except AddressError as error:
        raise CommandError.of(501, "5.1.3", f"Bad recipient address: {error}") from None


def _notices(parameters: list[tuple[str, str | None]]) -> tuple[str, frozenset[str]]:
    """ORCPT and NOTIFY."""
    original, notify = "", _UNASKED
    for name, value in parameters:
        if name == "NOTIFY":
            notify = _read(dsn.read_notify(value), dsn.BAD_NOTIFY)
        elif name == "ORCPT":
            original = _read(dsn.read_orcpt(value), dsn.BAD_ORCPT)
        else:
            raise _unsupported(name)
    return original, notify


def _read(found: _Value | None, wanted: str) -> _Value:
    if found is None:
        raise CommandError.of(501, "5.5.4", wanted)
    return found


def _reverse_path(text: str, *, smtputf8: bool) -> ReversePath:
    if not text:
        return NULL_SENDER
    if not smtputf8 and not text.isascii():
        raise CommandError.of(553, "5.6.7", "An address outside ASCII needs SMTPUTF8")
    try:
        return ReversePath(_address(text))
    except AddressError as error:
        raise CommandError.of(501, "5.1.7", f"Bad sender address: {error}") from None


@functools.lru_cache(maxsize=4096)
def _address(text: str) -> Address:
    return Address.parse(text)


def _split(pattern: re.Pattern[str], argument: str, syntax: str) -> tuple[str, list[tuple[str, str | None]]]:
    match = pattern.match(argument)
    if match is None:
        raise CommandError.of(501, "5.5.4", f"Syntax: {syntax}")
    path = match["path"]
    if match["parameters"] is None:
        return match["bare"] if path is None else path, []
    parameters: list[tuple[str, str | None]] = []
    for word in match["parameters"].split():
        parameter = _PARAMETER.match(word)
        if parameter is None:
            raise CommandError.of(501, "5.5.4", "A parameter is malformed")
        parameters.append((parameter["name"].upper(), parameter["value"]))
    if len({name for name, _ in parameters}) != len(parameters):
        raise CommandError.of(501, "5.5.4", "A parameter is given twice")
    return match["bare"] if path is None else path, parameters


def _body(value: str | None) -> bool:
    word = (value or "").upper()
    if word not in {"7BIT", "8BITMIME"}:
        raise CommandError.of(501, "5.5.4", "BODY must be 7BIT or 8BITMIME")
    return word == "8BITMIME"


def _unsupported(name: str) -> CommandError:
    # A name from elsewhere is not repeated: replies are logged, and a stranger may have typed anything.
    shown = f"{name} is not offered here" if name in _ELSEWHERE else "A parameter is not supported"
    return CommandError.of(555, "5.5.4", shown)
