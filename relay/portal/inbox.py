"""All messages of a mailbox, with search by sender and date; and the secret that some of them ask for."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from relay.core.portal import LIVE_STATES, Deposit, DepositFilter, DepositState, Secret
from relay.core.portal_accounts import Session
from relay.portal.checks import answering, hold, judged, limit
from relay.portal.gate import Admitted, admit, grant_of, is_open_to, shared_secret
from relay.portal.passphrase import fold_shared
from relay.portal.rooms import Rooms, rooms_of
from relay.portal.sessions import form_of, require, text

_PAGE: Final = 50
_MAX_TEXT: Final = 200
_DAY: Final = 86400.0


def routes() -> list[BaseRoute]:
    """The routes."""
    return [
        Route("/inbox", inbox),
        Route("/inbox", search, methods=["POST"]),
        Route("/inbox/{deposit_id}/secret", secret_page),
        Route("/inbox/{deposit_id}/secret", give_secret, methods=["POST"]),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One message in the list.

    Attributes:
        id: of the deposit.
        sender: as the original's From says; empty while the message is closed.
        subject: empty while the message is closed.
        at, until: deposited and kept until, unix seconds.
        is_new: nobody has opened it.
        is_closed: it asks for a secret that was not given in this session.
    """

    id: str
    sender: str
    subject: str
    at: float
    until: float
    is_new: bool
    is_closed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is searched for, as typed; empty for all."""

    sender: str = ""
    since: str = ""
    until: str = ""

    @property
    def wrong(self) -> str:
        """Which of the dates cannot be read; empty for none."""
        if self.since and _day(self.since) is None:
            return "since"
        return "until" if self.until and _day(self.until) is None else ""

    @property
    def fields(self) -> dict[str, str]:
        """The fields that are filled, by their names in the form."""
        given = {"from": self.sender, "since": self.since, "until": self.until}
        return {name: value for name, value in given.items() if value}

    def where(self, session: Session) -> DepositFilter:
        """What the store selects: this mailbox's messages that are still there."""
        last = _day(self.until)
        return DepositFilter(
            mailbox=session.mailbox,
            states=LIVE_STATES,
            text=self.sender,
            since=_day(self.since),
            until=None if last is None else last + _DAY,
        )


async def inbox(request: Request) -> Response:
    """``GET /inbox``."""
    return await _inbox(request, Search(), after=request.query_params.get("after", ""))


async def search(request: Request) -> Response:
    """``POST /inbox``: a search. What somebody looks for stands in no address that a proxy might write down."""
    form = await form_of(request)
    typed = Search(
        sender=text(form, "from").strip()[:_MAX_TEXT],
        since=text(form, "since").strip()[:10],
        until=text(form, "until").strip()[:10],
    )
    if typed.sender:
        session, rooms = await require(request), rooms_of(request)
        await hold(rooms, limit("searches", session.mailbox.key, rooms.options.limits.searches))
    return await _inbox(request, typed, after=text(form, "after"))


async def _inbox(request: Request, search: Search, *, after: str) -> Response:
    session = await require(request)
    rooms = rooms_of(request)
    account = await rooms.accounts.account(session.mailbox)
    page, older = await rooms.deposits.page(search.where(session), after=after[:64], limit=_PAGE)
    now = rooms.clock()
    there = [deposit for deposit in page if deposit.expires_at > now]
    seen = [deposit for deposit in there if account is None or account.may_see(deposit)]
    opened = await open_ones(rooms, session, seen)
    hidden = len(there) - len(seen)
    if search.sender:  # whose messages are closed or hidden must not be found by asking for one sender after the other
        seen, hidden = [deposit for deposit in seen if deposit.id in opened], 0
    context = {
        "lines": [line_of(deposit, is_closed=deposit.id not in opened) for deposit in seen],
        "hidden": hidden,
        "search": search,
        "older": older,
        "is_first": not after,
        "offer": account is not None and not account.factors,
    }
    return rooms.pages.render(request, "inbox.html", context, status=400 if search.wrong else 200)


async def open_ones(rooms: Rooms, session: Session, page: Sequence[Deposit]) -> set[str]:
    """Which of these ask for nothing that was not given: what they are about is not shown before."""
    return {deposit.id for deposit in page if await is_open_to(rooms, session, deposit)}


def line_of(deposit: Deposit, *, is_closed: bool) -> Line:
    """A message in the list."""
    return Line(
        id=deposit.id,
        sender="" if is_closed else deposit.origin_from,
        subject="" if is_closed else deposit.subject,
        at=deposit.deposited_at,
        until=deposit.expires_at,
        is_new=deposit.state is DepositState.WAITING,
        is_closed=is_closed,
    )


def _day(typed: str) -> float | None:
    try:
        return dt.datetime.strptime(typed, "%Y-%m-%d").replace(tzinfo=dt.UTC).timestamp()
    except ValueError:
        return None


# --- the shared secret


async def secret_page(request: Request) -> Response:
    """``GET /inbox/ID/secret``: where the secret that the sender or the clinic set is entered."""
    admitted = await admit(request, request.path_params["deposit_id"], even_closed=True)
    return await _secret_page(request, admitted)


async def _secret_page(request: Request, admitted: Admitted, *, wrong: str = "") -> Response:
    rooms, deposit = rooms_of(request), admitted.deposit
    if deposit.secret is not Secret.SHARED:
        return RedirectResponse(f"/inbox/{deposit.id}", 303)
    is_set = await shared_secret(rooms, deposit) is not None
    context = {"action": request.url.path, "is_set": is_set, "wrong": wrong, "not_me": f"/inbox/{deposit.id}/not-me"}
    status = 400 if wrong else 200
    return rooms.pages.render(request, "shared.html", context, status=status, tenant=deposit.tenant)


async def give_secret(request: Request) -> Response:
    """``POST /inbox/ID/secret``: counted before it is judged, so that no number of browsers gets more tries."""
    rooms = rooms_of(request)
    form = await form_of(request)
    admitted = await admit(request, request.path_params["deposit_id"], even_closed=True)
    deposit, session = admitted.deposit, admitted.session
    shared = await shared_secret(rooms, deposit)
    if deposit.secret is not Secret.SHARED or shared is None:
        return await _secret_page(request, admitted)
    await answering(rooms, request, session.mailbox)
    most = rooms.options.limits.shared_tries
    if not await rooms.accounts.try_shared(deposit.mailbox, shared.scope, most=most):
        return await _secret_page(request, admitted, wrong="shared.locked")
    right = await rooms.passphrases.verify(shared.verifier, fold_shared(text(form, "secret")))
    judged(rooms, "shared", right=right)
    if not right:
        return await _secret_page(request, admitted, wrong="shared.wrong")
    await rooms.accounts.clear_shared(deposit.mailbox, shared.scope)
    await rooms.accounts.grant(session.key, grant_of(shared))
    return RedirectResponse(f"/inbox/{deposit.id}", 303)
