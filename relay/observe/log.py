"""The structured log: one JSON object a line, one message id through all of a message's lines, silent about patients.

Every package logs with ``structlog.get_logger("name")``; :func:`configure`, called once a process, decides where
lines go and what they may say. A message's id is bound with :func:`message_context` or ``log.bind(message_id=...)``.
"""

import asyncio
import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final

import orjson
import structlog

from relay.observe.lines import PIPE_WRITE, LineWriter
from relay.observe.withhold import FORBIDDEN, MAILBOXES, describe, scrub, scrub_fields, scrub_text

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
_METHODS: Final = {"warn": "warning", "exception": "error", "fatal": "critical", "msg": "info"}
_URGENT: Final = frozenset({"error", "critical"})
_COLOURS: Final = {"debug": "2", "info": "36", "warning": "33", "error": "31", "critical": "1;31"}


_RESERVED: Final = frozenset({"at", "level", "process", "logger"})
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_BOUND: Final[ContextVar[Mapping[str, str]]] = ContextVar("postern_log", default=_NOTHING)
"""What stands on every line of a task."""


class Format(StrEnum):
    """How a line looks."""

    JSON = "json"
    TEXT = "console"
    """For people."""
    AUTO = "auto"
    """For people on a terminal, JSON elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """Where and how to log.

    Attributes:
        process: the process's name, on every line.
        level: least level written: ``debug``, ``info``, ``warning``, ``error``.
        format: how a line looks.
        file: appended to by all processes; ``None``: stderr.
        interval: seconds that a line may wait in memory. Errors never wait.
    """

    process: str = ""
    level: str = "info"
    format: Format = Format.AUTO
    file: Path | None = None
    interval: float = 0.25


class _State:
    """Of this process: loggers are cached by structlog, and find the writer here."""

    writer: LineWriter | None = None
    process: str = ""
    text: bool = False
    second: int = -1
    stamp: str = ""
    on_lost: Callable[[int], None] | None = None


class _Sink:
    """What structlog calls a logger; it remembers its name."""

    __slots__ = ("name",)

    def __init__(self, *names: Any) -> None:
        self.name = str(names[0]) if names else ""

    def write(self, line: bytes, *, urgent: bool) -> None:
        if _State.writer is not None:
            _State.writer.write(line, urgent=urgent)

    def msg(self, line: bytes) -> None:
        self.write(line, urgent=False)

    debug = info = msg

    def error(self, line: bytes) -> None:
        self.write(line, urgent=True)

    warning = msg
    warn = msg
    critical = fatal = exception = failure = err = error


def configure(options: LogOptions) -> None:
    """Set up logging for this process, libraries and uncaught exceptions included. May be called again."""
    previous = _State.writer
    target: int | Path = options.file if options.file is not None else 2
    _State.writer = LineWriter(target, interval=options.interval, on_lost=_lost)
    if previous is not None:
        previous.close()
    _State.process = options.process
    on_terminal = options.file is None and sys.stderr is not None and sys.stderr.isatty()
    _State.text = options.format is Format.TEXT or (options.format is Format.AUTO and on_terminal)
    structlog.configure(
        processors=[render],
        wrapper_class=_bound_logger(_LEVELS[options.level]),
        logger_factory=_Sink,
        cache_logger_on_first_use=True,
    )
    _route_libraries()
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def shutdown() -> None:
    """Write what waits, close the file and give the interpreter its hooks back."""
    writer, _State.writer = _State.writer, None
    if writer is not None:
        writer.close()
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Router)]:
        root.removeHandler(handler)
    logging.captureWarnings(capture=False)
    sys.excepthook, threading.excepthook = sys.__excepthook__, threading.__excepthook__
    structlog.reset_defaults()


def flush() -> None:
    """Write all lines that wait."""
    if _State.writer is not None:
        _State.writer.flush()


def reopen() -> None:
    """Open the log file anew, after rotation."""
    if _State.writer is not None:
        _State.writer.reopen()


def on_lost(tell: Callable[[int], None] | None) -> None:
    """Call ``tell`` with the number of lines whenever some of this process could not be written."""
    _State.on_lost = tell


def _lost(number: int) -> None:
    if _State.on_lost is not None:
        _State.on_lost(number)


@contextlib.contextmanager
def message_context(message_id: str, **more: str) -> Iterator[None]:
    """Put a message's id on every line logged inside, in this task and those it starts."""
    token = _BOUND.set({**_BOUND.get(), "message_id": message_id, **more})
    try:
        yield
    finally:
        _BOUND.reset(token)


def _bound_logger(least: int) -> type[structlog.typing.FilteringBoundLogger]:
    """A logger of structlog's for lines from a level on, whose everyday lines take a shorter way to the same words."""
    base: Any = structlog.make_filtering_bound_logger(least)
    if least > logging.INFO:
        return base  # type: ignore[no-any-return]  # it was made a class

    class _Short(base):  # type: ignore[misc]  # a class that structlog makes while it runs
        """Two lines a message: what structlog does for them besides costs as much as making and writing them."""

        def info(self, event: str, *arguments: Any, **fields: Any) -> Any:
            """Write a line, by structlog's own way wherever that could come to another one."""
            if arguments or self._context or self._processors[0] is not render:
                return super().info(event, *arguments, **fields)
            fields["event"] = event
            return self._logger.write(render(self._logger, "info", fields), urgent=False)

    return _Short


def render(logger: _Sink, method: str, event: MutableMapping[str, Any]) -> bytes:
    """The last processor: event dictionary to one line, scrubbed (law 4)."""
    level = _METHODS.get(method, method)
    line: dict[str, Any] = {"at": _now(), "level": level, "event": event.pop("event", "")}
    if _State.process:
        line["process"] = _State.process
    if logger.name:
        line["logger"] = logger.name
    if bound := _BOUND.get():
        event = {**bound, **event}
    for key in _RESERVED & event.keys():  # a caller's field never stands in for the line's own
        event[f"{key}_"] = event.pop(key)
    error = event.pop("exc_info", None)
    if error is None and not _State.text and _is_plain(event):
        encoded = _encode({**line, **event})
        if encoded is not None:
            return encoded
    fields = {**line, **scrub_fields(event)}
    fields["event"] = scrub_text(str(line["event"]))
    if (found := _exception(error)) is not None:
        fields["exception"] = describe(found)
    return _as_text(fields) if _State.text else _bounded(fields)


def _is_plain(event: MutableMapping[str, Any]) -> bool:
    """Whether no field must be withheld or cut to its domain; a number under a mailbox's key is how many there are."""
    return FORBIDDEN.isdisjoint(event) and (
        MAILBOXES.isdisjoint(event) or all(type(event[key]) is int for key in MAILBOXES & event.keys())
    )


def _encode(fields: dict[str, Any]) -> bytes | None:
    """The quick way: ``None`` when a value is no plain one, looks like a mailbox, or makes the line too long."""
    try:
        encoded = orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_PASSTHROUGH_DATACLASS)
    except TypeError:
        return None
    if len(encoded) > PIPE_WRITE or b"@" in encoded or b"%40" in encoded or b"{" in encoded[1:]:
        return None
    return encoded


def _bounded(fields: dict[str, Any]) -> bytes:
    option = orjson.OPT_APPEND_NEWLINE
    encoded = orjson.dumps(fields, option=option)
    if len(encoded) <= PIPE_WRITE:
        return encoded
    for key in sorted(fields, key=lambda name: len(orjson.dumps(fields[name])), reverse=True):
        if len(encoded) <= PIPE_WRITE:
            break
        fields[key] = "<too long>"
        encoded = orjson.dumps(fields, option=option)
    return encoded


def _as_text(fields: dict[str, Any]) -> bytes:
    at, level, event = fields.pop("at"), fields.pop("level"), fields.pop("event")
    rest = " ".join(f"{key}={_plain(value)}" for key, value in fields.items())
    text = f"{at[11:23]} \x1b[{_COLOURS.get(level, '0')}m{level:<8}\x1b[0m {_printable(event)}  \x1b[2m{rest}\x1b[0m\n"
    return text.encode("utf-8", "replace")


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return _printable(text)


def _printable(text: str) -> str:
    """Without control characters: what a stranger sent must not steer a terminal."""
    return "".join(character if character.isprintable() else "�" for character in text)


def _now() -> str:
    """RFC 3339 in UTC with milliseconds; the part down to seconds is formatted once a second."""
    now = time.time()
    second = int(now)
    if second != _State.second:
        _State.stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        _State.second = second
    return f"{_State.stamp}.{int((now - second) * 1000):03d}Z"


def _exception(error: Any) -> BaseException | None:
    if isinstance(error, BaseException):
        return error
    if isinstance(error, tuple):
        return error[1] if len(error) > 1 else None
    return sys.exc_info()[1] if error else None


class _Router(logging.Handler):
    """Takes what libraries log.

    Their arguments may hold commands, addresses or data, so only the unformatted message is written, its first line.
    """

    def emit(self, record: logging.LogRecord) -> None:
        template = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        if record.name == "py.warnings":
            template = record.getMessage()
        event: dict[str, Any] = {"event": template.split("\n", 1)[0][:200]}
        if record.exc_info:
            event["exc_info"] = record.exc_info
        sink = _Sink(record.name)
        level = record.levelname.lower()
        line = render(sink, level if level in _LEVELS else "warning", event)
        sink.write(line, urgent=level in _URGENT)


def _route_libraries() -> None:
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Router)]:
        root.removeHandler(handler)
    root.addHandler(_Router(logging.WARNING))
    root.setLevel(logging.WARNING)
    smtp = logging.getLogger("mail.log")  # aiosmtpd prints commands and data there
    smtp.disabled = True
    logging.captureWarnings(capture=True)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    del kind, trace
    if isinstance(error, KeyboardInterrupt):
        return
    sink = _Sink("uncaught")
    sink.write(render(sink, "critical", {"event": "uncaught exception", "exc_info": error}), urgent=True)


def _uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None and not isinstance(arguments.exc_value, SystemExit):
        _uncaught(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)


def uncaught_in_loop(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """For ``loop.set_exception_handler``: one line for what no task awaited."""
    del loop
    sink = _Sink("asyncio")
    event = {"event": scrub(str(context.get("message", "")).split("\n", 1)[0]), "exc_info": context.get("exception")}
    sink.write(render(sink, "error", event), urgent=True)
