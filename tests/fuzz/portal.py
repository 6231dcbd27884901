"""The portal's pages as a target: any request gets an answer that is meant, and a safe one.

The octets are a request as a client might write it: ``METHOD path?query``, lines of headers, an empty line, the body.
``@D``, ``@C`` and ``@S`` stand for the id of a message, the token of its reader's forms, and the reader's cookies.
"""

import asyncio
import contextlib
import functools
import re
import tempfile
from pathlib import Path

from tests.support.portal_asgi import LIMITLESS, Attack, check, prepared
from tests.support.portal_site import a_site

METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS")


class _Portal:
    """One portal with a reader who is signed in, until they are signed out."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._around = contextlib.AsyncExitStack()
        self.attack = self._runner.run(self._start())

    async def _start(self) -> Attack:
        directory = self._around.enter_context(tempfile.TemporaryDirectory(prefix="postern-fuzz-portal-"))
        site = await self._around.enter_async_context(a_site(Path(directory), limits=LIMITLESS))
        return await prepared(site, self._runner)

    def end(self) -> None:
        self._runner.run(self._around.aclose())
        self._runner.close()


_portal = functools.cache(_Portal)


def end() -> None:
    """End the portal that is there."""
    if _portal.cache_info().currsize:
        _portal().end()
        _portal.cache_clear()


def portal(data: bytes) -> None:
    """Whatever is asked, the answer is meant: no fault, none of our insides, all the headers, no way elsewhere."""
    attack = _portal().attack
    for sign, value in ((b"@D", attack.deposit.id), (b"@C", attack.csrf), (b"@S", attack.cookies)):
        data = data.replace(sign, value.encode("ascii"))
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    method, _, target = first.partition(b" ")
    path, _, query = target.partition(b"?")
    path = b"/" + re.sub(rb"[^!-~]|%(?![0-9A-Fa-f]{2})", lambda odd: b"%%%02x" % odd[0][0], path.lstrip(b"/"))
    headers = [
        (name.lower(), value.strip()) for name, sign, value in (line.partition(b":") for line in lines) if sign and name
    ]
    headers = [
        (name, value) for name, value in headers if name != b"host" and not re.search(rb"[\r\n\0]", name + value)
    ]
    word = method.decode("latin-1") if method in {b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS"} else "POST"
    check(attack.run(word, path, query=query, headers=headers, body=body), data)


def _seeds() -> list[bytes]:
    kind = b"application/x-www-form-urlencoded"
    form = b"POST /inbox/@D/%s\ncookie: @S\ncontent-type: " + kind + b"\n\ncsrf=@C&%s"
    part = b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    files = (
        part % (b"csrf", b"", b"@C") + part % (b"text", b"", b"hello") + part % (b"file", b'; filename="a.txt"', b"x")
    )
    multipart = (
        b"POST /inbox/@D/%s\ncookie: @S\ncontent-type: multipart/form-data; boundary=x\n\n" + files + b"--x--\r\n"
    )
    return [
        b"GET /inbox?after=1&lang=en\ncookie: @S\n\n",
        b"GET /inbox/@D\ncookie: @S\naccept-language: es,en;q=0.5\nrange: bytes=0-3\n\n",
        b"GET /m/@D\n\n",
        b"POST /m/@D/open\ncookie: @S\ncontent-type: " + kind + b"\n\ncsrf=@C&code=1234%205678",
        b"POST /sign-in\ncookie: @S\ncontent-type: " + kind + b"\n\ncsrf=@C&email=pat%40mail.example&next=/inbox",
        *(
            form % one
            for one in ((b"reply", b"text=a&send=1"), (b"forward", b"to=a%40b.example"), (b"draft", b"text=a"))
        ),
        *(multipart % one for one in (b"reply", b"forward", b"upload")),
    ]


SEEDS = _seeds()
"""First inputs of a run."""
