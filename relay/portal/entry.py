"""From a proof to a session: what follows a right code, second factor or passkey."""

from typing import Final

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from relay.core.address import Address
from relay.core.errors import StoreError
from relay.core.portal_accounts import Account, Assurance
from relay.portal.checks import told
from relay.portal.pages import language_of
from relay.portal.rooms import Rooms
from relay.portal.sessions import Issued, browser_name, onward_path
from relay.portal.tokens import new_token

log = structlog.get_logger("portal")

RECOVERY: Final = "/account/recovery"
_TRIES: Final = 3


async def account_for(rooms: Rooms, mailbox: Address) -> Account:
    """The mailbox's account, made at its first visit.

    Raises:
        StoreError: it can be neither found nor made.
    """
    for _ in range(_TRIES):
        there = await rooms.accounts.account(mailbox)
        if there is None:
            fresh = Account(mailbox=mailbox, handle=new_token(rooms.entropy), created_at=rooms.clock())
            there = await rooms.accounts.save(fresh)
        if there is not None:
            return there
    raise StoreError("an account of the portal can be neither found nor made")


async def after_code(
    rooms: Rooms, request: Request, mailbox: Address, *, tenant: str, language: str, onward: str
) -> Response:
    """A code was right: sign in, or ask for the second factor where one is set; on the first visit offer one."""
    account = await account_for(rooms, mailbox)
    if account.factors:
        issued = await rooms.sessions.pend(request, account, tenant=tenant)
        step = RECOVERY if onward == RECOVERY else "/sign-in/second"
        return lead(rooms, issued, step, onward)
    issued = await begin(rooms, request, account, Assurance.MAILED, way="code", tenant=tenant, language=language)
    if account.version == 1 and issued.is_new_device:
        return lead(rooms, issued, "/account/choose", onward)
    return lead(rooms, issued, onward_path(onward))


async def begin(
    rooms: Rooms,
    request: Request,
    account: Account,
    assurance: Assurance,
    *,
    way: str,
    tenant: str,
    language: str = "",
) -> Issued:
    """Begin a session; a new device is mailed to the mailbox.

    Raises:
        SignInNeededError: the ways to sign in have changed since the account was read.
    """
    event = told(rooms, account.mailbox, "signed-in", way=way)
    post = rooms.mails.device(
        account.mailbox,
        browser_name(request.headers.get("user-agent", "")),
        tenant=tenant,
        language=language_of(request, language),
        now=rooms.clock(),
    )
    issued = await rooms.sessions.start(request, account, assurance, tenant=tenant, event=event, post=post)
    rooms.metrics.count("postern_portal_sign_ins_total", {"way": way})
    log.info("portal_signed_in", way=way, domain=account.mailbox.domain)
    return issued


def lead(rooms: Rooms, issued: Issued | None, path: str, onward: str = "") -> Response:
    """Lead on after a form, with the cookies of a session that began."""
    query = f"?next={onward}" if onward and onward_path(onward) == onward and onward != "/inbox" else ""
    response = RedirectResponse(path + query, 303)
    if issued is not None:
        rooms.sessions.hand_over(response, issued)
    return response
