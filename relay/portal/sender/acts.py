"""What senders may do about what they sent; every act is in the audit trail with the address that did it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from relay.core.address import Address
from relay.core.change import AuditEvent
from relay.core.portal import FINAL_STATES, Deposit, Secret
from relay.core.portal_accounts import SharedSecret, Told
from relay.portal.checks import hold, limit
from relay.portal.gate import deposit_scope
from relay.portal.ledger import portal_event
from relay.portal.passphrase import shared_hash
from relay.portal.rooms import Rooms

DAYS: Final = (7, 30, 90)
"""So many days from now a message may be given."""
_DAY: Final = 86_400.0
_TRIES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What a sender asks for.

    Attributes:
        sender: who.
        deposit: about which copy.
        days: for an extension.
        secret: that is to open it.
    """

    sender: Address
    deposit: Deposit
    days: int = 0
    secret: str = ""


async def recall(rooms: Rooms, act: Act) -> str:
    """Take it back; the key of the words that say what became of it."""
    done = await rooms.ledger.recalled(act.deposit, by=str(act.sender), why="its sender took it back", role="sender")
    return "sent.recalled" if done else "sent.over"


async def extend(rooms: Rooms, act: Act) -> str:
    """Let it be read for longer, never for less."""
    if act.days not in DAYS:
        return "sent.bad_days"
    until = max(act.deposit.expires_at, rooms.clock() + act.days * _DAY)
    why = "its sender gave it more time"
    done = await rooms.ledger.extended(act.deposit, until, by=str(act.sender), why=why, role="sender")
    return "sent.extended" if done else "sent.over"


async def resend(rooms: Rooms, act: Act) -> str:
    """Send its notice again.

    Raises:
        RefusedError: 429; its reader has had enough of them.
    """
    await hold(rooms, limit("sender-notices", act.deposit.id, rooms.options.limits.sender_notices))
    done = await rooms.ledger.resent(act.deposit, by=str(act.sender), why="its sender asked for it", role="sender")
    return "sent.resent" if done else "sent.over"


async def secret(rooms: Rooms, act: Act) -> str:
    """Set the secret that opens it."""
    if act.deposit.secret is not Secret.SHARED or act.deposit.state in FINAL_STATES:
        return "sent.over"
    try:
        verifier = await asyncio.to_thread(shared_hash, act.secret)
    except ValueError:
        return "sent.bad_secret"
    shared = SharedSecret(scope=deposit_scope(act.deposit.id), verifier=verifier)
    await rooms.accounts.set_shared(act.deposit.mailbox, shared, told=Told(events=(_event(rooms, act, "secret-set"),)))
    return "sent.secret_set"


async def approve(rooms: Rooms, act: Act) -> str:
    """After a recovery: its reader may see this sender's older messages again."""
    for _ in range(_TRIES):
        account = await rooms.accounts.account(act.deposit.mailbox)
        if account is None or account.may_see(act.deposit):
            break
        shown = tuple(sorted({*account.shown_from, act.sender.key}))
        news = Told(events=(_event(rooms, act, "approved"),))
        if await rooms.accounts.save(replace(account, shown_from=shown), told=news):
            break
    return "sent.approved"


def _event(rooms: Rooms, act: Act, what: str) -> AuditEvent:
    return portal_event(act.deposit, what, at=rooms.clock(), sender=str(act.sender))


ACTS: Final[Mapping[str, Callable[[Rooms, Act], Awaitable[str]]]] = {
    "recall": recall,
    "extend": extend,
    "resend": resend,
    "secret": secret,
    "approve": approve,
}
FAILED: Final = frozenset({"sent.over", "sent.bad_days", "sent.bad_secret"})
"""Words that tell of no success."""
