"""Signing in without a link: by a mailed code, a passkey, or a second factor on a known device. And signing out."""

from starlette.background import BackgroundTask
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from relay.core.address import Address
from relay.core.errors import AddressError
from relay.core.portal_accounts import Account, Assurance, Factor, Session
from relay.portal import codes
from relay.portal.checks import answering, judged
from relay.portal.entry import RECOVERY, after_code, begin, lead
from relay.portal.factors import ask_passkey, judge, passkey_account
from relay.portal.pages import language_of
from relay.portal.rooms import rooms_of
from relay.portal.sessions import (
    SESSION,
    VISIT,
    SignInNeededError,
    device_tokens,
    drop_cookie,
    form_of,
    onward_path,
    text,
    visit_of,
)


def routes() -> list[BaseRoute]:
    """The routes."""
    return [
        Route("/", lambda _request: RedirectResponse("/inbox", 303)),
        Route("/sign-in", sign_in_page),
        Route("/sign-in", sign_in, methods=["POST"]),
        Route("/sign-in/code", code_page),
        Route("/sign-in/code", code, methods=["POST"]),
        Route("/sign-in/second", second_page),
        Route("/sign-in/second", second, methods=["POST"]),
        Route("/sign-out", sign_out, methods=["POST"]),
        Route("/signed-out", signed_out),
    ]


async def sign_in_page(request: Request) -> Response:
    """``GET /sign-in``."""
    await rooms_of(request).sessions.current(request)
    return _sign_in_page(request, onward=request.query_params.get("next", ""))


def _sign_in_page(request: Request, *, onward: str, wrong: str = "", email: str = "", status: int = 200) -> Response:
    rooms = rooms_of(request)
    context = {
        "next": onward_path(onward),
        "expired": "expired" in request.query_params,
        "is_known": bool(device_tokens(request)),
        "asked": ask_passkey(rooms, visit_of(request)),
        "wrong": wrong,
        "email": email,
    }
    return rooms.pages.render(request, "sign_in.html", context, status=status)


async def sign_in(request: Request) -> Response:
    """``POST /sign-in``: by a passkey, by a passphrase or app on a known device, or by asking for a code."""
    form = await form_of(request)
    if text(form, "way") == "passkey":
        return await _by_passkey(request, form)
    try:
        mailbox = Address.parse(text(form, "email").strip())
    except AddressError:
        return _sign_in_page(request, onward=text(form, "next"), wrong="sign_in.bad_email", status=400)
    if text(form, "way") in {"passphrase", "totp"}:
        return await _on_known_device(request, form, mailbox)
    return await _by_code(request, form, mailbox)


async def _by_code(request: Request, form: FormData, mailbox: Address) -> Response:
    """The same words, as quickly, whether the mailbox is known here: it is looked up once the answer has left."""
    rooms = rooms_of(request)
    onward = text(form, "next")
    response = lead(rooms, None, "/sign-in/code", onward)
    if await codes.hold_sign_in(rooms, request, mailbox, recovers=onward == RECOVERY):
        response.background = BackgroundTask(
            codes.mail_sign_in, rooms, visit_of(request), mailbox, language=language_of(request)
        )
    return response


async def _by_passkey(request: Request, form: FormData) -> Response:
    rooms = rooms_of(request)
    await answering(rooms, request)
    account = await passkey_account(rooms, visit_of(request), form)
    judged(rooms, "passkey", right=account is not None)
    onward = text(form, "next")
    if account is None:
        return _sign_in_page(request, onward=onward, wrong="sign_in.passkey_failed", status=400)
    tenant = await codes.tenant_of(rooms, account.mailbox)
    issued = await begin(rooms, request, account, Assurance.SECOND, way="passkey", tenant=tenant)
    return lead(rooms, issued, onward_path(onward))


async def _on_known_device(request: Request, form: FormData, mailbox: Address) -> Response:
    """The device stands for the mailed code. Elsewhere the answer is no, after the same work."""
    rooms = rooms_of(request)
    device = await rooms.sessions.known_device(request, mailbox)
    await answering(rooms, request, mailbox, is_stranger=device is None)
    account = await rooms.accounts.account(mailbox)
    if device is None or account is None:
        account = Account(mailbox=mailbox, handle="", created_at=0.0)
    factor = await judge(request, account, form, holder="")
    judged(rooms, text(form, "way"), right=factor is not None)
    onward = text(form, "next")
    if factor is None or device is None:
        return _sign_in_page(request, onward=onward, wrong="sign_in.wrong", email=str(mailbox), status=400)
    tenant = await codes.tenant_of(rooms, account.mailbox)
    issued = await begin(rooms, request, account, Assurance.SECOND, way=factor.value, tenant=tenant)
    return lead(rooms, issued, onward_path(onward))


# --- the code


async def code_page(request: Request) -> Response:
    """``GET /sign-in/code``: where the code is entered."""
    return _code_page(request, onward=request.query_params.get("next", ""))


def _code_page(request: Request, *, onward: str, wrong: str = "", status: int = 200) -> Response:
    rooms = rooms_of(request)
    context = {
        "action": "/sign-in/code",
        "again": "",
        "again_fields": {},
        "digits": rooms.options.codes.digits,
        "wrong": wrong,
        "next": onward_path(onward),
    }
    return rooms.pages.render(request, "code.html", context, status=status)


async def code(request: Request) -> Response:
    """``POST /sign-in/code``: the code; a session follows."""
    rooms = rooms_of(request)
    form = await form_of(request)
    onward = text(form, "next")
    redeemed = await codes.answer(rooms, request, codes.AT_SIGN_IN, text(form, "code"))
    if redeemed.mailbox is None:
        wrong = "code.wrong" if redeemed.tries else "code.spent"
        return _code_page(request, onward=onward, wrong=wrong, status=400)
    tenant = await codes.tenant_of(rooms, redeemed.mailbox)
    return await after_code(rooms, request, redeemed.mailbox, tenant=tenant, language="", onward=onward)


# --- the second factor


async def _who(request: Request) -> tuple[Session, Account]:
    """Who gave the first factor, or gives the second anew."""
    rooms = rooms_of(request)
    session = await rooms.sessions.current(request)
    account = await rooms.accounts.account(session.mailbox) if session and not session.locked else None
    if session is None or account is None:
        onward = onward_path(request.query_params.get("next", ""))
        raise SignInNeededError(step="/sign-in", onward=onward, expired=session is not None)
    return session, account


async def second_page(request: Request) -> Response:
    """``GET /sign-in/second``."""
    session, account = await _who(request)
    return _second_page(request, session, account, onward=request.query_params.get("next", ""))


def _second_page(
    request: Request, session: Session, account: Account, *, onward: str, wrong: str = "", status: int = 200
) -> Response:
    rooms = rooms_of(request)
    if not account.factors:
        return RedirectResponse(onward_path(onward), 303)
    context = {
        "next": onward_path(onward),
        "factors": {factor.value for factor in account.factors},
        "asked": ask_passkey(rooms, session.key, account) if Factor.PASSKEY in account.factors else None,
        "wrong": wrong,
    }
    return rooms.pages.render(request, "second.html", context, status=status, tenant=session.tenant)


async def second(request: Request) -> Response:
    """``POST /sign-in/second``: the second factor; the session proper follows."""
    rooms = rooms_of(request)
    form = await form_of(request)
    session, account = await _who(request)
    await answering(rooms, request, account.mailbox)
    factor = await judge(request, account, form, holder=session.key)
    judged(rooms, text(form, "way") if text(form, "way") in set(Factor) else "none", right=factor is not None)
    onward = text(form, "next")
    if factor is None:
        return _second_page(request, session, account, onward=onward, wrong="sign_in.wrong_second", status=400)
    way = f"code+{factor.value}"
    issued = await begin(rooms, request, account, Assurance.SECOND, way=way, tenant=session.tenant)
    return lead(rooms, issued, onward_path(onward))


# --- out


async def sign_out(request: Request) -> Response:
    """``POST /sign-out``."""
    await form_of(request)
    await rooms_of(request).sessions.end(request)
    response = RedirectResponse("/signed-out", 303, headers={"clear-site-data": '"cache"'})
    drop_cookie(response, SESSION)
    drop_cookie(response, VISIT)
    return response


async def signed_out(request: Request) -> Response:
    """``GET /signed-out``."""
    return rooms_of(request).pages.render(request, "signed_out.html")
