"""May this client, now: the checks at AUTH and MAIL that need more than the session's own rules."""

from typing import TYPE_CHECKING

import structlog

from relay.core.envelope import ClientSession
from relay.core.reply import Reply
from relay.intake import replies as say
from relay.intake.clients import Client
from relay.intake.limits import NO_ROOM
from relay.intake.reports import ALONE, REPORTS_ONLY
from relay.smtp.server import ServerSession
from relay.smtp.server_events import AuthRequest, Mail, Rcpt

if TYPE_CHECKING:
    from relay.intake.connection import Connection
    from relay.intake.listener import Listener

log = structlog.get_logger("intake")


def may_begin(listener: "Listener", client: Client | None, event: Mail) -> Reply | None:
    """Why a message may not be begun; ``None``, and counted in the client's rate, when it may."""
    if client is None and _is_open(listener):
        return _may_report(listener)
    if client is None:
        return say.AUTH_REQUIRED if listener.options.limits.auth else say.NO_CLIENT
    if not client.may_send(event.reverse_path):
        return say.SENDER_REFUSED
    if listener.budget.is_high:
        return NO_ROOM
    return listener.rates.admit(client)


def _is_open(listener: "Listener") -> bool:
    """Whether who is no client may write to report addresses."""
    return listener.options.reports and listener.reports is not None


def _may_report(listener: "Listener") -> Reply | None:
    if listener.budget.is_high or listener.reports is None:
        return NO_ROOM
    return listener.rates.admit(listener.reports.stranger)


def largest(listener: "Listener", client: Client | None) -> int:
    """Octets of a message that this peer may send."""
    most = listener.options.limits.max_size
    if client is not None:
        return min(most, client.max_size or most)
    return min(most, listener.reports.options.max_size) if _is_open(listener) and listener.reports else most


def may_receive(
    listener: "Listener", client: Client | None, event: Rcpt, *, reports: bool | None
) -> tuple[Reply | None, bool | None]:
    """Why a recipient gets no mail, or ``None``; and whether the message now goes to a report address.

    Args:
        listener: where it came in.
        client: whose mail it is.
        event: the command.
        reports: whether a recipient taken before is a report address, which stands alone; ``None``: there is none yet.
    """
    found = listener.reports.look(event.recipient.address) if listener.reports is not None else None
    if isinstance(found, Reply):
        return found, reports
    if found is None and client is None:
        return REPORTS_ONLY, reports
    if reports or (reports is False and found is not None):
        return ALONE, reports
    refusal = _suppressed(listener, client, event) if found is None else None
    return refusal, (found is not None) if refusal is None else reports


def _suppressed(listener: "Listener", client: Client | None, event: Rcpt) -> Reply | None:
    """Why a recipient gets no mail: it is suppressed for this client's tenant and stream. ``None`` when it is not."""
    tenant, stream = (client.tenant, client.stream) if client is not None else ("", "")
    refusal = listener.suppressed(event.recipient.address, tenant, stream)
    if refusal is not None:
        domain = event.recipient.address.domain
        listener.metrics.count("suppressed_recipients", {"recipient_domain": domain})
        log.info("suppressed recipient refused", listener=listener.options.name, domain=domain)
    return refusal


def who(peer: "Connection", listener: str, session: ServerSession) -> ClientSession:
    """What is known of a peer, for the messages it sends."""
    client = peer.client
    return ClientSession(
        client=client.name if client is not None else "",
        tenant=client.tenant if client is not None else "",
        listener=listener,
        network=peer.address,
        identity=peer.identity,
        helo=session.helo,
        tls_version=peer.tls_version,
        tls_cipher=peer.tls_cipher,
        esmtp=session.extended,
    )


async def authenticate(listener: "Listener", address: str, event: AuthRequest) -> Client | Reply:
    """The client whose password this is, or the reply that refuses it; throttled, counted, logged without the name."""
    labels = {"listener": listener.options.name, "mechanism": event.mechanism}
    reply = await listener.throttle.refusal(address, event.identity)
    if reply is None:
        client = listener.directory.authenticate(event.identity, event.password, address=address, now=listener.clock())
        if client is not None:
            listener.throttle.succeeded(address, event.identity)
            listener.metrics.count("auth", {**labels, "result": "succeeded"})
            return client
        await listener.throttle.failed(address, event.identity)
        reply = say.AUTH_FAILED
    listener.metrics.count("auth", {**labels, "result": "failed" if reply is say.AUTH_FAILED else "throttled"})
    log.warning("AUTH refused", peer=address, listener=listener.options.name, code=reply.code)
    return reply
