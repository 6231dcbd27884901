"""The way in by the link of a notice: a page with a button, a mailed code, the message. And "this is not for me".

A GET changes, counts and mails nothing. A POST needs the browser's cookie and the token of the page's form: a scanner
that follows links, or sends forms without having read the page, does no harm; one that plays a whole browser can have a
code mailed to the very mailbox it guards, and no more.
"""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from relay.core.portal import FINAL_STATES, Deposit
from relay.core.portal_accounts import Assurance
from relay.portal import codes
from relay.portal.checks import hold, limit, network
from relay.portal.entry import after_code
from relay.portal.gate import GoneError, admit
from relay.portal.pages import language_of
from relay.portal.rooms import rooms_of
from relay.portal.sessions import RefusedError, form_of, text


def routes() -> list[BaseRoute]:
    """The routes."""
    return [
        Route("/m/{deposit_id}", landing),
        Route("/m/{deposit_id}/code", code_page),
        Route("/m/{deposit_id}/code", ask, methods=["POST"]),
        Route("/m/{deposit_id}/open", code_page),  # loaded anew, or in another language, after a wrong code
        Route("/m/{deposit_id}/open", open_with_code, methods=["POST"]),
        Route("/m/{deposit_id}/not-me", not_me_page),
        Route("/m/{deposit_id}/not-me", not_me, methods=["POST"]),
        Route("/inbox/{deposit_id}/not-me", not_me_page),
        Route("/inbox/{deposit_id}/not-me", not_me, methods=["POST"]),
        Route("/not-me", not_me_done),
        Route("/genuine", genuine),
    ]


async def _there(request: Request) -> Deposit:
    """The deposit of a link, still there.

    An id has 128 random bits: whoever has a link was mailed it, and may know whether the message still waits.
    """
    rooms = rooms_of(request)
    deposit = await rooms.deposits.find(request.path_params["deposit_id"])
    if deposit is None:
        raise RefusedError(404, "not_found")
    if deposit.state in FINAL_STATES or deposit.expires_at <= rooms.clock():
        raise GoneError(deposit)
    return deposit


async def landing(request: Request) -> Response:
    """``GET /m/ID``: a page with a button."""
    rooms = rooms_of(request)
    deposit = await _there(request)
    if await _is_in(request, deposit):
        return RedirectResponse(f"/inbox/{deposit.id}", 303)
    context = {
        "deposit_id": deposit.id,
        "minutes": round(rooms.options.codes.life / 60),
        "until": deposit.expires_at,
        "not_me": f"/m/{deposit.id}/not-me",
    }
    return rooms.pages.render(request, "landing.html", context, tenant=deposit.tenant, language=deposit.language)


async def _is_in(request: Request, deposit: Deposit) -> bool:
    """Whether whom it is for is signed in already: who went back needs no other code."""
    session = await rooms_of(request).sessions.current(request)
    is_in = session is not None and not session.locked and session.assurance is not Assurance.PENDING
    return session is not None and is_in and session.mailbox.key == deposit.mailbox.key


async def ask(request: Request) -> Response:
    """``POST /m/ID/code``: mail a code."""
    await form_of(request)
    deposit = await _there(request)
    language = language_of(request, deposit.language)
    await codes.ask_for(rooms_of(request), request, deposit, language=language)
    return RedirectResponse(f"/m/{deposit.id}/code", 303)


async def code_page(request: Request) -> Response:
    """``GET /m/ID/code`` and ``/m/ID/open``: where the code is entered."""
    deposit = await _there(request)
    if await _is_in(request, deposit):
        return RedirectResponse(f"/inbox/{deposit.id}", 303)
    return _code_page(request, deposit)


def _code_page(request: Request, deposit: Deposit, *, wrong: str = "", status: int = 200) -> Response:
    rooms = rooms_of(request)
    context = {
        "action": f"/m/{deposit.id}/open",
        "again": f"/m/{deposit.id}/code",
        "again_fields": {},
        "digits": rooms.options.codes.digits,
        "wrong": wrong,
        "next": "",
        "not_me": f"/m/{deposit.id}/not-me",
    }
    return rooms.pages.render(
        request, "code.html", context, status=status, tenant=deposit.tenant, language=deposit.language
    )


async def open_with_code(request: Request) -> Response:
    """``POST /m/ID/open``: the code; a session follows, and the message."""
    rooms = rooms_of(request)
    form = await form_of(request)
    deposit = await _there(request)
    redeemed = await codes.answer(rooms, request, deposit.id, text(form, "code"))
    if redeemed.mailbox is None:
        return _code_page(request, deposit, wrong="code.wrong" if redeemed.tries else "code.spent", status=400)
    return await after_code(
        rooms,
        request,
        redeemed.mailbox,
        tenant=deposit.tenant,
        language=deposit.language,
        onward=f"/inbox/{deposit.id}",
    )


# --- this is not for me


async def _mine(request: Request) -> Deposit:
    if request.url.path.startswith("/inbox/"):
        return (await admit(request, request.path_params["deposit_id"], even_closed=True)).deposit
    return await _there(request)


async def not_me_page(request: Request) -> Response:
    """``GET .../not-me``: what will happen, and a button."""
    return _not_me_page(request, await _mine(request))


def _not_me_page(request: Request, deposit: Deposit) -> Response:
    path = request.url.path
    context = {"action": path, "keep": path.removesuffix("/not-me"), "unproven": path.startswith("/m/")}
    return rooms_of(request).pages.render(
        request, "not_me.html", context, tenant=deposit.tenant, language=deposit.language
    )


async def not_me(request: Request) -> Response:
    """``POST .../not-me``: once it is confirmed, the message is recalled for this mailbox and its sender told.

    By the link alone a box must be ticked as well: no machine that presses the buttons of a page deletes a message.
    """
    rooms = rooms_of(request)
    form = await form_of(request)
    deposit = await _mine(request)
    if text(form, "sure") != "yes":
        return _not_me_page(request, deposit)
    await hold(rooms, limit("recalls-network", network(request), rooms.options.limits.recalls_network))
    await rooms.ledger.not_me(deposit, rooms.mails.not_me(deposit, now=rooms.clock()))
    return RedirectResponse("/not-me", 303)


async def not_me_done(request: Request) -> Response:
    """``GET /not-me``: thanks."""
    await rooms_of(request).sessions.current(request)
    return rooms_of(request).pages.render(request, "not_me_done.html")


async def genuine(request: Request) -> Response:
    """``GET /genuine``: what a genuine notice and a genuine page look like."""
    rooms = rooms_of(request)
    await rooms.sessions.current(request)
    return rooms.pages.render(request, "genuine.html", {"address": str(rooms.options.mail_from)})
