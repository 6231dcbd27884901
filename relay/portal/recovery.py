"""Recovery without secret questions: the mailbox alone lets in, but only to what comes from now on.

Older messages are hidden until their senders approve, each by a link that is mailed to them, or an operator does.
"""

from dataclasses import replace
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from relay.core.address import Address
from relay.core.change import AuditEvent
from relay.core.portal import LIVE_STATES, DepositFilter
from relay.core.portal_accounts import Account, Accounts, Assurance, Plea, Session, Told
from relay.portal.checks import hold, limit, network, told
from relay.portal.entry import begin, lead
from relay.portal.pages import language_of
from relay.portal.rooms import Rooms, rooms_of
from relay.portal.sessions import RefusedError, SignInNeededError, form_of, text
from relay.portal.tokens import digest, new_token

_MOST_SENDERS: Final = 50
_MOST_READ: Final = 2000


def routes() -> list[BaseRoute]:
    """The routes."""
    return [
        Route("/account/recovery", recovery_page),
        Route("/account/recovery", recover, methods=["POST"]),
        Route("/approve/{token}", approve_page),
        Route("/approve/{token}", approve, methods=["POST"]),
        Route("/approved", approved),
    ]


async def recovery_page(request: Request) -> Response:
    """``GET /account/recovery``: what it does; with a code given, a button; else the way to one."""
    rooms = rooms_of(request)
    session = await rooms.sessions.current(request)
    can = session is not None and _is_fresh(rooms, session)
    return rooms.pages.render(request, "recovery.html", {"can": can}, tenant=session.tenant if session else "")


async def recover(request: Request) -> Response:
    """``POST /account/recovery``: every way to sign in is removed, older messages hide, and senders are asked."""
    rooms = rooms_of(request)
    await form_of(request)
    session, account = await _who(request)
    if not account.factors:
        return RedirectResponse("/inbox", 303)
    rates, key = rooms.options.limits, account.mailbox.key
    await hold(rooms, limit("recoveries", key, rates.recoveries), limit("changes", key, rates.changes))
    now = rooms.clock()
    bare = replace(account, passphrase="", totp="", totp_step=0, passkeys=(), hidden_before=now, shown_from=())
    post = rooms.mails.changed(
        account.mailbox, "recovered", tenant=session.tenant, language=language_of(request), now=now
    )
    news = Told(posts=(post,), events=(told(rooms, account.mailbox, "recovered"),))
    saved = await rooms.accounts.save(bare, told=news, end_sessions=session.key)
    if saved is None:
        raise RefusedError(409, "bad_request")
    await _plead(rooms, saved, tenant=session.tenant)
    issued = await begin(rooms, request, saved, Assurance.MAILED, way="recovery", tenant=session.tenant)
    return lead(rooms, issued, "/inbox")


def _is_fresh(rooms: Rooms, session: Session) -> bool:
    """Whether somebody signed in a moment ago: a browser that was left open gives nobody a key of their own."""
    return not session.locked and rooms.clock() - session.created_at < rooms.options.sessions.fresh


async def _who(request: Request) -> tuple[Session, Account]:
    rooms = rooms_of(request)
    session = await rooms.sessions.current(request)
    account = await rooms.accounts.account(session.mailbox) if session and _is_fresh(rooms, session) else None
    if session is None or account is None:
        raise SignInNeededError(step="/sign-in", onward="/account/recovery")
    return session, account


async def _plead(rooms: Rooms, account: Account, *, tenant: str) -> None:
    """Ask the senders of what is hidden now."""
    now, pleas, posts = rooms.clock(), [], []
    for sender in await _senders(rooms, account):
        token = new_token(rooms.entropy)
        pleas.append(
            Plea(
                token=digest(token),
                mailbox=account.mailbox,
                sender=sender.key,
                hidden_before=account.hidden_before,
                expires_at=now + rooms.options.plea_life,
            )
        )
        posts.append(rooms.mails.plea(sender, account.mailbox, token, tenant=tenant, now=now))
    if pleas:
        await rooms.accounts.plead(pleas, told=Told(posts=tuple(posts)))


async def _senders(rooms: Rooms, account: Account) -> list[Address]:
    found: dict[str, Address] = {}
    where, after = DepositFilter(mailbox=account.mailbox, states=LIVE_STATES, until=account.hidden_before), ""
    for _ in range(_MOST_READ // 50):
        page, after = await rooms.deposits.page(where, after=after, limit=50)
        for deposit in page:
            if deposit.sender.address is not None:
                found.setdefault(deposit.sender.address.key, deposit.sender.address)
        if not after or len(found) >= _MOST_SENDERS:
            break
    return list(found.values())[:_MOST_SENDERS]


# --- the sender


async def _plea(request: Request) -> Plea:
    rooms = rooms_of(request)
    plea = await rooms.accounts.plea(digest(request.path_params["token"]), now=rooms.clock())
    if plea is None:
        raise RefusedError(404, "not_found")
    return plea


async def approve_page(request: Request) -> Response:
    """``GET /approve/TOKEN``: who asks, and a button; changes nothing."""
    plea = await _plea(request)
    context = {"mailbox": str(plea.mailbox), "action": request.url.path, "not_me": None}
    return rooms_of(request).pages.render(request, "approve.html", context)


async def approve(request: Request) -> Response:
    """``POST /approve/TOKEN``: the sender's older messages show again."""
    rooms = rooms_of(request)
    form = await form_of(request)
    await hold(rooms, limit("approvals-network", network(request), rooms.options.limits.recalls_network))
    plea = await _plea(request)
    if text(form, "sure") != "yes":
        return await approve_page(request)
    news = Told(events=(told(rooms, plea.mailbox, "approved", sender=plea.sender),))
    if not await rooms.accounts.answer(plea.token, now=rooms.clock(), told=news):
        raise RefusedError(404, "not_found")
    return RedirectResponse("/approved", 303)


async def approved(request: Request) -> Response:
    """``GET /approved``: thanks."""
    return rooms_of(request).pages.render(request, "approved.html", {"not_me": None})


async def approve_by_operator(accounts: Accounts, mailbox: Address, *, by: str, now: float) -> bool:
    """All that a recovery hid from a mailbox shows again; whether anything was hidden.

    Args:
        accounts: the portal's.
        mailbox: whose.
        by: the operator's name, for the audit trail.
        now: unix seconds.
    """
    account = await accounts.account(mailbox)
    if account is None or not account.hidden_before:
        return False
    facts = {"event": "approved", "recipients": [str(mailbox)], "operator": by}
    shown = replace(account, hidden_before=0.0, shown_from=())
    news = Told(events=(AuditEvent(kind="portal", at=now, facts=facts),))
    return await accounts.save(shown, told=news) is not None


async def sign_out_by_operator(accounts: Accounts, mailbox: Address, *, by: str, now: float) -> int:
    """End all sessions of a mailbox and forget its devices; how many sessions there were.

    Args:
        accounts: the portal's.
        mailbox: whose.
        by: the operator's name, for the audit trail.
        now: unix seconds.
    """
    facts = {"event": "signed-out", "recipients": [str(mailbox)], "operator": by}
    return await accounts.end_all(mailbox, told=Told(events=(AuditEvent(kind="portal", at=now, facts=facts),)))
