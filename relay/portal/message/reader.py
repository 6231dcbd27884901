"""Reads messages of the portal for showing them: by ranges, so that what is large is never held."""

import asyncio
import functools
import hashlib
import re
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from html import unescape
from typing import Final

from relay.core.portal import Deposits
from relay.mail.charset import decode
from relay.mail.html import html_to_text
from relay.mail.transfer import decode_transfer
from relay.portal.message.outline import Outline, OutlineLimits, OutlineReader, Part
from relay.portal.message.plain import unflow
from relay.portal.message.sanitise import Cleaned, TooHeavyError, clean
from relay.portal.message.transfer import decoder
from relay.portal.message.view import Body, File, View, arrange
from relay.portal.words import Words

_ON_THE_LOOP: Final = 8 * 1024  # characters of HTML that are cleaned on the event loop: the worst take some 30 ms
_SIZES: Final = 1024  # of parts that are kept, so that a download that goes on need not be decoded twice
_MARKUP: Final = re.compile(r"<[^<>]*>")


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewLimits:
    """What showing a message may cost (law 6). What is beyond can still be saved.

    Attributes:
        text: octets of one stretch of text or HTML.
        texts: stretches in all, those of messages inside included.
        pictures: octets of all pictures that are shown inside HTML, as they stand in the message.
        outlines: how many outlines are kept, so that each part that is asked for need not read the message anew.
    """

    text: int = 1024 * 1024
    texts: int = 20
    pictures: int = 12 * 1024 * 1024
    outlines: int = 64
    outline: OutlineLimits = field(default_factory=OutlineLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One message as it is shown.

    Attributes:
        message: its headers are this part's.
        text: all of its text as plain text.
        html: the same, cleaned, for a frame; empty when the message brings no HTML.
        pictures: parts that the HTML shows.
        files: that can be saved, without pictures that the HTML shows.
        inner: messages inside.
    """

    message: Part
    text: str = field(repr=False)
    html: str = field(repr=False)
    pictures: tuple[Part, ...]
    files: tuple[File, ...]
    inner: tuple["Section", ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A whole message as it is shown.

    Attributes:
        section: the message.
        token: marks the places of pictures in its HTML.
        blocked: pictures from elsewhere that were left out.
        cut: it is longer than what is shown.
        damaged: not all could be read.
    """

    section: Section
    token: str
    blocked: int
    cut: bool
    damaged: bool


class MessageReader:
    """Reads what lies in :class:`~relay.core.portal.Deposits`. Who may read is asked before (:mod:`relay.portal.gate`).

    Raises ``StoreError`` for a message that is not there any more.
    """

    def __init__(self, deposits: Deposits, limits: ViewLimits | None = None) -> None:
        self._deposits = deposits
        self.limits = limits or ViewLimits()
        self._outlines: OrderedDict[str, Outline] = OrderedDict()
        self._sizes: OrderedDict[tuple[str, int], int] = OrderedDict()

    async def outline(self, deposit_id: str) -> Outline:
        """Where its parts lie. A deposit never changes, so what was read once holds."""
        known = self._outlines.get(deposit_id)
        if known is None:
            reader = OutlineReader(self.limits.outline)
            async for piece in self._deposits.content(deposit_id):
                reader.feed(piece)
            known = self._outlines[deposit_id] = reader.finish()
            while len(self._outlines) > self.limits.outlines:
                self._outlines.popitem(last=False)
        self._outlines.move_to_end(deposit_id)
        return known

    async def letter(self, deposit_id: str, words: Words) -> Letter:
        """The message as it is shown; ``words`` name what has no name."""
        outline = await self.outline(deposit_id)
        return await _Reading(self, deposit_id, outline, words).letter()

    async def stream(self, deposit_id: str, part: Part) -> AsyncIterator[bytes]:
        """A part's content, decoded, in pieces."""
        undo = decoder(part.encoding)
        async for piece in self._deposits.content(deposit_id, start=part.start, end=part.end):
            decoded = undo.feed(piece)
            if decoded:
                yield decoded
        if last := undo.finish():
            yield last

    async def size(self, deposit_id: str, part: Part) -> int:
        """How many octets :meth:`stream` gives: counted once, for what is encoded tells it only when it is decoded."""
        key = deposit_id, part.index
        size = self._sizes.get(key)
        if size is None:
            size = sum([len(piece) async for piece in self.stream(deposit_id, part)])
            self._sizes[key] = size
            while len(self._sizes) > _SIZES:
                self._sizes.popitem(last=False)
        self._sizes.move_to_end(key)
        return size

    async def raw(self, deposit_id: str, start: int, end: int | None = None) -> AsyncIterator[bytes]:
        """Octets of the message as they stand."""
        async for piece in self._deposits.content(deposit_id, start=start, end=end):
            yield piece

    async def octets(self, deposit_id: str, start: int, end: int) -> bytes:
        """A range that is known to be small."""
        return b"".join([piece async for piece in self._deposits.content(deposit_id, start=start, end=end)])


class _Reading:
    """One message on its way to being shown."""

    def __init__(self, reader: MessageReader, deposit_id: str, outline: Outline, words: Words) -> None:
        self._reader = reader
        self._id = deposit_id
        self._outline = outline
        self._words = words
        self._token = hashlib.sha256(b"postern portal picture\0" + deposit_id.encode()).hexdigest()[:16]
        self._texts = reader.limits.texts
        self._pictures = reader.limits.pictures
        self._blocked = 0
        self._cut = False
        self._damaged = outline.cut

    async def letter(self) -> Letter:
        names = str(self._words("message.unnamed")), str(self._words("message.attached_message"))
        view = arrange(self._outline, unnamed=names[0], message_name=names[1])
        section = await self._section(view)
        return Letter(section=section, token=self._token, blocked=self._blocked, cut=self._cut, damaged=self._damaged)

    async def _section(self, view: View) -> Section:
        allowed = {name: part.index for name, part in view.pictures.items()}
        texts, htmls = [], []
        shown: dict[int, None] = {}
        has_html = False
        for body in view.bodies:
            if self._texts <= 0:
                self._cut = True
                break
            self._texts -= 1
            text, html, pictures = await self._body(body, allowed)
            texts.append(text)
            has_html |= bool(html)
            htmls.append(html or f'<div class="text">{_escape(text)}</div>')
            shown |= dict.fromkeys(pictures)
        return Section(
            message=view.message,
            text="\n\n".join(text.strip("\n") for text in texts),
            html="<hr>".join(htmls) if has_html else "",
            pictures=tuple(self._outline.parts[index] for index in shown),
            files=tuple(file for file in view.files if file.part.index not in shown),
            inner=tuple([await self._section(inner) for inner in view.inner]),
        )

    async def _body(self, body: Body, allowed: dict[str, int]) -> tuple[str, str, tuple[int, ...]]:
        """A stretch as plain text, as cleaned HTML (empty: it has none that can be shown), and the pictures in it."""
        text = await self._load(body.text) if body.text else ""
        if body.text and body.text.flowed:
            text = unflow(text, delsp=body.text.delsp)
        if body.html is None:
            return text, "", ()
        source = await self._load(body.html)
        work = functools.partial(_cleaned, source, self._affordable(allowed), self._token, wants_text=not text.strip())
        cleaned, plain = work() if len(source) <= _ON_THE_LOOP else await asyncio.to_thread(work)
        text = text if text.strip() else plain
        if cleaned is None:
            self._damaged = True
            return text, "", ()
        self._blocked += cleaned.blocked
        for index in cleaned.pictures:
            part = self._outline.parts[index]
            self._pictures -= part.end - part.start
        return text, cleaned.html, cleaned.pictures

    def _affordable(self, allowed: dict[str, int]) -> dict[str, int]:
        """Pictures that fit into what may be shown, in the order of the message."""
        room, kept = self._pictures, {}
        for name, index in allowed.items():
            part = self._outline.parts[index]
            room -= part.end - part.start
            if room >= 0:
                kept[name] = index
        return kept

    async def _load(self, part: Part) -> str:
        limit = self._reader.limits.text
        end = min(part.end, part.start + (limit * 4 // 3 if part.encoding == "base64" else limit))
        self._cut |= end < part.end
        raw = await self._reader.octets(self._id, part.start, end)
        data, fault = decode_transfer(raw, part.encoding)
        self._damaged |= bool(fault)
        return decode(data[:limit], part.charset).replace("\r\n", "\n").replace("\0", "")


def _cleaned(source: str, pictures: dict[str, int], token: str, *, wants_text: bool) -> tuple[Cleaned | None, str]:
    """The HTML cleaned, ``None`` when that would take too long; and its text if that is wanted."""
    try:
        cleaned = clean(source, pictures, token)
    except TooHeavyError:
        return None, unescape(_MARKUP.sub(" ", source)) if wants_text else ""
    return cleaned, html_to_text(source) if wants_text else ""


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
