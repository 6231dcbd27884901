"""What a signed-in person may see: one place that every page of a message passes."""

from dataclasses import dataclass

import structlog
from starlette.requests import Request

from relay.core.portal import FINAL_STATES, Deposit, Secret
from relay.core.portal_accounts import Assurance, Session, SharedSecret
from relay.portal.rooms import Rooms, rooms_of
from relay.portal.sessions import RefusedError, require
from relay.portal.tokens import digest

log = structlog.get_logger("portal")


class ElsewhereError(Exception):
    """Something comes first: the application leads to this path."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class GoneError(Exception):
    """The message was there, and is not any more: the application shows why."""

    def __init__(self, deposit: Deposit) -> None:
        super().__init__(deposit.state)
        self.deposit = deposit


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """Who may read what.

    Attributes:
        session: of the reader.
        deposit: the message; not in a final state.
    """

    session: Session
    deposit: Deposit


async def admit(request: Request, deposit_id: str, *, also_locked: bool = False, even_closed: bool = False) -> Admitted:
    """Let the reader of a message pass: it is theirs, it is there, and what it asks for was given.

    Nothing tells a message of another mailbox from one that does not exist.

    Args:
        request: of the page.
        deposit_id: which message.
        also_locked: as for :func:`relay.portal.sessions.require`: to keep a draft, and for nothing else.
        even_closed: the secret that it asks for need not be given: for pages that show nothing of it.

    Raises:
        SignInNeededError: nobody is signed in.
        RefusedError: 404; no such message for this mailbox, or a recovery hides it.
        GoneError: it is in a final state.
        ElsewhereError: a secret is to be set or given first.
    """
    session = await require(request, also_locked=also_locked)
    rooms = rooms_of(request)
    deposit = await rooms.deposits.find(deposit_id)
    if deposit is None:
        raise RefusedError(404, "not_found")
    if deposit.mailbox.key != session.mailbox.key:
        log.warning("portal_not_theirs", deposit=deposit.id[:8], message_id=deposit.message_id)
        raise RefusedError(404, "not_found")
    account = await rooms.accounts.account(session.mailbox)
    if account is not None and not account.may_see(deposit):
        raise RefusedError(404, "hidden")
    if deposit.state in FINAL_STATES or deposit.expires_at <= rooms.clock():
        raise GoneError(deposit)
    if not even_closed and not await is_open_to(rooms, session, deposit):
        step = f"/inbox/{deposit.id}/secret" if deposit.secret is Secret.SHARED else "/account/choose?must=1"
        raise ElsewhereError(step)
    return Admitted(session=session, deposit=deposit)


async def is_open_to(rooms: Rooms, session: Session, deposit: Deposit) -> bool:
    """Whether what the message asks of its reader was given in this session; what is not known is closed."""
    if deposit.secret is Secret.NONE:
        return True
    if deposit.secret is Secret.ENROLLED:
        return session.assurance is Assurance.SECOND
    if not session.grants:
        return False
    shared = await shared_secret(rooms, deposit)
    return shared is not None and grant_of(shared) in session.grants


async def shared_secret(rooms: Rooms, deposit: Deposit) -> SharedSecret | None:
    """The shared secret of a message: its own, set by its sender; else what the clinic set for the mailbox."""
    scopes = deposit_scope(deposit.id), tenant_scope(deposit.tenant)
    return await rooms.accounts.shared(deposit.mailbox, scopes)


def deposit_scope(deposit_id: str) -> str:
    """The scope of a secret for one message."""
    return f"deposit:{deposit_id}"


def tenant_scope(tenant: str) -> str:
    """The scope of a secret for all that a tenant sends a mailbox."""
    return f"tenant:{tenant}"


def grant_of(shared: SharedSecret) -> str:
    """What a session holds once a secret was given: another secret set later asks anew."""
    return f"{shared.scope}@{digest(shared.verifier)[:32]}"
