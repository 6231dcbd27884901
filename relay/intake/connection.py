"""One SMTP connection: carries octets between a transport and the session machine, keeps the deadlines, asks the rooms.

The only code here that waits is a task for the question that needs it (AUTH, the end of a message, the TLS handshake).
"""

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

import structlog

from relay.core.envelope import ClientSession
from relay.core.reply import Reply
from relay.intake import replies as say
from relay.intake.clients import Client
from relay.intake.deadline import SessionDeadline
from relay.intake.limits import NO_ROOM, Place, Share
from relay.intake.rights import authenticate, largest, may_begin, may_receive, who
from relay.intake.tls import describe, reason, upgrade
from relay.smtp.server import ServerSession
from relay.smtp.server_events import (
    AuthRequest,
    Closed,
    Event,
    Helo,
    Mail,
    MessageComplete,
    Quit,
    Rcpt,
    Refused,
    StartTls,
    Turn,
)

if TYPE_CHECKING:
    from relay.intake.listener import Listener

log = structlog.get_logger("intake")

_BACKLOG: Final = 65536  # unread octets held while a question waits, before reading pauses
_WRITE_BUFFER: Final = 65536  # unsent octets before a peer counts as one that does not read


class Connection(asyncio.Protocol):
    """Lives as long as its transport. All options and rooms are the listener's."""

    __slots__ = (
        "_closing", "_deadline", "_described", "_draining", "_early", "_eof", "_listener", "_loop", "_paused",
        "_pending", "_place", "_reports", "_session", "_share", "_task", "_transport", "address", "client",
        "identity", "tls_cipher", "tls_version",
    )  # fmt: skip

    def __init__(self, listener: "Listener", loop: asyncio.AbstractEventLoop, place: Place | None = None) -> None:
        """Wait for a transport; with a ``place`` its peer has been admitted, and TLS begun, already."""
        self._listener = listener
        self._loop = loop
        self._session = ServerSession(listener.options.limits)
        self._transport: asyncio.Transport | None = None
        self._deadline = SessionDeadline(loop, self._on_deadline)
        self._share = Share(listener.budget)
        self._early: bytearray | None = None
        self._task: asyncio.Task[None] | None = None
        self._pending: asyncio.Handle | None = None
        self._paused = self._closing = self._draining = self._eof = False
        self._place = place
        self._reports: bool | None = None
        self._described: ClientSession | None = None
        self.address = ""
        self.client: Client | None = None
        self.identity = self.tls_version = self.tls_cipher = ""

    # --- asyncio.Protocol ---------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit or refuse, where that is still to be done; greet."""
        transport = cast("asyncio.Transport", transport)  # uvloop's are of no class of asyncio
        self._transport = transport
        transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        peer = transport.get_extra_info("peername")
        self.address = peer[0].partition("%")[0] if peer else ""
        if self._place is None:
            place = self._listener.place()
            refusal = self._listener.refusal(self.address, place)
            if refusal is not None:
                self._drive(self._session.greet(refusal))
                return
            self._place = place
        self._listener.metrics.count("connections_in", {"listener": self._listener.options.name})
        self._listener.joined(self)
        if self._listener.options.implicit_tls:
            self._secured(transport)
        self._greet()

    def data_received(self, data: bytes) -> None:
        """Feed the machine, act on what it says, write what it answers."""
        if self._closing:
            return
        if self._early is not None:
            # TLS gave us octets before start_tls() had returned: they belong after the handshake.
            self._early += data
            return
        try:
            self._drive(self._session.receive(data))
        except Exception as error:  # noqa: BLE001 - a fault of ours ends this connection, not the worker
            self._fail(error)

    def eof_received(self) -> bool:
        """The peer will send no more: answer what is in hand, then close; TLS cannot be half closed."""
        self._eof = True
        return self._busy and not self.tls_version

    def pause_writing(self) -> None:
        """The peer does not read what we say: stop listening to it until it does, and not for ever."""
        self._paused = True
        self._pause_reading()
        self._deadline.within(self._listener.options.command_timeout)

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._paused = False
        if not self._closing:
            self._deadline.within(self._listener.options.idle_timeout)
        self._resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - how it ended changes nothing
        """Forget it. A message that is being kept goes on being kept: perhaps its reply is lost, never the message."""
        self._closing = True
        self._deadline.cancel()
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
        self._session.close(None, "the connection was lost")
        if not self._busy:
            self._share.release()
        self._transport = None
        if self._place is not None:
            self._place.leave()
            self._place = None
            self._listener.left(self)

    # --- for the listener ---------------------------------------------------

    def drain(self) -> None:
        """Say 421 now, or after the reply to the message in hand."""
        self._draining = True
        if not self._session.in_data and not self._busy and not self._closing:
            self._drive(self._session.close(say.SHUTTING_DOWN, "drained"))

    def abort(self) -> None:
        """Cut it off; a message that is being kept goes on being kept."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    # --- the conversation ---------------------------------------------------

    @property
    def _busy(self) -> bool:
        """Whether work of ours is under way: a handshake, a check of a password, a message being kept, its turn."""
        return self._task is not None or self._pending is not None

    def _greet(self) -> None:
        self._identify(self._listener.client_by_network(self.address))
        self._drive(self._session.greet(say.SHUTTING_DOWN if self._draining else None))

    def _identify(self, client: Client | None) -> None:
        self.client, self._described = client, None
        limits = self._listener.options.limits
        self._session.max_size = largest(self._listener, client)
        self._session.max_recipients = limits.max_recipients
        if client is not None:
            self._session.max_recipients = min(limits.max_recipients, client.max_recipients or limits.max_recipients)

    def _drive(self, events: list[Event]) -> None:
        """Act on events, and on those that the answers lead to, until the machine wants octets or an answer waits."""
        while events:
            following: list[Event] = []
            for event in events:
                following += self._ACTIONS[type(event)](self, event)
            events = following
        self._flush()
        if self._closing or self._transport is None:
            return
        self._account()
        # A peer that does not read has its deadline already; work of ours has deadlines of its own.
        if not self._paused and self._session.question is None and not self._busy:
            self._deadline.follow(self._session, self._listener.options)

    def _go_on(self) -> None:
        """Its turn has come again."""
        self._pending = None
        if self._closing:
            return
        try:
            self._drive(self._session.reply())
            self._go_on_listening()
        except Exception as error:  # noqa: BLE001 - as in data_received
            self._fail(error)

    def _go_on_listening(self) -> None:
        """After work of ours: read again, or close where the peer has already said that nothing more comes."""
        if self._busy:
            return
        self._resume_reading()
        if self._eof and not self._closing:
            self._drive(self._session.close(None, "the peer has gone"))

    def _flush(self) -> None:
        output = self._session.take_output()
        if output and self._transport is not None and not self._transport.is_closing():
            self._transport.write(output)

    def _account(self) -> None:
        """Reserve room for what this connection holds, and stop reading while a question waits and much is unread."""
        session = self._session
        if session.in_data:
            if not self._share.hold(session.held):
                session.refuse_data(NO_ROOM)
                self._share.force(session.held)
        elif session.question is None:
            self._share.release()
            if self._draining:
                self._drive(session.close(say.SHUTTING_DOWN, "drained"))
        elif session.held > _BACKLOG:
            self._pause_reading()

    def _ignore(self, event: Event) -> list[Event]:  # noqa: ARG002 - one signature for all events
        return []

    def _on_helo(self, event: Helo) -> list[Event]:  # noqa: ARG002
        self._described = None
        return []

    def _on_refused(self, event: Refused) -> list[Event]:
        self._listener.refused(self.address, event.verb, event.reply)
        return []

    def _on_closed(self, event: Closed) -> list[Event]:
        if event.reason not in {"quit", "drained", "refused at connect"}:
            log.info("connection ended", peer=self.address, listener=self._listener.options.name, why=event.reason)
        self._flush()
        self._closing = True
        if self._transport is not None:
            self._deadline.within(self._listener.options.close_timeout)
            self._transport.close()
        return []

    def _on_starttls(self, event: StartTls) -> list[Event]:  # noqa: ARG002
        self._flush()
        self._pause_reading()
        self._start(self._handshake())
        return []

    def _on_mail(self, event: Mail) -> list[Event]:
        self._reports = None
        refusal = say.SHUTTING_DOWN if self._draining else may_begin(self._listener, self.client, event)
        if refusal is not None:
            self._listener.refused(self.address, "MAIL", refusal)
        return self._session.reply(refusal)

    def _on_rcpt(self, event: Rcpt) -> list[Event]:
        """Where mail may go is the policy's business; to whom none may go is known at once."""
        refusal, self._reports = may_receive(self._listener, self.client, event, reports=self._reports)
        if refusal is not None:
            self._listener.refused(self.address, "RCPT", refusal)
        return self._session.reply(refusal)

    def _on_auth(self, event: AuthRequest) -> list[Event]:
        self._start(self._authenticate(event))
        return []

    def _on_message(self, event: MessageComplete) -> list[Event]:
        if not self._share.hold(len(event.content)):
            self._listener.refused(self.address, "DATA", NO_ROOM)
            return self._session.reply(NO_ROOM)
        self._listener.gauge()
        self._start(self._accept(event))
        return []

    def _on_turn(self, event: Turn) -> list[Event]:  # noqa: ARG002
        self._pause_reading()
        self._pending = self._loop.call_soon(self._go_on)
        return []

    # --- what waits ---------------------------------------------------------

    def _start(self, work: Coroutine[Any, Any, list[Event]]) -> None:
        self._task = self._loop.create_task(self._finish(work))
        self._listener.working(self._task)

    async def _finish(self, work: Coroutine[Any, Any, list[Event]]) -> None:
        try:
            events = await work
            self._task = None
            if self._transport is None:
                self._share.release()
                return
            self._drive(events)
            self._go_on_listening()
        except Exception as error:  # noqa: BLE001 - as in data_received
            self._fail(error)

    async def _authenticate(self, event: AuthRequest) -> list[Event]:
        answer = await authenticate(self._listener, self.address, event)
        if self._session.question is not event:
            return []  # the peer left
        if isinstance(answer, Reply):
            return self._session.reply(answer)
        self.identity = event.identity
        self._identify(answer)
        return self._session.reply()

    async def _accept(self, event: MessageComplete) -> list[Event]:
        try:
            reply = await self._listener.accept(self.describe(), event.envelope, event.content, client=self.client)
        except Exception as error:  # noqa: BLE001 - the acceptor answers for itself; this is the net below it
            log.error("acceptance failed", peer=self.address, error=type(error).__name__)
            reply = say.FAULT
        return self._session.reply(reply) if self._session.question is event else []

    async def _handshake(self) -> list[Event]:
        listener, transport = self._listener, self._transport
        if transport is None or listener.tls is None:
            raise RuntimeError("no transport or no certificate to begin TLS with")
        # From here on the transport hands what it reads to TLS and not to us: what reaches us has been decrypted.
        self._early = bytearray()
        try:
            upgraded = await upgrade(transport, self, listener.tls, listener.options)
        except (TimeoutError, OSError, ssl.SSLError) as error:
            listener.tls_failed(self.address, reason(error))
            self.abort()
            self.connection_lost(error)  # not every loop says so for a transport whose TLS never began
            return []
        if upgraded is None:
            return []
        self._transport = upgraded
        upgraded.set_write_buffer_limits(high=_WRITE_BUFFER)
        self._secured(upgraded)
        self._identify(listener.client_by_network(self.address))
        early, self._early = bytes(self._early), None
        return self._session.receive(early)

    def _secured(self, transport: asyncio.BaseTransport) -> None:
        """From here on the octets come through TLS."""
        self.tls_version, self.tls_cipher = describe(transport)
        self._listener.tls_begun(self.address, self.tls_version)
        self._session.tls_started()
        self._described = None

    def describe(self) -> ClientSession:
        """Who gives us this message; the same object until something of it changes."""
        if self._described is None:
            self._described = who(self, self._listener.options.name, self._session)
        return self._described

    # --- the rest -----------------------------------------------------------

    def _on_deadline(self) -> None:
        if self._transport is None:
            return
        if self._closing or self._paused:
            self.abort()
        elif self._busy:
            self._deadline.within(self._listener.options.idle_timeout)
        else:
            self._listener.metrics.count("intake_timeouts", {"listener": self._listener.options.name})
            self._drive(self._session.close(say.TIMED_OUT, "timed out"))

    def _fail(self, error: Exception) -> None:
        log.error("the connection failed inside", peer=self.address, error=type(error).__name__, exc_info=False)
        self._listener.metrics.count("intake_errors", {"stage": "connection"})
        self._session.close(say.BROKEN, "a fault of ours")
        self._on_closed(Closed(reason="a fault of ours"))

    def _pause_reading(self) -> None:
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._transport is not None and not self._paused and not self._closing and not self._transport.is_reading():
            self._transport.resume_reading()

    _ACTIONS: ClassVar[dict[type[Event], Callable[..., list[Event]]]] = {
        Helo: _on_helo,
        StartTls: _on_starttls,
        AuthRequest: _on_auth,
        Mail: _on_mail,
        Rcpt: _on_rcpt,
        MessageComplete: _on_message,
        Turn: _on_turn,
        Refused: _on_refused,
        Quit: _ignore,
        Closed: _on_closed,
    }
