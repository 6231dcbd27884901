"""What the demo's recipients find in their mail: the link to the secure page, and codes."""

import asyncio
import email
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import policy
from typing import Final
from urllib.parse import urlsplit

from relay.demo.behaviour import ReceivedMessage
from relay.demo.internet import Internet

_LINK: Final = re.compile(r"https?://\S+/m/[A-Za-z0-9_-]{22}\b")
_CODE: Final = re.compile(r"^Your code is: ([0-9]{4} [0-9]{4})\s*$", re.MULTILINE)
_PATIENCE: Final = 20.0
READER: Final = "pat@mail.example"
"""Whose link is shown: their message asks for nothing but the code."""


@dataclass(frozen=True, slots=True)
class Code:
    """A code that was mailed.

    Attributes:
        mailbox: to whom.
        code: as it is typed.
        number: its place among the mailbox's messages.
    """

    mailbox: str
    code: str
    number: int


def link(internet: Internet) -> str:
    """The link in a notice; empty when none came."""
    found = ""
    for mailbox, _, text in _texts(internet):
        match = _LINK.search(text)
        if match and (not found or mailbox == READER):
            found = match[0]
    return found


def codes(internet: Internet) -> list[Code]:
    """Every code so far."""
    found = []
    for mailbox, number, text in _texts(internet):
        match = _CODE.search(text)
        if match:
            found.append(Code(mailbox, match[1], number))
    return found


async def try_link(url: str) -> list[str]:
    """What is wrong with a link, asked for as a browser would; nothing when it leads to its page."""
    if not url:
        return ["no notice with a link came"]
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
            writer.write(request.encode("ascii"))
            answer = await reader.read()
            writer.close()
    except (OSError, TimeoutError) as error:
        return [f"the secure page does not answer: {error}"]
    status = answer.partition(b"\r\n")[0].decode("ascii", "replace")
    return [] if " 200 " in f"{status} " else [f"the secure page answers {status}"]


def _texts(internet: Internet) -> Iterator[tuple[str, int, str]]:
    """Mailbox, number and plain text of what each recipient got."""
    for peer in internet.peers.values():
        for number, taken in enumerate(peer.messages):
            yield from ((recipient, number, _plain(taken)) for recipient in taken.recipients)


def _plain(taken: ReceivedMessage) -> str:
    message = email.message_from_bytes(taken.content, policy=policy.default)
    part = message.get_body(("plain",))
    return str(part.get_content()) if part is not None else ""
