"""A connection on its way to a session: greeting, EHLO, STARTTLS, AUTH (RFC 5321, RFC 3207, RFC 4954).

What goes wrong becomes :class:`HostError`, typed. What a peer sends between its 220 to STARTTLS and the handshake is
discarded (RFC 3207 section 4.2: injected commands), and all that EHLO said before TLS is forgotten; a new EHLO follows.
"""

import asyncio
import os
import ssl
from collections.abc import Generator
from typing import Final

from relay.core.level import Proof
from relay.core.outcome import Failure, PeerFeatures, Stage, Trouble
from relay.core.reply import Reply
from relay.net.deadlines import Deadlines
from relay.net.link import Link
from relay.net.timer import Timer
from relay.net.tls import certificate_fault
from relay.smtp.commands import encode
from relay.smtp.hello import features
from relay.smtp.login import CANCEL, MECHANISMS, login
from relay.smtp.replies import ReplyError, ReplyReader
from relay.trust.sessions import AppliedPolicy, Fault
from relay.trust.tlsrpt import ResultType

_HELO_INSTEAD: Final = frozenset({500, 501, 502, 504, 550})  # EHLO unknown: RFC 5321 section 3.2
_READY: Final = 220
_OK: Final = 250
_CONTINUE: Final = 334  # RFC 4954 section 4
_LOGGED_IN: Final = 235


class HostError(Exception):
    """One host, at one address, could not be used.

    Attributes:
        failure: typed, for the report.
        fault: what was wrong with its TLS, or with what its domain publishes of it; ``None`` when nothing was.
        certificate: it was the certificate, which did not verify.
        handshake: TLS was offered and could not be had, for a reason that is not the certificate.
        proof: what the connection reached, when it stood and that was not enough.
        policy: the domain's policy that kept us from the host before any connection.
        source: the address that we came from, when there was a connection.
    """

    def __init__(
        self,
        failure: Failure,
        *,
        fault: Fault | None = None,
        certificate: bool = False,
        handshake: bool = False,
        proof: Proof | None = None,
        policy: AppliedPolicy | None = None,
    ) -> None:
        self.failure = failure
        self.fault = fault
        self.proof = proof
        self.certificate = certificate
        self.handshake = handshake
        self.policy = policy
        self.source = ""
        super().__init__(failure.detail)


async def dial(
    address: str, port: int, protocol: asyncio.Protocol, *, host: str, source: str | None, deadline: float
) -> Link:
    """A TCP connection that calls ``protocol``.

    Raises:
        HostError: refused, unreachable, no such source address, or not in time.
    """
    loop, link = asyncio.get_running_loop(), Link(protocol)
    try:
        async with asyncio.timeout(deadline):
            await loop.create_connection(
                lambda: link, address, port, local_addr=None if source is None else (source, 0)
            )
    except TimeoutError:
        raise HostError(_failure(Trouble.NETWORK, Stage.CONNECT, "connecting took too long", host)) from None
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else type(error).__name__
        detail = f"connecting failed: {why.lower()}"
        raise HostError(_failure(Trouble.NETWORK, Stage.CONNECT, detail, host)) from None
    return link


class Handshake(asyncio.Protocol):
    """Drives one connection up to the point where transactions can begin. It owns it until ``release``.

    Raises:
        ValueError: a ``helo`` that cannot be said.
    """

    def __init__(self, *, host: str, helo: str, deadlines: Deadlines) -> None:
        hello, greet = encode([f"EHLO {helo}"]), encode([f"HELO {helo}"])
        if hello is None or greet is None:
            raise ValueError("a host name to greet with must not hold control characters")
        self._host = host
        self._hello, self._helo = hello, greet
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._timer = Timer(self._loop, self._on_timer)
        self._reader = ReplyReader()
        self._waiter: asyncio.Future[Reply] | None = None
        self._is_late = False
        self._cause: Exception | None = None
        self._link = Link(self)

    async def connect(self, address: str, port: int, *, source: str | None) -> str:
        """Connect; the address that the connection comes from.

        Raises:
            HostError: refused, unreachable, no such source address, or not in time.
        """
        deadline = self._deadlines.connect
        self._link = await dial(address, port, self, host=self._host, source=source, deadline=deadline)
        return self._link.source

    async def greet(self) -> None:
        """Read the greeting.

        Raises:
            HostError: another code than 220, something that is not SMTP, or nothing in time.
        """
        reply = await self._typed(Stage.GREETING, self._deadlines.greeting)
        if reply.code != _READY:
            raise HostError(self._answered(reply, Trouble.REPLY, Stage.GREETING))

    async def greet_in_tls(self, context: ssl.SSLContext, name: str) -> None:
        """TLS from the first octet (RFC 8314 section 3.3), then the greeting.

        Raises:
            HostError: as for :meth:`starttls` and :meth:`greet`.
        """
        await self._tls(context, name)
        self._link.flush()
        reply = await self._typed(Stage.GREETING, self._deadlines.greeting, begins_tls=True)
        if reply.code != _READY:
            raise HostError(self._answered(reply, Trouble.REPLY, Stage.GREETING))

    async def ehlo(self, *, begins_tls: bool = False) -> PeerFeatures:
        """Say EHLO, or HELO to a server that does not know it; what the peer offers.

        Args:
            begins_tls: it is the first thing said after STARTTLS.

        Raises:
            HostError: refused, not SMTP, or not in time; with ``begins_tls`` also as for :meth:`starttls`.
        """
        self._say(self._hello)
        reply = await self._typed(Stage.EHLO, self._deadlines.ehlo, begins_tls=begins_tls)
        if reply.code == _OK:
            return features(reply)
        if reply.code in _HELO_INSTEAD:
            self._say(self._helo)
            reply = await self._typed(Stage.EHLO, self._deadlines.ehlo)
            if reply.code == _OK:
                return PeerFeatures()
        raise HostError(self._answered(reply, Trouble.REPLY, Stage.EHLO))

    async def starttls(self, context: ssl.SSLContext, name: str) -> None:
        """Begin TLS; ``name`` goes into SNI and is what a verifying context compares.

        Its last octets may leave with the EHLO that must follow.

        Raises:
            HostError: with ``certificate`` or ``handshake`` set, and trouble ``BELOW_FLOOR``.
        """
        self._say(b"STARTTLS\r\n")
        try:
            reply = await self._reply(self._deadlines.handshake)
        except ReplyError as error:
            raise _no_handshake(self._below(str(error))) from None
        except TimeoutError:
            raise _no_handshake(self._below("the TLS handshake took too long")) from None
        except OSError:
            raise _no_handshake(self._below("the connection ended in the TLS handshake")) from None
        if reply.code != _READY:
            raise _no_handshake(self._answered(reply, Trouble.BELOW_FLOOR, Stage.TLS))
        self._reader = ReplyReader()  # whatever else came in the clear was never said
        await self._tls(context, name)

    async def _tls(self, context: ssl.SSLContext, name: str) -> None:
        self._timer.set(self._loop.time() + self._deadlines.handshake)
        try:
            await self._link.secure(context, name)
        except ssl.SSLCertVerificationError as error:
            fault = certificate_fault(error)
            below = self._below(f"the certificate does not verify: {fault.detail}")
            raise HostError(below, fault=fault, certificate=True) from None
        except ssl.SSLError as error:
            raise self._broken(error) from None
        except (OSError, ValueError):
            late = "the TLS handshake took too long"
            ended = "the connection ended in the TLS handshake"
            raise _no_handshake(self._below(late if self._is_late else ended)) from None

    def _broken(self, cause: BaseException | None) -> HostError:
        if isinstance(cause, ssl.SSLError):
            reason = (cause.reason or "protocol error").replace("_", " ").lower()
            return _no_handshake(self._below(f"the TLS handshake failed: {reason}"))
        return _no_handshake(self._below("the connection ended before anything was answered over TLS"))

    async def login(self, username: str, password: str, offered: PeerFeatures) -> None:
        """AUTH with the mechanisms that both know, the best first, until one is taken (RFC 4954).

        Some servers offer what they cannot do, so another is tried after a refusal. All have one deadline.

        Raises:
            HostError: refused, none that both know, or not in time.
        """
        end = self._loop.time() + self._deadlines.auth
        reply = None
        for mechanism in MECHANISMS:
            if mechanism not in offered.auth:
                continue
            lines = login(mechanism, username, password)
            reply = await self._authenticate(next(lines), end)
            while reply.code == _CONTINUE:
                reply = await self._authenticate(_next(lines, reply), end)
            if reply.code == _LOGGED_IN:
                return
        if reply is None:
            detail = "no way to log in that both sides know"
            raise HostError(_failure(Trouble.PROTOCOL, Stage.AUTH, detail, self._host))
        raise HostError(self._answered(reply, Trouble.REPLY, Stage.AUTH))

    async def _authenticate(self, line: bytes, end: float) -> Reply:
        self._say(line + b"\r\n")
        return await self._typed(Stage.AUTH, end - self._loop.time())

    @property
    def tls_object(self) -> ssl.SSLObject | None:
        """The live TLS object, to be judged; ``None`` in the clear.

        Raises:
            HostError: the connection has ended meanwhile, and is no less safe for that.
        """
        self._require_link()
        return self._link.tls

    def release(self, protocol: asyncio.Protocol) -> Link:
        """Hand the live connection to another protocol; this object is of no further use.

        Raises:
            HostError: the connection has ended meanwhile.
        """
        self._require_link()
        self._timer.stop()
        self._link.hand_over(protocol)
        return self._link

    def abort(self) -> None:
        """Drop the connection, whatever state it is in."""
        self._timer.stop()
        self._link.abort()

    def _require_link(self) -> None:
        if self._link.is_closing:
            raise HostError(_failure(Trouble.NETWORK, Stage.EHLO, "the connection ended", self._host))

    # --- one answer ------------------------------------------------------------

    def _say(self, line: bytes) -> None:
        self._reader = ReplyReader()  # what was said without being asked answers nothing
        self._link.write(line)

    async def _reply(self, span: float) -> Reply:
        """The next reply.

        Raises:
            ReplyError: it is none.
            TimeoutError: it did not come in time.
            OSError: the connection ended.
        """
        reply = self._reader.take()
        if reply is not None:
            return reply
        if self._link.is_closing:
            raise self._cause if isinstance(self._cause, OSError) else ConnectionResetError
        self._timer.set(self._loop.time() + span)
        self._waiter = self._loop.create_future()
        try:
            return await self._waiter
        finally:
            self._waiter = None

    async def _typed(self, stage: Stage, span: float, *, begins_tls: bool = False) -> Reply:
        """The next reply.

        With TLS 1.3 a server judges our part of the handshake after we are done with it (RFC 8446 section 4.4.4), so
        its alert, or the end with which it spares itself one, comes in place of the first answer.

        Raises:
            HostError: there is none. With ``begins_tls`` a connection that ends is a TLS that broke.
        """
        try:
            return await self._reply(span)
        except ReplyError:
            raise HostError(_failure(Trouble.PROTOCOL, stage, "the answer is not SMTP", self._host)) from None
        except TimeoutError:
            raise HostError(_failure(Trouble.NETWORK, stage, f"no answer in time at {stage}", self._host)) from None
        except OSError as error:
            if begins_tls:
                raise self._broken(error) from None
            raise HostError(_failure(Trouble.NETWORK, stage, f"the connection ended at {stage}", self._host)) from None

    def _on_timer(self) -> None:
        self._is_late = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(TimeoutError())
        self._link.abort()

    # --- asyncio.Protocol --------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """What the peer says."""
        self._reader.feed(data)
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        try:
            reply = self._reader.take()
        except ReplyError as error:
            waiter.set_exception(error)
            return
        if reply is not None:
            waiter.set_result(reply)

    def eof_received(self) -> bool:
        """The peer says no more."""
        self.connection_lost(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._cause = self._cause or exc
        self._timer.stop()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(exc if isinstance(exc, OSError) else ConnectionResetError())

    # --- failures ----------------------------------------------------------------

    def _answered(self, reply: Reply, trouble: Trouble, stage: Stage) -> Failure:
        detail = f"{stage} was answered {reply.code}"
        return Failure(trouble=trouble, stage=stage, reply=reply, detail=detail, host=self._host)

    def _below(self, detail: str) -> Failure:
        return _failure(Trouble.BELOW_FLOOR, Stage.TLS, detail, self._host)


def _next(lines: Generator[bytes, str, None], asked: Reply) -> bytes:
    """What to say to a 334; a server that asks for more than belongs to the mechanism is told to end it."""
    try:
        return lines.send(asked.text)
    except StopIteration:
        return CANCEL


def _no_handshake(failure: Failure) -> HostError:
    fault = Fault(result=ResultType.VALIDATION_FAILURE, detail=failure.detail)
    return HostError(failure, fault=fault, handshake=True)


def _failure(trouble: Trouble, stage: Stage, detail: str, host: str) -> Failure:
    return Failure(trouble=trouble, stage=stage, detail=detail, host=host)
