"""The pages of what somebody sent: a list, and one for each message. A GET changes, counts and mails nothing."""

from dataclasses import dataclass, replace
from typing import Final

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from relay.core.portal import FINAL_STATES, Deposit, DepositFilter, DepositState, Secret
from relay.portal import codes
from relay.portal.checks import hold, limit
from relay.portal.gate import shared_secret
from relay.portal.pages import language_of
from relay.portal.rooms import Rooms, rooms_of
from relay.portal.sender import door
from relay.portal.sender.acts import ACTS, DAYS, FAILED, Act
from relay.portal.sender.door import Passed
from relay.portal.sender.links import PATH, token_of
from relay.portal.sessions import RefusedError, form_of, text, visit_of

_PAGE: Final = 50
_DONE: Final = frozenset({"recalled", "extended", "resent", "secret_set", "approved", "over", "bad_days", "bad_secret"})


def routes() -> list[BaseRoute]:
    """The routes."""
    return [
        Route("/sent", listed),
        Route("/sent", ask, methods=["POST"]),
        Route("/sent/code", code_page),
        Route("/sent/code", code, methods=["POST"]),
        Route("/sent/out", out, methods=["POST"]),
        Route("/sent/m/{token}", message),
        Route("/sent/m/{token}", act, methods=["POST"]),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One recipient's copy as its sender sees it.

    Attributes:
        deposit: it.
        state: as it is now: what expired a moment ago is not swept up yet.
        times: key of the words and moment of all that happened, in order.
        link: of its message's page.
        is_live: it can still be read.
        asks_secret: whether its reader must give a secret; ``is_set``: and there is one.
        is_hidden: a recovery hides it from its reader until its sender approves.
    """

    deposit: Deposit
    state: DepositState
    times: tuple[tuple[str, float], ...]
    link: str
    is_live: bool
    asks_secret: bool = False
    is_set: bool = False
    is_hidden: bool = False

    @property
    def state_words(self) -> str:
        """The key of the words for its state."""
        return f"sent.state_{self.state.value}"


def _copy(rooms: Rooms, deposit: Deposit) -> Copy:
    is_over = deposit.expires_at <= rooms.clock()
    is_live = deposit.state not in FINAL_STATES and not is_over
    state = DepositState.EXPIRED if is_over and deposit.state not in FINAL_STATES else deposit.state
    moments = (
        ("sent.at_deposited", deposit.deposited_at),
        ("sent.at_notified", deposit.notified_at),
        ("sent.at_reminded", deposit.reminded_at),
        ("sent.at_opened", deposit.opened_at),
        ("sent.at_downloaded", deposit.downloaded_at),
        ("sent.at_answered", deposit.answered_at),
    )
    times = sorted(((key, at) for key, at in moments if at is not None), key=lambda pair: pair[1])
    link = PATH + token_of(rooms.vault, deposit.message_id)
    return Copy(deposit=deposit, state=state, times=tuple(times), link=link, is_live=is_live)


async def _whole(rooms: Rooms, deposit: Deposit) -> Copy:
    """With what only the page of a message shows."""
    there = _copy(rooms, deposit)
    if not there.is_live:
        swept = await rooms.deposits.ended_at(deposit.id)
        end = deposit.expires_at if there.state is DepositState.EXPIRED or swept is None else swept
        return replace(there, times=(*there.times, (f"sent.at_{there.state.value}", end)))
    account = await rooms.accounts.account(deposit.mailbox)
    asks = deposit.secret is Secret.SHARED
    return replace(
        there,
        asks_secret=asks,
        is_set=asks and await shared_secret(rooms, deposit) is not None,
        is_hidden=account is not None and not account.may_see(deposit),
    )


# --- proving who one is


async def listed(request: Request) -> Response:
    """``GET /sent``: all that somebody sent which is still known here; to others a form for their address."""
    there = await door.passed(request)
    if there is None:
        return _start(request, door.START)
    rooms = rooms_of(request)
    after = request.query_params.get("after", "")[:64]
    page, older = await rooms.deposits.page(DepositFilter(sender=there.sender), after=after, limit=_PAGE)
    context = {
        "copies": [_copy(rooms, deposit) for deposit in page],
        "older": older,
        "is_first": not after,
        "sender": str(there.sender),
        "not_me": None,
    }
    return rooms.pages.render(request, "sent_list.html", context, tenant=page[0].tenant if page else "")


def _start(
    request: Request, onward: str, *, tenant: str = "", wrong: str = "", email: str = "", status: int = 200
) -> Response:
    context = {
        "next": onward,
        "by_link": onward != door.START,
        "wrong": wrong,
        "email": email,
        "not_me": None,
    }
    return rooms_of(request).pages.render(request, "sent_start.html", context, tenant=tenant, status=status)


async def ask(request: Request) -> Response:
    """``POST /sent``: mail a code to the sender of the message whose link this is, or to the address as typed."""
    form = await form_of(request)
    rooms, onward = rooms_of(request), door.onward(text(form, "next"))
    deposits = await door.sent_by(rooms, onward)
    mailbox = deposits[0].sender.address if deposits else door.typed(text(form, "email"))
    if mailbox is None:
        return _start(request, onward, wrong="sign_in.bad_email", email=text(form, "email")[:254], status=400)
    response = RedirectResponse("/sent/code" + ("" if onward == door.START else f"?next={onward}"), 303)
    if await door.hold(rooms, request, mailbox, deposits):
        response.background = BackgroundTask(
            door.mail_code, rooms, visit_of(request), mailbox, language=language_of(request)
        )
    return response


async def code_page(request: Request) -> Response:
    """``GET /sent/code``: where the code is entered."""
    return _code_page(request, door.onward(request.query_params.get("next", "")))


def _code_page(request: Request, onward: str, *, wrong: str = "", status: int = 200) -> Response:
    rooms = rooms_of(request)
    context = {
        "action": "/sent/code",
        "again": "/sent" if onward != door.START else "",
        "again_fields": {"next": onward},
        "restart": "/sent",
        "sent": "sent.code_sent",
        "button_words": "sent.code_button",
        "digits": rooms.options.codes.digits,
        "wrong": wrong,
        "next": onward,
        "not_me": None,
    }
    return rooms.pages.render(request, "code.html", context, status=status, tenant="")


async def code(request: Request) -> Response:
    """``POST /sent/code``: the code; the pages follow."""
    rooms = rooms_of(request)
    form = await form_of(request)
    onward = door.onward(text(form, "next"))
    redeemed = await codes.answer(rooms, request, door.SUBJECT, text(form, "code"))
    if redeemed.mailbox is None:
        return _code_page(request, onward, wrong="code.wrong" if redeemed.tries else "code.spent", status=400)
    response = RedirectResponse(onward, 303)
    await door.let_in(request, response, redeemed.mailbox)
    return response


async def out(request: Request) -> Response:
    """``POST /sent/out``."""
    await form_of(request)
    response = RedirectResponse("/signed-out", 303, headers={"clear-site-data": '"cache"'})
    await door.let_out(request, response)
    return response


# --- a message


async def _theirs(request: Request) -> tuple[Passed | None, list[Deposit]]:
    """Who asks, and the copies of their message.

    Raises:
        RefusedError: 404; no link of ours, or the message is another's: nothing tells one from the other.
    """
    deposits = await door.sent_by(rooms_of(request), PATH + request.path_params["token"])
    there = await door.passed(request)
    if there is not None:
        mine = there.sender.key
        deposits = [one for one in deposits if one.sender.address is not None and one.sender.address.key == mine]
    if not deposits:
        raise RefusedError(404, "not_found")
    return there, deposits


async def message(request: Request) -> Response:
    """``GET /sent/m/TOKEN``: what became of a message, for each of its recipients."""
    there, deposits = await _theirs(request)
    if there is None:
        return _start(request, PATH + request.path_params["token"], tenant=deposits[0].tenant)
    rooms = rooms_of(request)
    done = request.query_params.get("done", "")
    words = f"sent.{done}" if done in _DONE else ""
    context = {
        "copies": [await _whole(rooms, deposit) for deposit in deposits],
        "action": request.url.path,
        "days": DAYS,
        "done": words,
        "is_bad": words in FAILED,
        "sender": str(there.sender),
        "not_me": None,
    }
    return rooms.pages.render(request, "sent_message.html", context, tenant=deposits[0].tenant)


async def act(request: Request) -> Response:
    """``POST /sent/m/TOKEN``: take back, give more time, send the notice again, set the secret, approve."""
    rooms = rooms_of(request)
    form = await form_of(request)
    there, deposits = await _theirs(request)
    if there is None:
        return _start(request, PATH + request.path_params["token"], tenant=deposits[0].tenant)
    what, number = text(form, "do"), text(form, "number")
    chosen = next((one for one in deposits if str(one.number) == number), None)
    if what not in ACTS or chosen is None:
        raise RefusedError(400, "bad_request")
    if what in {"recall", "approve"} and text(form, "sure") != "yes":
        context = {"copy": await _whole(rooms, chosen), "action": request.url.path, "do": what, "not_me": None}
        return rooms.pages.render(request, "sent_sure.html", context, tenant=chosen.tenant)
    await hold(rooms, limit("sender-acts", there.sender.key, rooms.options.limits.sender_acts))
    days = text(form, "days")
    wanted = Act(
        sender=there.sender,
        deposit=chosen,
        days=int(days) if days.isascii() and days.isdigit() and len(days) < 4 else 0,
        secret=text(form, "secret"),
    )
    outcome = await ACTS[what](rooms, wanted)
    return RedirectResponse(f"{request.url.path}?done={outcome.partition('.')[2]}", 303)
