"""The pages of one message: opened, read, saved."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from relay.core.errors import CorruptError
from relay.core.portal import Deposit, DepositState
from relay.core.portal_drafts import DraftKind, Drafts
from relay.mail import edit
from relay.portal.compose.people import others
from relay.portal.gate import GoneError, admit
from relay.portal.message import frame
from relay.portal.message.files import download_headers, safe_name, served_type
from relay.portal.message.outline import Part
from relay.portal.message.pdf import Copy, PdfLimits, write_pdf
from relay.portal.message.plain import linked
from relay.portal.message.ranges import Served, answer, goes_on
from relay.portal.message.reader import Letter, MessageReader
from relay.portal.message.view import File, all_files, arrange
from relay.portal.pages import language_of
from relay.portal.rooms import Rooms
from relay.portal.sessions import RefusedError, form_of
from relay.portal.words import Words, words

log = structlog.get_logger("portal")

_HIDDEN_FIELDS = ("Bcc", "Resent-Bcc", "Return-Path")
_MAX_HEADER = 1 << 24  # octets of a header section that is rewritten in memory: none that is taken in is larger


def routes(rooms: Rooms, reader: MessageReader, drafts: Drafts, pdf_limits: PdfLimits) -> list[BaseRoute]:
    """The routes.

    Args:
        rooms: the portal's parts.
        reader: of messages.
        drafts: answers that were begun: a message says so.
        pdf_limits: what a PDF copy may hold.
    """
    pages = _MessagePages(rooms, reader, drafts, pdf_limits)
    return [
        Route("/inbox/{deposit_id}", pages.show),
        Route("/inbox/{deposit_id}/open", pages.open, methods=["POST"]),
        Route("/inbox/{deposit_id}/frame", pages.frame),
        Route("/inbox/{deposit_id}/part/{index:int}", pages.part),
        Route("/inbox/{deposit_id}/eml", pages.eml),
        Route("/inbox/{deposit_id}/pdf", pages.pdf),
    ]


class _MessagePages:
    def __init__(self, rooms: Rooms, reader: MessageReader, drafts: Drafts, pdf_limits: PdfLimits) -> None:
        self._rooms = rooms
        self._reader = reader
        self._drafts = drafts
        self._pdf_limits = pdf_limits
        self._one_pdf = asyncio.Semaphore(1)  # writing one takes a processor for a second

    # --- reading

    async def show(self, request: Request) -> Response:
        """``GET /inbox/ID``: the message, or the button that opens it."""
        deposit = (await admit(request, request.path_params["deposit_id"])).deposit
        if deposit.state is DepositState.WAITING:
            return self._render(request, deposit, "unopened.html", {})
        text = _words(request, deposit)
        letter = await self._reader.letter(deposit.id, text)
        as_text = request.query_params.get("view") == "text" or not letter.section.html
        context = {
            "letter": letter,
            "section": letter.section,
            "as_text": as_text,
            "linked": linked,
            "sandbox": frame.SANDBOX,
            "may_reply_all": bool(others(deposit, letter.section.message.header("reply-to"))),
            "drafts": [kind.value for kind in DraftKind if await self._is_begun(deposit, kind)],
        }
        return self._render(request, deposit, "message.html", context)

    async def _is_begun(self, deposit: Deposit, kind: DraftKind) -> bool:
        """Whether there is a draft; one that cannot be opened must not keep anybody from reading the message."""
        try:
            return await self._drafts.of(deposit.id, kind) is not None
        except CorruptError as error:
            hint = "damaged, or kept by a newer version: then bring this one up to date, too"
            log.error("portal_draft_unreadable", deposit=deposit.id[:8], kind=kind.value, detail=str(error), hint=hint)
            return True

    async def open(self, request: Request) -> Response:
        """``POST /inbox/ID/open``: the person who is signed in opens it; the first time counts."""
        await form_of(request)
        deposit = (await admit(request, request.path_params["deposit_id"])).deposit
        if await self._rooms.ledger.opened(deposit) is None:
            raise GoneError(deposit)
        return RedirectResponse(f"/inbox/{deposit.id}", 303)

    async def frame(self, request: Request) -> Response:
        """``GET /inbox/ID/frame``: the document inside the frame."""
        deposit = await self._opened(request)
        text = _words(request, deposit)
        letter = await self._reader.letter(deposit.id, text)
        pieces = frame.document(
            self._reader,
            deposit.id,
            letter,
            language=text.language,
            title=str(text("message.body_frame")),
            stylesheet=self._rooms.pages.static("letter.css"),
        )
        return StreamingResponse(pieces, media_type="text/html; charset=utf-8", headers=dict(frame.HEADERS))

    # --- saving

    async def part(self, request: Request) -> Response:
        """``GET /inbox/ID/part/N``: one file, streamed."""
        deposit = await self._opened(request)
        file = await self._file(deposit, request.path_params["index"], _words(request, deposit))
        served = Served(
            pieces=lambda: self._reader.stream(deposit.id, file.part),
            size=await self._reader.size(deposit.id, file.part),
            tag=_tag(deposit, str(file.part.index)),
            content_type=served_type(file.part.content_type),
            headers=download_headers(file.name),
        )
        return await self._send(request, deposit, "attachment", served)

    async def eml(self, request: Request) -> Response:
        """``GET /inbox/ID/eml``: the message as it came, without the fields that name hidden recipients."""
        deposit = await self._opened(request)
        outline = await self._reader.outline(deposit.id)
        start = outline.parts[0].start if outline.parts[0].start <= _MAX_HEADER else 0
        head = edit.remove(await self._reader.octets(deposit.id, 0, start), *_HIDDEN_FIELDS) if start else b""
        served = Served(
            pieces=lambda: self._eml(deposit.id, head, start),
            size=len(head) + outline.size - start,
            tag=_tag(deposit, "eml"),
            content_type="message/rfc822",
            headers=download_headers(self._name(request, deposit, "eml")),
        )
        return await self._send(request, deposit, "eml", served)

    async def pdf(self, request: Request) -> Response:
        """``GET /inbox/ID/pdf``: a copy to print or keep."""
        deposit = await self._opened(request)
        text = _words(request, deposit)
        letter = await self._reader.letter(deposit.id, text)
        pictures = await self._pictures(deposit.id, letter)
        copy = Copy(
            section=letter.section,
            pictures=pictures,
            left_out=len(letter.section.pictures) - len(pictures),
            brand=self._rooms.options.brand_of(deposit.tenant).name,
            at=self._rooms.clock(),
        )
        async with self._one_pdf:
            content = await asyncio.to_thread(write_pdf, copy, text, self._rooms.pages.moments, self._pdf_limits)
        await self._note(request, deposit, "pdf")
        headers = {**download_headers(self._name(request, deposit, "pdf")), "Accept-Ranges": "none"}
        return Response(content, media_type="application/pdf", headers=headers)

    # --- inside

    async def _opened(self, request: Request) -> Deposit:
        """The message, if it was opened: nothing of it is shown before (a receipt would be missing)."""
        deposit = (await admit(request, request.path_params["deposit_id"])).deposit
        if deposit.state is DepositState.WAITING:
            raise RefusedError(404, "not_found")
        return deposit

    async def _send(self, request: Request, deposit: Deposit, what: str, served: Served) -> Response:
        """The file; the rest of a download that broke off is no other download."""
        if deposit.downloaded_at is None or not goes_on(request, served):
            await self._note(request, deposit, what)
        return answer(request, served)

    async def _note(self, request: Request, deposit: Deposit, what: str) -> None:
        if request.method == "GET":  # a HEAD takes nothing away
            await self._rooms.ledger.downloaded(deposit, what)

    async def _file(self, deposit: Deposit, index: int, text: Words) -> File:
        outline = await self._reader.outline(deposit.id)
        view = arrange(
            outline, unnamed=str(text("message.unnamed")), message_name=str(text("message.attached_message"))
        )
        for file in all_files(view):
            if file.part.index == index:
                return file
        raise RefusedError(404, "not_found")

    async def _eml(self, deposit_id: str, head: bytes, start: int) -> AsyncIterator[bytes]:
        if head:
            yield head
        async for piece in self._reader.raw(deposit_id, start):
            yield piece

    async def _pictures(self, deposit_id: str, letter: Letter) -> list[bytes]:
        limits = self._pdf_limits
        small = [part for part in letter.section.pictures if part.end - part.start <= limits.picture_bytes * 4 // 3]
        return [await self._whole(deposit_id, part) for part in small[: limits.pictures]]

    async def _whole(self, deposit_id: str, part: Part) -> bytes:
        return b"".join([piece async for piece in self._reader.stream(deposit_id, part)])

    def _name(self, request: Request, deposit: Deposit, ending: str) -> str:
        otherwise = str(_words(request, deposit)("common.secure_messages"))
        return safe_name(f"{deposit.subject[:80].replace('/', '-') or otherwise}.{ending}", "", otherwise)

    def _render(self, request: Request, deposit: Deposit, template: str, context: dict[str, object]) -> Response:
        context = {"deposit": deposit, "not_me": f"/inbox/{deposit.id}/not-me"} | context
        return self._rooms.pages.render(request, template, context, tenant=deposit.tenant, language=deposit.language)


def _words(request: Request, deposit: Deposit) -> Words:
    return words(language_of(request, deposit.language))


def _tag(deposit: Deposit, what: str) -> str:
    """An entity tag: a deposit's content never changes."""
    return hashlib.sha256(f"postern portal file\0{deposit.id}\0{what}".encode()).hexdigest()[:32]
