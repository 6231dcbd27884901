"""Judging second factors: passphrase, app, passkey. Each right answer that must not be used again is used up."""

import base64
from dataclasses import dataclass, replace

from starlette.datastructures import FormData
from starlette.requests import Request

from relay.core.portal_accounts import Account, Factor
from relay.portal.passkeys import CHALLENGE_OCTETS, PasskeyError, handle_of
from relay.portal.rooms import Rooms, rooms_of
from relay.portal.sessions import text
from relay.portal.totp import fitting_step

SIGN_IN = "passkey-sign-in"
CREATE = "passkey-create"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a page needs to ask a browser for a passkey.

    Attributes:
        options: JSON for the page's script.
        ticket: for the form.
    """

    options: str
    ticket: str


def ask_passkey(rooms: Rooms, holder: str, account: Account | None = None) -> Asked:
    """Ask for a passkey of an account, or for any of this host. Writes nothing.

    Args:
        rooms: the parts.
        holder: digest of the session or visit that may answer.
        account: whose.
    """
    challenge = rooms.entropy(CHALLENGE_OCTETS)
    ticket = rooms.tickets.seal(SIGN_IN, holder, base64.b64encode(challenge).decode("ascii"))
    return Asked(options=rooms.passkeys.request(challenge, account), ticket=ticket)


async def challenge_of(rooms: Rooms, use: str, holder: str, ticket: str) -> bytes | None:
    """The challenge of a form's ticket, used up with this."""
    opened = rooms.tickets.open(use, holder, ticket)
    if opened is None or not await rooms.accounts.use_once(opened.nonce, until=opened.until):
        return None
    return base64.b64decode(opened.value)


async def passkey_account(rooms: Rooms, holder: str, form: FormData) -> Account | None:
    """Whose passkey answered; ``None`` when none did."""
    handle = handle_of(text(form, "credential"))
    account = await rooms.accounts.account_of(handle) if handle else None
    return account if account and await _passkey(rooms, account, holder, form) else None


async def judge(request: Request, account: Account, form: FormData, *, holder: str) -> Factor | None:
    """Which of the account's factors the form gives; ``None`` when it gives none."""
    rooms = rooms_of(request)
    match text(form, "way"):
        case "passphrase":
            right = await _passphrase(rooms, account, text(form, "passphrase"))
            return Factor.PASSPHRASE if right else None
        case "totp":
            return Factor.TOTP if await _totp(rooms, account, text(form, "totp")) else None
        case "passkey":
            return Factor.PASSKEY if await _passkey(rooms, account, holder, form) else None
    return None


async def _passphrase(rooms: Rooms, account: Account, typed: str) -> bool:
    if not await rooms.passphrases.verify(account.passphrase, typed):
        return False
    if rooms.passphrases.is_outdated(account.passphrase):
        await rooms.accounts.save(replace(account, passphrase=await rooms.passphrases.hash(typed)))
    return True


async def _totp(rooms: Rooms, account: Account, typed: str) -> bool:
    if not account.totp:
        return False
    step = fitting_step(account.totp, typed, now=rooms.clock(), after=account.totp_step)
    return step is not None and await rooms.accounts.save(replace(account, totp_step=step)) is not None


async def _passkey(rooms: Rooms, account: Account, holder: str, form: FormData) -> bool:
    challenge = await challenge_of(rooms, SIGN_IN, holder, text(form, "ticket"))
    if challenge is None:
        return False
    try:
        renewed = rooms.passkeys.judge(account, text(form, "credential"), challenge, now=rooms.clock())
    except PasskeyError:
        return False
    return await rooms.accounts.save(renewed) is not None
