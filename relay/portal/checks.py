"""Limits as pages use them, and events of accounts for the audit trail."""

from typing import Any

import structlog
from starlette.requests import Request

from relay.core.address import Address
from relay.core.change import AuditEvent
from relay.core.portal_accounts import Limit
from relay.portal.network import network_of
from relay.portal.options import Rate
from relay.portal.rooms import Rooms, rooms_of
from relay.portal.sessions import RefusedError

log = structlog.get_logger("portal")


def limit(name: str, key: str, rate: Rate) -> Limit:
    """A limit of somebody's."""
    return Limit(name=name, key=key, most=rate.most, window=rate.window)


def network(request: Request) -> str:
    """The network that a request comes from."""
    address = request.client.host if request.client else ""
    return network_of(address, rooms_of(request).options.limits)


async def hold(rooms: Rooms, *limits: Limit) -> None:
    """Count one more under these.

    Raises:
        RefusedError: 429; one of them is reached.
    """
    forbid(rooms, await rooms.accounts.allow(limits, now=rooms.clock()))


def forbid(rooms: Rooms, reached: Limit | None) -> None:
    """Refuse what a limit forbids.

    Raises:
        RefusedError: 429.
    """
    if reached is not None:
        rooms.metrics.count("postern_portal_limited_total", {"limit": reached.name})
        log.warning("portal_limited", limit=reached.name, of=rooms.vault.digest(reached.key)[:8])
        raise RefusedError(429, "too_many", wait=reached.window)


async def answering(
    rooms: Rooms, request: Request, mailbox: Address | None = None, *, is_stranger: bool = False
) -> None:
    """Count an answer to a code, a second factor or a passkey, before it is judged.

    Args:
        rooms: the parts.
        request: where it comes from.
        mailbox: that is answered for.
        is_stranger: whoever answers has shown nothing of the mailbox yet: they have a budget apart, so that they cannot
            use up its owner's.

    Raises:
        RefusedError: 429; too many from this network, or for this mailbox.
    """
    rates = rooms.options.limits
    limits = [limit("answers-network", network(request), rates.answers_network)]
    if mailbox is not None and is_stranger:
        limits.append(limit("answers-strangers", mailbox.key, rates.answers_mailbox))
    elif mailbox is not None:
        limits.append(limit("answers-mailbox", mailbox.key, rates.answers_mailbox))
        limits.append(limit("answers-day", mailbox.key, rates.answers_day))
    await hold(rooms, *limits)


def told(rooms: Rooms, mailbox: Address, what: str, **facts: Any) -> AuditEvent:
    """Something that happened to an account, for the audit trail."""
    return AuditEvent(kind="portal", at=rooms.clock(), facts={"event": what, "recipients": [str(mailbox)], **facts})


def judged(rooms: Rooms, way: str, *, right: bool) -> None:
    """Count an answer: ``code``, ``passphrase``, ``totp``, ``passkey``, ``shared``."""
    result = "right" if right else "wrong"
    rooms.metrics.count("postern_portal_answers_total", {"way": way, "result": result})
    if not right:
        log.info("portal_answer_wrong", way=way)
