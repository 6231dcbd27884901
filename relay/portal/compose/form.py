"""Forms with files, read as they stream: a file goes piece by piece to where it is kept, and lies nowhere unsealed."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from relay.portal.sessions import CSRF_FIELD, RefusedError, check_csrf

_MAX_NAME: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class FormLimits:
    """What a form may hold (law 6).

    Attributes:
        fields: in all, files included.
        field_octets: of one that is no file.
        header_octets: of the header of one.
    """

    fields: int = 32
    field_octets: int = 256 * 1024
    header_octets: int = 16 * 1024


class Sink(Protocol):
    """Takes a file."""

    async def feed(self, octets: bytes) -> None:
        """The next octets."""

    async def end(self) -> None:
        """It has arrived whole."""


FileTaker = Callable[[dict[str, str], str, str], Any]
"""Called with the fields before it, the file's name and its type when a file begins; gives a :class:`Sink` to await."""


@dataclass(slots=True)
class _Part:
    """A part that is being read."""

    headers: dict[str, bytes] = field(default_factory=dict)
    header_octets: int = 0
    name: str = ""
    filename: str | None = None
    octets: bytearray = field(default_factory=bytearray)
    sink: Sink | None = None


class FormReader:
    """Reads one request's form.

    The token against forged requests must be the first field: nothing is kept of a form without it.
    """

    def __init__(self, request: Request, limits: FormLimits, take: FileTaker) -> None:
        self._request = request
        self._limits = limits
        self._take = take
        self._events: list[tuple[str, bytes]] = []
        self._header = (bytearray(), bytearray())
        self._part = _Part()
        self._fields: dict[str, str] = {}
        self._count = 0
        self._is_checked = False
        self._is_ended = False

    async def read(self) -> dict[str, str]:
        """The fields that are no files, once all has arrived.

        Raises:
            RefusedError: 403 for its token, or what is none of our forms; 400 for one that is broken; 413 for too
                many or too large fields.
            ClientDisconnect: it broke off; what had arrived of files was fed to their sinks.
        """
        parser = self._parser()
        try:
            async for chunk in self._request.stream():
                parser.write(chunk)
                await self._work_off()
            parser.finalize()
        except MultipartParseError as error:
            raise RefusedError(400, "bad_request") from error
        if not self._is_ended:
            raise RefusedError(400, "bad_request")
        self._check()
        return self._fields

    def _parser(self) -> MultipartParser:
        kind, options = parse_options_header(self._request.headers.get("content-type", ""))
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not boundary:
            raise RefusedError(403, "forbidden")  # no form of ours: its token was not even looked for
        names = ("part_begin", "part_end", "header_end", "headers_finished", "end")
        callbacks: dict[str, Any] = {f"on_{name}": self._note(name) for name in names}
        for name in ("part_data", "header_field", "header_value"):
            callbacks[f"on_{name}"] = self._note_data(name)
        return MultipartParser(boundary, callbacks)  # type: ignore[arg-type]  # the library's own typed dict

    def _note(self, name: str) -> Callable[[], None]:
        return lambda: self._events.append((name, b""))

    def _note_data(self, name: str) -> Callable[[bytes, int, int], None]:
        return lambda data, start, end: self._events.append((name, data[start:end]))

    async def _work_off(self) -> None:
        events, self._events = self._events, []
        for name, data in events:
            if name == "part_data":
                await self._data(data)
            elif name == "headers_finished":
                await self._begin()
            elif name == "part_end":
                await self._end()
            elif name == "end":
                self._is_ended = True
            else:
                self._headers(name, data)

    def _headers(self, name: str, data: bytes) -> None:
        if name == "part_begin":
            self._part = _Part()
            self._count += 1
            if self._count > self._limits.fields:
                raise RefusedError(413, "too_big")
        elif name == "header_end":
            field_name, value = (bytes(one) for one in self._header)
            self._part.headers[field_name.decode("latin-1").lower()] = value
            self._header = (bytearray(), bytearray())
        else:
            self._header[0 if name == "header_field" else 1].extend(data)
            self._part.header_octets += len(data)
            if self._part.header_octets > self._limits.header_octets:
                raise RefusedError(413, "too_big")

    async def _begin(self) -> None:
        _, options = parse_options_header(self._part.headers.get("content-disposition", b""))
        self._part.name = options.get(b"name", b"").decode("utf-8", "replace")[:_MAX_NAME]
        if b"filename" not in options:
            return
        self._check()
        self._part.filename = options[b"filename"].decode("utf-8", "replace")[:_MAX_NAME]
        if self._part.filename:
            kind = self._part.headers.get("content-type", b"").decode("latin-1")[:_MAX_NAME]
            self._part.sink = await self._take(dict(self._fields), self._part.filename, kind)

    async def _data(self, data: bytes) -> None:
        if self._part.sink is not None:
            await self._part.sink.feed(data)
        elif self._part.filename is None:
            self._part.octets += data
            if len(self._part.octets) > self._limits.field_octets:
                raise RefusedError(413, "too_big")

    async def _end(self) -> None:
        if self._part.sink is not None:
            await self._part.sink.end()
        elif self._part.filename is None:
            self._fields[self._part.name] = bytes(self._part.octets).decode("utf-8", "replace")

    def _check(self) -> None:
        if not self._is_checked:
            check_csrf(self._request, self._fields.get(CSRF_FIELD, ""))
            self._is_checked = True


async def chunks(request: Request, most: int) -> AsyncIterator[bytes]:
    """The octets of a request that is no form, at the most so many.

    Raises:
        RefusedError: 413; there are more.
    """
    taken = 0
    async for chunk in request.stream():
        taken += len(chunk)
        if taken > most:
            raise RefusedError(413, "too_big")
        if chunk:
            yield chunk
