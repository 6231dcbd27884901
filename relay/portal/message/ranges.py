"""Downloads that go on where they broke off: single ranges of octets (RFC 9110 section 14).

So a telephone on a bad network gets a large file in the end.
"""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

_ASKED: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Octets ``start`` up to ``end``, without the last; both 0 where nothing of the file lies there."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A file as it is offered.

    Attributes:
        pieces: all of its octets, anew at each call.
        size: how many there are, precisely.
        tag: names these octets and no others: an entity tag without its quotes.
        content_type: of the answer.
        headers: that every answer about it carries.
    """

    pieces: Callable[[], AsyncIterator[bytes]]
    size: int
    tag: str
    content_type: str
    headers: Mapping[str, str]


def span_of(request: Request, size: int, tag: str) -> Span | None:
    """Which octets are asked for; ``None``: all of them.

    Several ranges, other units, and what is no range are passed over, as section 14.2 allows; so is a range of a file
    that is not this one any more (``If-Range``, section 13.1.5).
    """
    found = _ASKED.match(request.headers.get("range", "").strip())
    if request.method != "GET" or found is None or request.headers.get("if-range", f'"{tag}"') != f'"{tag}"':
        return None
    first, last = found.groups()
    if not first:
        return None if not last else Span(start=max(0, size - int(last)), end=size if int(last) else 0)
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        return Span(start=0, end=0)
    return Span(start=int(first), end=min(size, int(last) + 1) if last else size)


def answer(request: Request, served: Served) -> Response:
    """The file, or what is asked for of it, as it streams."""
    headers = {**served.headers, "Accept-Ranges": "bytes", "ETag": f'"{served.tag}"'}
    span = span_of(request, served.size, served.tag)
    if span is None:
        headers["Content-Length"] = str(served.size)
        if request.method == "HEAD":
            return Response(headers=headers, media_type=served.content_type)
        return StreamingResponse(served.pieces(), media_type=served.content_type, headers=headers)
    if span.start >= span.end:
        headers["Content-Range"] = f"bytes */{served.size}"
        return Response(status_code=416, headers=headers)
    headers["Content-Length"] = str(span.end - span.start)
    headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{served.size}"
    pieces = cut(served.pieces(), span)
    return StreamingResponse(pieces, 206, media_type=served.content_type, headers=headers)


def goes_on(request: Request, served: Served) -> bool:
    """Whether this is the rest of a download that was begun before."""
    span = span_of(request, served.size, served.tag)
    return span is not None and span.start > 0


async def cut(pieces: AsyncIterator[bytes], span: Span) -> AsyncIterator[bytes]:
    """Of pieces the octets of a span; nothing is read beyond it."""
    at = 0
    async for piece in pieces:
        wanted = piece[max(0, span.start - at) : span.end - at]
        if wanted:
            yield wanted
        at += len(piece)
        if at >= span.end:
            return
