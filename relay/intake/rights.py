"""May this client, now: the checks at AUTH and MAIL that need more than the session's own rules."""

from typing import TYPE_CHECKING

import structlog

from relay.core.reply import Reply
from relay.intake import replies as say
from relay.intake.clients import Client
from relay.intake.limits import NO_ROOM
from relay.smtp.server_events import AuthRequest, Mail, Rcpt

if TYPE_CHECKING:
    from relay.intake.listener import Listener

log = structlog.get_logger("intake")


def may_begin(listener: "Listener", client: Client | None, event: Mail) -> Reply | None:
    """Why a message may not be begun; ``None``, and counted in the client's rate, when it may."""
    if client is None:
        return say.AUTH_REQUIRED if listener.options.limits.auth else say.NO_CLIENT
    if not client.may_send(event.reverse_path):
        return say.SENDER_REFUSED
    if listener.budget.is_high:
        return NO_ROOM
    return listener.rates.admit(client)


def may_receive(listener: "Listener", client: Client | None, event: Rcpt) -> Reply | None:
    """Why a recipient gets no mail: it is suppressed for this client's tenant and stream. ``None`` when it is not."""
    tenant, stream = (client.tenant, client.stream) if client is not None else ("", "")
    refusal = listener.suppressed(event.recipient.address, tenant, stream)
    if refusal is not None:
        domain = event.recipient.address.domain
        listener.metrics.count("suppressed_recipients", {"recipient_domain": domain})
        log.info("suppressed recipient refused", listener=listener.options.name, domain=domain)
    return refusal


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
