"""Codes that are mailed: asked for by a link or at the sign-in page, answered in the same browser."""

from typing import Final

from starlette.requests import Request

from relay.core.address import Address
from relay.core.portal import Deposit, DepositFilter
from relay.core.portal_accounts import UNTOLD, Challenge, Redemption, Told
from relay.portal.checks import answering, forbid, judged, limit, network
from relay.portal.options import Rate
from relay.portal.rooms import Rooms
from relay.portal.sessions import visit_of
from relay.portal.tokens import digits

AT_SIGN_IN: Final = ""
"""The subject of a code that was asked for at the sign-in page."""


async def ask_for(rooms: Rooms, request: Request, deposit: Deposit, *, language: str) -> None:
    """Mail a code for a message to its mailbox. Asked again within seconds in the same browser, nothing happens.

    Raises:
        RefusedError: 429; too many for this message, mailbox or network, or in all.
    """
    rates = rooms.options.limits
    code = digits(rooms.options.codes.digits, rooms.entropy)
    post = rooms.mails.code(
        deposit.mailbox, code, tenant=deposit.tenant, language=language, deposit_id=deposit.id, now=rooms.clock()
    )
    reached = await rooms.accounts.challenge(
        _challenge(rooms, visit_of(request), deposit.id, deposit.mailbox, code),
        again_after=rooms.options.codes.again_after,
        limits=[
            limit("codes-message", deposit.id, rates.codes_message),
            limit("codes-mailbox", deposit.mailbox.key, rates.codes_mailbox),
            limit("codes-network", network(request), rates.codes_network),
            limit("codes-all", "", rates.codes_all),
        ],
        told=Told(posts=(post,)),
    )
    forbid(rooms, reached)
    rooms.metrics.count("postern_portal_codes_total", {"asked": "link"})


async def hold_sign_in(rooms: Rooms, request: Request, mailbox: Address, *, recovers: bool) -> bool:
    """Count a request for a code at the sign-in page, alike for every address that may be typed.

    Whether one is to be mailed: the same browser asking again within seconds changes nothing.

    Args:
        rooms: the parts.
        request: where it comes from.
        mailbox: as typed.
        recovers: the code is to lead to a recovery.

    Raises:
        RefusedError: 429.
    """
    options = rooms.options
    again = Rate(most=1, window=options.codes.again_after)
    limits = [
        limit("codes-again", f"{visit_of(request)}:{mailbox.key}", again),
        limit("codes-sign-in", mailbox.key, options.limits.codes_sign_in),
        limit("codes-sign-in-day", mailbox.key, options.limits.codes_sign_in_day),
        limit("sign-ins-network", network(request), options.limits.codes_network),
        limit("sign-ins-all", "", options.limits.codes_all),
    ]
    if recovers:
        limits.append(limit("codes-recovery", mailbox.key, options.limits.codes_recovery))
    reached = await rooms.accounts.allow(limits, now=rooms.clock())
    if reached is limits[0]:
        return False
    forbid(rooms, reached)
    rooms.metrics.count("postern_portal_codes_total", {"asked": "sign-in"})
    return True


async def mail_sign_in(rooms: Rooms, visit: str, mailbox: Address, *, language: str) -> None:
    """Mail a code if the mailbox has messages or an account here; runs once the answer has left.

    So the answer takes as long for every address. A challenge is kept in either case, so that answering it takes as
    long, too; without an account no code fits it.
    """
    code = digits(rooms.options.codes.digits, rooms.entropy)
    known, told = await known_mailbox(rooms, mailbox), UNTOLD
    if known is not None:
        tenant = await tenant_of(rooms, known)
        told = Told(posts=(rooms.mails.code(known, code, tenant=tenant, language=language, now=rooms.clock()),))
    await rooms.accounts.challenge(_challenge(rooms, visit, AT_SIGN_IN, known, code), again_after=0.0, told=told)


async def known_mailbox(rooms: Rooms, mailbox: Address) -> Address | None:
    """The mailbox as it is written here, if it has an account or messages: a code never goes to an address as typed."""
    account = await rooms.accounts.account(mailbox)
    if account is not None:
        return account.mailbox
    page, _ = await rooms.deposits.page(DepositFilter(mailbox=mailbox), limit=1)
    return page[0].mailbox if page else None


async def tenant_of(rooms: Rooms, mailbox: Address) -> str:
    """Whose pages somebody sees who came without a link: those of the clinic that wrote to them last."""
    page, _ = await rooms.deposits.page(DepositFilter(mailbox=mailbox), limit=1)
    return page[0].tenant if page else ""


async def answer(rooms: Rooms, request: Request, subject: str, typed: str) -> Redemption:
    """Judge what was typed for a code.

    Raises:
        RefusedError: 429; too many answers from this network.
    """
    await answering(rooms, request)
    code = "".join(character for character in typed if character.isdigit())
    redeemed = await rooms.accounts.redeem(visit_of(request), subject, code, now=rooms.clock())
    judged(rooms, "code", right=redeemed.mailbox is not None)
    return redeemed


def _challenge(rooms: Rooms, visit: str, subject: str, mailbox: Address | None, code: str) -> Challenge:
    now, options = rooms.clock(), rooms.options.codes
    return Challenge(
        visit=visit,
        subject=subject,
        mailbox=mailbox,
        code=code,
        tries=options.tries,
        made_at=now,
        expires_at=now + options.life,
    )
