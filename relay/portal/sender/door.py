"""Who sent something proves it by a code that is mailed to that address, on ways that carry receipts and nothing less.

It opens the pages of what they sent, for half an hour, in that browser, and no inbox: it is no session of a reader.
"""

import re
from dataclasses import dataclass
from typing import Final

import structlog
from starlette.requests import Request
from starlette.responses import Response

from relay.core.address import Address
from relay.core.errors import AddressError
from relay.core.portal import Deposit, DepositFilter, PostKind
from relay.core.portal_accounts import UNTOLD, Challenge, Told
from relay.portal.checks import forbid, limit, network, told
from relay.portal.codes import hold_sign_in
from relay.portal.rooms import Rooms, rooms_of
from relay.portal.sender.links import PATH, message_of
from relay.portal.sessions import drop_cookie, set_cookie, visit_of
from relay.portal.tickets import Tickets
from relay.portal.tokens import digits

log = structlog.get_logger("portal")

SENDER: Final = "__Host-sender"
SUBJECT: Final = "sent"
"""Of the codes that open these pages: they open no others."""
START: Final = "/sent"
_ONWARD: Final = re.compile(re.escape(PATH) + r"[A-Za-z0-9_-]{1,512}\Z")
_USE: Final = "sender"


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """Who has proved to be a sender.

    Attributes:
        sender: their address.
        nonce, until: of the ticket that says so.
    """

    sender: Address
    nonce: str
    until: float


def _tickets(rooms: Rooms) -> Tickets:
    return Tickets(rooms.vault, rooms.clock, rooms.entropy, life=rooms.options.sessions.sender)


async def passed(request: Request) -> Passed | None:
    """Who is at these pages; ``None`` for nobody yet, or not any more."""
    rooms = rooms_of(request)
    ticket = _tickets(rooms).open(_USE, visit_of(request), request.cookies.get(SENDER, ""))
    if ticket is None or await rooms.accounts.is_used(ticket.nonce):
        return None
    return Passed(sender=Address.parse(ticket.value), nonce=ticket.nonce, until=ticket.until)


async def let_in(request: Request, response: Response, sender: Address) -> None:
    """Give the browser what it needs for these pages, and say so in the audit trail."""
    rooms = rooms_of(request)
    set_cookie(response, SENDER, _tickets(rooms).seal(_USE, visit_of(request), str(sender)))
    await rooms.deposits.hand_out(events=(told(rooms, sender, "sender-signed-in", way="code"),))
    rooms.metrics.count("postern_portal_sign_ins_total", {"way": "sender"})
    log.info("portal_sender_signed_in", domain=sender.domain)


async def let_out(request: Request, response: Response) -> None:
    """What the browser holds is of no use any more, to nobody."""
    there = await passed(request)
    if there is not None:
        await rooms_of(request).accounts.use_once(there.nonce, until=there.until)
    drop_cookie(response, SENDER)


def onward(path: str) -> str:
    """The path if it is the page of a message; else the list."""
    return path if _ONWARD.match(path) else START


async def sent_by(rooms: Rooms, path: str) -> list[Deposit]:
    """The deposits of the message whose page this is; none where it is no such page."""
    message_id = message_of(rooms.vault, path.removeprefix(PATH)) if _ONWARD.match(path) else ""
    return list(await rooms.deposits.of_message(message_id)) if message_id else []


def typed(text: str) -> Address | None:
    """An address as typed; ``None`` for what is none."""
    try:
        return Address.parse(text.strip())
    except AddressError:
        return None


async def hold(rooms: Rooms, request: Request, mailbox: Address, deposits: list[Deposit]) -> bool:
    """Count a request for a code; whether one is to be mailed.

    Whoever holds the link of a message has the budget of that message; who typed an address has that of the sign-in
    page, alike for every address.

    Raises:
        RefusedError: 429.
    """
    if not deposits:
        return await hold_sign_in(rooms, request, mailbox, recovers=False)
    rates = rooms.options.limits
    reached = await rooms.accounts.allow(
        [
            limit("codes-message", f"sent:{deposits[0].message_id}", rates.codes_message),
            limit("codes-network", network(request), rates.codes_network),
            limit("codes-all", "", rates.codes_all),
        ],
        now=rooms.clock(),
    )
    forbid(rooms, reached)
    rooms.metrics.count("postern_portal_codes_total", {"asked": "sender"})
    return True


async def mail_code(rooms: Rooms, visit: str, mailbox: Address, *, language: str) -> None:
    """Mail a code if that address has sent anything that is here; runs once the answer has left.

    A challenge is kept in either case, so that answering it takes as long.
    """
    code, now = digits(rooms.options.codes.digits, rooms.entropy), rooms.clock()
    page, _ = await rooms.deposits.page(DepositFilter(sender=mailbox), limit=1)
    known = page[0].sender.address if page else None
    news = UNTOLD
    if known is not None:
        tenant = page[0].tenant
        post = rooms.mails.code(known, code, tenant=tenant, language=language, now=now, kind=PostKind.SENDER_CODE)
        news = Told(posts=(post,))
    challenge = Challenge(
        visit=visit,
        subject=SUBJECT,
        mailbox=known,
        code=code,
        tries=rooms.options.codes.tries,
        made_at=now,
        expires_at=now + rooms.options.codes.life,
    )
    await rooms.accounts.challenge(challenge, again_after=0.0, told=news)
