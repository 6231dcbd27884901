"""The account's own pages: what may be set beside the mailed code, and where somebody is signed in.

Whatever changes is mailed to the mailbox, in the same transaction. Changes need a sign-in that is fresh, so that a
browser that was left open gives nobody a key of their own; once something is set or removed, all other sessions end.
"""

import base64
from dataclasses import dataclass, replace

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from relay.core.portal_accounts import Account, Assurance, Factor, Session, Told
from relay.portal.checks import answering, hold, judged, limit, told
from relay.portal.entry import account_for, begin, lead
from relay.portal.factors import CREATE, challenge_of
from relay.portal.gate import ElsewhereError
from relay.portal.pages import language_of
from relay.portal.passkeys import CHALLENGE_OCTETS, MOST, PasskeyError
from relay.portal.picture import picture
from relay.portal.rooms import Rooms, rooms_of
from relay.portal.sessions import (
    CSRF_HEADER,
    RefusedError,
    check_csrf,
    form_of,
    onward_path,
    require,
    text,
)
from relay.portal.totp import SECRET_OCTETS, address, fitting_step, new_secret, spaced

_TOTP = "totp-set"


def routes() -> list[BaseRoute]:
    """The routes."""
    return [
        Route("/account", account_page),
        Route("/account/alive", alive, methods=["POST"]),
        Route("/idle", idle_page),
        Route("/idle", stay, methods=["POST"]),
        Route("/account/choose", choose_page),
        Route("/account/passphrase", passphrase_page),
        Route("/account/passphrase", passphrase, methods=["POST"]),
        Route("/account/totp", totp_page),
        Route("/account/totp", totp, methods=["POST"]),
        Route("/account/passkey", passkey_page),
        Route("/account/passkey", passkey, methods=["POST"]),
        Route("/account/remove", remove, methods=["POST"]),
        Route("/account/devices", devices, methods=["POST"]),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Who:
    rooms: Rooms
    session: Session
    account: Account


async def _who(request: Request) -> _Who:
    rooms, session = rooms_of(request), await require(request)
    return _Who(rooms=rooms, session=session, account=await account_for(rooms, session.mailbox))


async def _fresh(request: Request) -> _Who:
    """Who is signed in since a moment ago; else they prove themselves once more."""
    who = await _who(request)
    if who.rooms.clock() - who.session.created_at >= who.rooms.options.sessions.fresh:
        raise ElsewhereError("/sign-in/second" if who.account.factors else "/sign-in")
    return who


async def alive(request: Request) -> Response:
    """``POST /account/alive``: somebody is still there."""
    check_csrf(request, request.headers.get(CSRF_HEADER, ""))
    session = await require(request)
    await rooms_of(request).accounts.seen(session.key, at=rooms_of(request).clock())
    return Response(status_code=204)


async def idle_page(request: Request) -> Response:
    """``GET /idle``: the warning where no script runs; being led here is no use of the session, so it is not read."""
    context = {"next": onward_path(request.query_params.get("next", ""))}
    return rooms_of(request).pages.render(request, "idle.html", context)


async def stay(request: Request) -> Response:
    """``POST /idle``: somebody is still there, and goes on where they were."""
    form = await form_of(request)
    session = await require(request)
    await rooms_of(request).accounts.seen(session.key, at=rooms_of(request).clock())
    return RedirectResponse(onward_path(text(form, "next")), 303)


async def account_page(request: Request) -> Response:
    """``GET /account``."""
    who = await _who(request)
    listed = await who.rooms.accounts.devices(who.session.mailbox)
    context = {
        "mailbox": str(who.session.mailbox),
        "factors": {factor.value for factor in who.account.factors},
        "passkeys": who.account.passkeys,
        "devices": listed,
        "this_device": who.session.device,
        "saved": request.query_params.get("done", "") == "saved",
        "removed": request.query_params.get("done", "") == "removed",
    }
    return who.rooms.pages.render(request, "account.html", context)


async def choose_page(request: Request) -> Response:
    """``GET /account/choose``: on the first visit, or because a message asks for it."""
    who = await _who(request)
    onward = onward_path(request.query_params.get("next", ""))
    if who.account.factors:
        return RedirectResponse(onward, 303)
    context = {"next": onward, "must": "must" in request.query_params}
    return who.rooms.pages.render(request, "enrol.html", context)


# --- changing


async def _change(request: Request, who: _Who, account: Account, what: str, onward: str) -> Response:
    """Store the account, mail it, end all other sessions; the one at hand goes on under a new token."""
    rooms, session = who.rooms, who.session
    post = rooms.mails.changed(
        account.mailbox, what, tenant=session.tenant, language=language_of(request), now=rooms.clock()
    )
    news = Told(posts=(post,), events=(told(rooms, account.mailbox, what.replace("_", "-")),))
    saved = await rooms.accounts.save(account, told=news, end_sessions=session.key)
    if saved is None:
        raise RefusedError(409, "bad_request")
    assurance = Assurance.SECOND if saved.factors else Assurance.MAILED
    issued = await begin(rooms, request, saved, assurance, way="change", tenant=session.tenant)
    for grant in session.grants:
        await rooms.accounts.grant(issued.session.key, grant)
    return lead(rooms, issued, onward)


async def _hold(who: _Who) -> None:
    await hold(who.rooms, limit("changes", who.account.mailbox.key, who.rooms.options.limits.changes))


def _onward(form_next: str, done: str) -> str:
    onward = onward_path(form_next)
    return onward if form_next and onward.startswith("/inbox/") else f"/account?done={done}"


# --- passphrase


async def passphrase_page(request: Request) -> Response:
    """``GET /account/passphrase``."""
    who = await _fresh(request)
    return _passphrase_page(request, who, onward=request.query_params.get("next", ""))


def _passphrase_page(request: Request, who: _Who, *, onward: str, wrong: str = "", at: str = "") -> Response:
    context = {
        "next": onward_path(onward) if onward else "",
        "is_set": bool(who.account.passphrase),
        "least": who.rooms.passphrases.least,
        "most": who.rooms.passphrases.most,
        "wrong": wrong,
        "at": at,
        "mailbox": str(who.session.mailbox),
    }
    return who.rooms.pages.render(request, "passphrase.html", context, status=400 if wrong else 200)


async def passphrase(request: Request) -> Response:
    """``POST /account/passphrase``: set or change it."""
    form = await form_of(request)
    who = await _fresh(request)
    onward, new = text(form, "next"), text(form, "new")
    if who.account.passphrase:
        await answering(who.rooms, request, who.account.mailbox)
        right = await who.rooms.passphrases.verify(who.account.passphrase, text(form, "current"))
        judged(who.rooms, "passphrase", right=right)
        if not right:
            return _passphrase_page(request, who, onward=onward, wrong="passphrase.wrong", at="current")
    brand = who.rooms.options.brand_of(who.session.tenant).name
    context = (str(who.session.mailbox), who.session.mailbox.local, who.rooms.options.rp_id, brand)
    if wrong := await who.rooms.passphrases.judge(new, context=context):
        return _passphrase_page(request, who, onward=onward, wrong=wrong, at="new")
    if new != text(form, "again"):
        return _passphrase_page(request, who, onward=onward, wrong="passphrase.differ", at="again")
    await _hold(who)
    changed = replace(who.account, passphrase=await who.rooms.passphrases.hash(new))
    return await _change(request, who, changed, "passphrase_set", _onward(onward, "saved"))


# --- an app with codes


async def totp_page(request: Request) -> Response:
    """``GET /account/totp``: a new key. It is kept only once a code of it was entered."""
    who = await _fresh(request)
    secret = new_secret(who.rooms.entropy(SECRET_OCTETS))
    return _totp_page(request, who, secret, onward=request.query_params.get("next", ""))


def _totp_page(request: Request, who: _Who, secret: str, *, onward: str, wrong: str = "") -> Response:
    brand = who.rooms.options.brand_of(who.session.tenant).name
    link = address(secret, issuer=brand, account=str(who.session.mailbox))
    context = {
        "next": onward_path(onward) if onward else "",
        "key": spaced(secret),
        "link": link,
        "picture": picture(link),
        "ticket": who.rooms.tickets.seal(_TOTP, who.session.key, secret),
        "wrong": wrong,
    }
    return who.rooms.pages.render(request, "totp.html", context, status=400 if wrong else 200)


async def totp(request: Request) -> Response:
    """``POST /account/totp``: the app's first code; from now on it counts."""
    form = await form_of(request)
    who = await _fresh(request)
    onward = text(form, "next")
    opened = who.rooms.tickets.open(_TOTP, who.session.key, text(form, "ticket"))
    if opened is None:
        raise ElsewhereError("/account/totp")
    await answering(who.rooms, request, who.account.mailbox)
    step = fitting_step(opened.value, text(form, "totp"), now=who.rooms.clock(), after=0)
    if step is None:
        return _totp_page(request, who, opened.value, onward=onward, wrong="totp.wrong")
    await _hold(who)
    changed = replace(who.account, totp=opened.value, totp_step=step)
    return await _change(request, who, changed, "totp_set", _onward(onward, "saved"))


# --- passkeys


async def passkey_page(request: Request) -> Response:
    """``GET /account/passkey``."""
    who = await _fresh(request)
    return _passkey_page(request, who, onward=request.query_params.get("next", ""))


def _passkey_page(request: Request, who: _Who, *, onward: str, wrong: str = "") -> Response:
    challenge = who.rooms.entropy(CHALLENGE_OCTETS)
    brand = who.rooms.options.brand_of(who.session.tenant).name
    context = {
        "next": onward_path(onward) if onward else "",
        "options": who.rooms.passkeys.creation(who.account, challenge, name=brand),
        "ticket": who.rooms.tickets.seal(CREATE, who.session.key, base64.b64encode(challenge).decode("ascii")),
        "wrong": wrong,
    }
    return who.rooms.pages.render(request, "passkey.html", context, status=400 if wrong else 200)


async def passkey(request: Request) -> Response:
    """``POST /account/passkey``: what the browser made."""
    form = await form_of(request)
    who = await _fresh(request)
    onward = text(form, "next")
    challenge = await challenge_of(who.rooms, CREATE, who.session.key, text(form, "ticket"))
    if challenge is None or len(who.account.passkeys) >= MOST:
        return _passkey_page(request, who, onward=onward, wrong="passkey.failed")
    try:
        made = who.rooms.passkeys.created(
            text(form, "credential"), challenge, name=text(form, "name"), now=who.rooms.clock()
        )
    except PasskeyError:
        return _passkey_page(request, who, onward=onward, wrong="passkey.failed")
    if any(key.id == made.id for key in who.account.passkeys):
        return _passkey_page(request, who, onward=onward, wrong="passkey.exists")
    await _hold(who)
    changed = replace(who.account, passkeys=(*who.account.passkeys, made))
    return await _change(request, who, changed, "passkey_set", _onward(onward, "saved"))


# --- removing


async def remove(request: Request) -> Response:
    """``POST /account/remove``: ``way`` is the factor, ``id`` the passkey's."""
    form = await form_of(request)
    who = await _fresh(request)
    account, way = who.account, text(form, "way")
    match way:
        case Factor.PASSPHRASE if account.passphrase:
            changed = replace(account, passphrase="")
        case Factor.TOTP if account.totp:
            changed = replace(account, totp="", totp_step=0)
        case Factor.PASSKEY if any(key.id == text(form, "id") for key in account.passkeys):
            left = tuple(key for key in account.passkeys if key.id != text(form, "id"))
            changed = replace(account, passkeys=left)
        case _:
            raise RefusedError(400, "bad_request")
    await _hold(who)
    return await _change(request, who, changed, f"{way}_removed", "/account?done=removed")


async def devices(request: Request) -> Response:
    """``POST /account/devices``: sign out one device (``id``), or all others."""
    form = await form_of(request)
    who = await _fresh(request)
    device_id = text(form, "id")
    if not device_id:
        return await _change(request, who, who.account, "devices_out", "/account?done=saved")
    event = told(who.rooms, who.account.mailbox, "device-out")
    await who.rooms.accounts.forget_device(who.account.mailbox, device_id, told=Told(events=(event,)))
    if device_id == who.session.device:
        return RedirectResponse("/signed-out", 303)
    return RedirectResponse("/account?done=saved", 303)
