"""What "This is not for me" leads to from pages that are about no one message: the inbox, the account, ways to sign in.

Whoever is signed in sees the messages of the mailbox, each with its own button, and one for all of them. Others are
told where the button of their message is: without proof nobody takes away what they cannot name.
"""

from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from relay.core.portal import LIVE_STATES, Deposit, DepositFilter
from relay.core.portal_accounts import Assurance, Session
from relay.portal.checks import hold, limit, network
from relay.portal.inbox import line_of, open_ones
from relay.portal.rooms import Rooms, rooms_of
from relay.portal.sessions import SESSION, drop_cookie, form_of, require, text

_PAGE: Final = 50
_MOST: Final = 500
"""Messages that one press takes away: whoever has more presses again."""


def routes() -> list[BaseRoute]:
    """The routes."""
    return [
        Route("/not-mine", page),
        Route("/not-mine", none_is_mine, methods=["POST"]),
    ]


async def page(request: Request) -> Response:
    """``GET /not-mine``: the messages of this mailbox, each with its button; to others, where to find it."""
    rooms = rooms_of(request)
    session = await rooms.sessions.current(request)
    if session is None or session.locked or session.assurance is Assurance.PENDING:
        return rooms.pages.render(request, "not_mine_how.html", {"not_me": None})
    return await _page(request, rooms, session)


async def _page(request: Request, rooms: Rooms, session: Session) -> Response:
    there = await _theirs(rooms, session, most=_PAGE)
    opened = await open_ones(rooms, session, there)
    lines = [line_of(deposit, is_closed=deposit.id not in opened) for deposit in there]
    return rooms.pages.render(request, "not_mine.html", {"lines": lines, "not_me": None})


async def none_is_mine(request: Request) -> Response:
    """``POST /not-mine``: every message is recalled for this mailbox, its sender told, and the session ended."""
    rooms = rooms_of(request)
    form = await form_of(request)
    session = await require(request)
    if text(form, "sure") != "yes":
        return await _page(request, rooms, session)
    await hold(rooms, limit("recalls-network", network(request), rooms.options.limits.recalls_network))
    for deposit in await _theirs(rooms, session, most=_MOST):
        await rooms.ledger.not_me(deposit, rooms.mails.not_me(deposit, now=rooms.clock()))
    await rooms.sessions.end(request)
    response = RedirectResponse("/not-me", 303)
    drop_cookie(response, SESSION)
    return response


async def _theirs(rooms: Rooms, session: Session, *, most: int) -> list[Deposit]:
    """The messages of the mailbox that can be read still, without what a recovery hides."""
    account, now = await rooms.accounts.account(session.mailbox), rooms.clock()
    where, after = DepositFilter(mailbox=session.mailbox, states=LIVE_STATES), ""
    found: list[Deposit] = []
    while len(found) < most:
        some, after = await rooms.deposits.page(where, after=after, limit=_PAGE)
        found += [one for one in some if one.expires_at > now and (account is None or account.may_see(one))]
        if not after:
            break
    return found[:most]
