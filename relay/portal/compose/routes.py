"""The pages on which a reader answers."""

from collections.abc import Mapping, Sequence
from typing import Final

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from relay.core.errors import CorruptError
from relay.core.portal import Deposit, DepositState
from relay.core.portal_drafts import Draft, DraftKind, Drafts
from relay.portal.compose.desk import ComposeError, Desk, UploadSink, Written
from relay.portal.compose.form import FormLimits, FormReader, chunks
from relay.portal.compose.people import others, sender, shown
from relay.portal.compose.windows import Clash, Window, mark
from relay.portal.gate import Admitted, admit
from relay.portal.message.reader import MessageReader
from relay.portal.moments import size
from relay.portal.pages import language_of
from relay.portal.rooms import Rooms
from relay.portal.sessions import CSRF_HEADER, RefusedError, SignInNeededError, check_csrf
from relay.portal.tokens import new_token
from relay.portal.words import Words, words

log = structlog.get_logger("portal")

_CHUNK: Final = 1024 * 1024  # octets of an upload that one request brings
_MAX_NAME: Final = 400


def routes(rooms: Rooms, desk: Desk, drafts: Drafts, reader: MessageReader) -> list[BaseRoute]:
    """The routes.

    Args:
        rooms: the portal's parts.
        desk: where answers are written.
        drafts: what was begun.
        reader: of the messages that are answered.
    """
    pages = _ComposePages(rooms, desk, drafts, reader)
    return [
        Route("/inbox/{deposit_id}/reply", pages.show_reply),
        Route("/inbox/{deposit_id}/reply", pages.reply, methods=["POST"]),
        Route("/inbox/{deposit_id}/forward", pages.show_forward),
        Route("/inbox/{deposit_id}/forward", pages.forward, methods=["POST"]),
        Route("/inbox/{deposit_id}/sent", pages.sent),
        Route("/inbox/{deposit_id}/upload", pages.upload, methods=["POST"]),
    ]


class _ComposePages:
    def __init__(self, rooms: Rooms, desk: Desk, drafts: Drafts, reader: MessageReader) -> None:
        self._rooms = rooms
        self._desk = desk
        self._drafts = drafts
        self._reader = reader

    # --- pages

    async def show_reply(self, request: Request) -> Response:
        """``GET /inbox/ID/reply``; ``?all=1``: to all."""
        return await self._show(request, DraftKind.REPLY)

    async def show_forward(self, request: Request) -> Response:
        """``GET /inbox/ID/forward``."""
        return await self._show(request, DraftKind.FORWARD)

    async def reply(self, request: Request) -> Response:
        """``POST /inbox/ID/reply``."""
        return await self._posted(request, DraftKind.REPLY)

    async def forward(self, request: Request) -> Response:
        """``POST /inbox/ID/forward``."""
        return await self._posted(request, DraftKind.FORWARD)

    async def sent(self, request: Request) -> Response:
        """``GET /inbox/ID/sent``: it is on its way; ``?forward=1``: the forward."""
        deposit = (await admit(request, request.path_params["deposit_id"])).deposit
        kind = DraftKind.FORWARD if request.query_params.get("forward") else DraftKind.REPLY
        return self._rooms.pages.render(
            request,
            "sent.html",
            {"deposit": deposit, "kind": kind.value, "to": await self._sender(deposit)},
            tenant=deposit.tenant,
            language=deposit.language,
        )

    async def upload(self, request: Request) -> Response:
        """``POST /inbox/ID/upload``: a file in steps, for pages with a script.

        Without ``upload`` a file begins (``kind``, ``name``, ``type``, ``size``); with it, the body is what follows
        from ``start`` on. The answer says how many octets have arrived: an upload that broke off goes on from there.
        """
        check_csrf(request, request.headers.get(CSRF_HEADER, ""))
        query = request.query_params
        admitted = await self._admitted(request, _kind(query.get("kind", "")))
        draft = await self._desk.begun(admitted.deposit, _kind(query.get("kind", "")))
        try:
            if not query.get("upload"):
                upload = await self._desk.begin(
                    draft,
                    query.get("name", "")[:_MAX_NAME],
                    query.get("type", "")[:_MAX_NAME],
                    _number(query.get("size")),
                )
                return JSONResponse({"upload": upload.id, "received": 0})
            mine = next((one for one in draft.uploads if one.id == query["upload"]), None)
            if mine is None:
                raise RefusedError(404, "not_found")
            octets = b"".join([chunk async for chunk in chunks(request, _CHUNK)])
            received = await self._desk.append(mine.id, _number(query.get("start")), octets)
            return JSONResponse({"upload": mine.id, "received": received})
        except ComposeError as error:
            return JSONResponse({"problem": self._sentence(request, admitted.deposit, error)}, 400)

    # --- inside

    async def _show(self, request: Request, kind: DraftKind) -> Response:
        deposit = (await self._admitted(request, kind)).deposit
        try:
            draft = await self._desk.draft(deposit, kind)
        except CorruptError as error:
            return self._unreadable(request, deposit, kind, Written(), error)
        to_all = draft.to_all if draft else bool(request.query_params.get("all"))
        if "all" in request.query_params:
            to_all = request.query_params["all"] == "1"
        return await self._page(request, deposit, kind, draft, to_all=to_all)

    async def _posted(self, request: Request, kind: DraftKind) -> Response:
        admitted = await self._admitted(request, kind, also_locked=True)
        typed: dict[str, str] = {}
        try:
            return await self._taken(request, admitted, kind, typed)
        except CorruptError as error:
            if typed.get("action") == "autosave" or await self._opens(admitted.deposit, kind):
                raise  # a script tries again; and beginning anew mends nothing else
            return self._unreadable(request, admitted.deposit, kind, _written(typed), error)

    async def _opens(self, deposit: Deposit, kind: DraftKind) -> bool:
        try:
            await self._desk.draft(deposit, kind)
        except CorruptError:
            return False
        return True

    async def _taken(self, request: Request, admitted: Admitted, kind: DraftKind, typed: dict[str, str]) -> Response:
        """Keep the form's words and files, then do what its button says; ``typed`` takes its fields as they come."""
        deposit = admitted.deposit
        sinks: list[UploadSink] = []
        clashes: list[Clash] = []

        async def kept(fields: Mapping[str, str]) -> Draft:
            typed.update(fields)
            pressed = fields.get("action") != "autosave"
            draft, clash = await self._desk.save(deposit, kind, _written(fields), _window(fields), pressed=pressed)
            clashes.extend([clash] if clash else [])
            return draft

        async def take(fields: Mapping[str, str], name: str, content_type: str) -> UploadSink:
            # The words are kept first: should the file break off, they are not lost.
            draft = await kept(fields)
            sinks.append(await self._desk.sink(draft, name, content_type))
            return sinks[-1]

        try:
            fields = await FormReader(request, FormLimits(), take).read()
            if answer := await self._anew(deposit, kind, fields) or await self._left(request, deposit, kind, fields):
                return answer
            draft = await kept(fields)
            if answer := await self._left(request, deposit, kind, fields):  # it was sent meanwhile
                await self._desk.take_back(draft, _window(fields).page)
                return answer
            if admitted.session.locked:
                raise SignInNeededError(step="/sign-in", onward=request.url.path, expired=True)
            for sink in sinks:
                if sink.problem:
                    raise sink.problem
            clash = clashes[0] if clashes else _hidden(draft, fields, sinks)
            return await self._act(request, deposit, draft, fields, clash=clash, has_file=bool(sinks))
        except ComposeError as error:
            now = await self._desk.draft(deposit, kind)
            to_all = now.to_all if now else False
            return await self._page(request, deposit, kind, now, to_all=to_all, problem=error)
        except ClientDisconnect:
            for sink in sinks:
                await sink.abandon()
            return Response(status_code=400)  # nobody is there to read it

    async def _anew(self, deposit: Deposit, kind: DraftKind, fields: Mapping[str, str]) -> Response | None:
        if fields.get("action") != "anew":
            return None
        await self._desk.begin_anew(deposit, kind, _written(fields), _window(fields))
        return RedirectResponse(f"/inbox/{deposit.id}/{kind.value}", 303)

    async def _left(
        self, request: Request, deposit: Deposit, kind: DraftKind, fields: Mapping[str, str]
    ) -> Response | None:
        """The answer to a page that has done its work: its words were sent, or it goes on saving after that."""
        action, page = fields.get("action"), _window(fields).page
        if action == "send" and await self._desk.was_sent(deposit, kind, _written(fields), page):
            return _sent(deposit, kind)
        if action == "autosave" and await self._desk.is_left(deposit, kind, page):
            return JSONResponse({"gone": self._words(request, deposit)("compose.gone_autosave")}, 409)
        return None

    async def _act(
        self,
        request: Request,
        deposit: Deposit,
        draft: Draft,
        fields: Mapping[str, str],
        *,
        clash: Clash | None,
        has_file: bool,
    ) -> Response:
        action, page = fields.get("action", "save"), _window(fields).page
        here = f"/inbox/{deposit.id}/{draft.kind.value}"
        if action == "autosave":
            text = self._words(request, deposit)
            saved = {"saved": self._rooms.pages.moments.time(draft.saved_at, text)}
            return JSONResponse(saved | ({"note": text(f"compose.{clash}_autosave")} if clash else {}))
        if clash and not (action == "discard" and clash is Clash.GONE):
            raise ComposeError(f"compose.{clash}")
        if action == "send":
            await self._desk.send(deposit, draft, once=page)
            return _sent(deposit, draft.kind)
        if action == "discard":
            await self._desk.discard(deposit, draft.kind, page=page)
            return RedirectResponse(f"/inbox/{deposit.id}", 303)
        if action.startswith("remove:"):
            await self._desk.remove(draft, action.removeprefix("remove:"))
            return RedirectResponse(f"{here}#files", 303)
        if action == "add":
            if not has_file:
                raise ComposeError("compose.no_file")
            return RedirectResponse(f"{here}#files", 303)
        return RedirectResponse(f"{here}?saved=1", 303)

    async def _admitted(self, request: Request, kind: DraftKind, *, also_locked: bool = False) -> Admitted:
        admitted = await admit(request, request.path_params["deposit_id"], also_locked=also_locked)
        deposit = admitted.deposit
        allowed = deposit.may_forward if kind is DraftKind.FORWARD else deposit.may_reply
        if not allowed or deposit.state is DepositState.WAITING:
            raise RefusedError(404, "not_found")
        return admitted

    async def _sender(self, deposit: Deposit) -> str:
        message = (await self._reader.outline(deposit.id)).parts[0]
        to = sender(deposit, message.header("reply-to"))
        return str(to) if to else ""

    async def _page(
        self,
        request: Request,
        deposit: Deposit,
        kind: DraftKind,
        draft: Draft | None,
        *,
        to_all: bool,
        problem: ComposeError | None = None,
    ) -> Response:
        message = (await self._reader.outline(deposit.id)).parts[0]
        options = self._desk.options
        context = {
            "deposit": deposit,
            "kind": kind.value,
            "draft": draft,
            "once": new_token(self._rooms.entropy)[:22],
            "seen": mark(draft),
            "to": await self._sender(deposit),
            "others": shown(others(deposit, message.header("reply-to"))),
            "to_all": to_all,
            "limits": options,
            "problem": self._sentence(request, deposit, problem) if problem else "",
            "wrong": problem.key.partition(".")[2] if problem else "",
            "saved": bool(request.query_params.get("saved")),
            "not_me": f"/inbox/{deposit.id}/not-me",
        }
        return self._rooms.pages.render(
            request,
            "compose.html",
            context,
            status=400 if problem else 200,
            tenant=deposit.tenant,
            language=deposit.language,
        )

    def _unreadable(
        self, request: Request, deposit: Deposit, kind: DraftKind, words: Written, error: CorruptError
    ) -> Response:
        """What was begun cannot be opened: say so, and offer to begin anew, with what was written since."""
        log.error("portal_draft_unreadable", deposit=deposit.id[:8], kind=kind.value, detail=str(error))
        context = {"deposit": deposit, "kind": kind.value, "words": words, "once": new_token(self._rooms.entropy)[:22]}
        return self._rooms.pages.render(
            request,
            "unopened_draft.html",
            context | {"seen": mark(None)},
            status=409,
            tenant=deposit.tenant,
            language=deposit.language,
        )

    def _words(self, request: Request, deposit: Deposit) -> Words:
        return words(language_of(request, deposit.language))

    def _sentence(self, request: Request, deposit: Deposit, error: ComposeError) -> str:
        text = self._words(request, deposit)
        values = dict(error.values)
        if error.key == "compose.too_big":
            values["size"] = size(self._desk.options.octets, text)
        return str(text(error.key, **values))


def _written(fields: Mapping[str, str]) -> Written:
    text = fields.get("text", "").replace("\r\n", "\n")  # forms bring CRLF
    return Written(text=text, to=fields.get("to", ""), to_all=fields.get("all") == "1")


def _window(fields: Mapping[str, str]) -> Window:
    return Window(page=fields.get("once", "")[:64], seen=fields.get("seen"))


def _hidden(draft: Draft, fields: Mapping[str, str], sinks: Sequence[UploadSink]) -> Clash | None:
    """Whether sending or throwing away would go for files or words that the page does not show."""
    if fields.get("action") not in {"send", "discard"}:
        return None
    fresh = frozenset(sink.upload_id for sink in sinks)
    return None if _window(fields).shows_rest(draft, fresh) else Clash.APART


def _sent(deposit: Deposit, kind: DraftKind) -> Response:
    return RedirectResponse(f"/inbox/{deposit.id}/sent{'?forward=1' if kind is DraftKind.FORWARD else ''}", 303)


def _kind(value: str) -> DraftKind:
    return DraftKind.FORWARD if value == DraftKind.FORWARD.value else DraftKind.REPLY


def _number(value: str | None) -> int:
    """A count of octets from a query.

    Raises:
        RefusedError: 400; it is none.
    """
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 15:
        raise RefusedError(400, "bad_request")
    return int(value)
