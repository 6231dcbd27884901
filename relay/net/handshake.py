"""A connection on its way to a session: greeting, EHLO, STARTTLS, AUTH. The one module that touches aiosmtplib.

aiosmtplib speaks until the last EHLO or AUTH; then :meth:`Handshake.release` takes the transport from it. What it
raises becomes :class:`HostError` here, typed. It discards what a peer sends between its 220 to STARTTLS and the
handshake (RFC 3207 section 4.2: injected commands), and forgets all that EHLO said before TLS; a new EHLO follows.

TCP is connected here, not by aiosmtplib, so that a refused connection and a refused greeting are told apart.
"""

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Iterator
from typing import Final, cast

import aiosmtplib
from aiosmtplib.protocol import SMTPProtocol

from relay.core.level import Proof
from relay.core.outcome import Failure, PeerFeatures, Stage, Trouble
from relay.net.deadlines import Deadlines
from relay.net.tls import certificate_fault
from relay.smtp.replies import ReplyError, make_reply
from relay.trust.sessions import AppliedPolicy, Fault
from relay.trust.tlsrpt import ResultType

_HELO_INSTEAD: Final = frozenset({500, 501, 502, 504, 550})  # EHLO unknown: RFC 5321 section 3.2
_READY: Final = 220
_MAX_SIZE_DIGITS: Final = 20  # RFC 1870 section 4


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


async def dial(address: str, port: int, *, host: str, source: str | None, deadline: float) -> socket.socket:
    """A TCP connection.

    Raises:
        HostError: refused, unreachable, no such source address, or not in time.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)  # noqa: FBT003  the standard library's signature
        if source is not None:
            sock.bind((source, 0))
        async with asyncio.timeout(deadline):
            await _connected(sock, address, port)
    except TimeoutError:
        sock.close()
        raise HostError(_failure(Trouble.NETWORK, Stage.CONNECT, "connecting took too long", host)) from None
    except OSError as error:
        sock.close()
        detail = f"connecting failed: {(error.strerror or type(error).__name__).lower()}"
        raise HostError(_failure(Trouble.NETWORK, Stage.CONNECT, detail, host)) from None
    except BaseException:
        sock.close()
        raise
    return sock


async def _connected(sock: socket.socket, address: str, port: int) -> None:
    """Connect; ``loop.sock_connect`` of uvloop looks every address up in a thread, also one that needs no look-up.

    Raises:
        OSError: it did not come about.
    """
    if (code := sock.connect_ex((address, port))) == errno.EINPROGRESS:
        loop, fd = asyncio.get_running_loop(), sock.fileno()
        stands = asyncio.Event()
        loop.add_writer(fd, stands.set)
        try:
            await stands.wait()
        finally:
            loop.remove_writer(fd)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


class Handshake:
    """Drives one connection up to the point where transactions can begin. It owns the socket until ``release``."""

    def __init__(self, sock: socket.socket, *, host: str, helo: str, deadlines: Deadlines) -> None:
        self._host = host
        self._deadlines = deadlines
        self._smtp = aiosmtplib.SMTP(sock=sock, local_hostname=helo, start_tls=False, timeout=deadlines.ehlo)
        self._sock = sock
        self._begun = False

    async def greet(self) -> None:
        """Read the greeting.

        Raises:
            HostError: another code than 220, something that is not SMTP, or nothing in time.
        """
        self._begun = True
        with self._typed(Stage.GREETING):
            await self._smtp.connect(timeout=self._deadlines.greeting)

    async def greet_in_tls(self, context: ssl.SSLContext, name: str) -> None:
        """TLS from the first octet (RFC 8314 section 3.3), then the greeting.

        Raises:
            HostError: as for :meth:`starttls` and :meth:`greet`.
        """
        loop = asyncio.get_running_loop()
        protocol = SMTPProtocol(loop=loop, connection_lost_callback=lambda _: self._smtp.close())
        self._begun = True
        with self._tls_typed():
            self._smtp.transport, self._smtp.protocol = await loop.create_connection(
                lambda: protocol,
                sock=self._sock,
                ssl=context,
                server_hostname=name,
                ssl_handshake_timeout=self._deadlines.handshake,
            )
        with self._typed(Stage.GREETING):
            with self._still_tls():
                answer = await protocol.read_response(timeout=self._deadlines.greeting)
            if answer.code != _READY:
                raise aiosmtplib.SMTPConnectResponseError(answer.code, answer.message)

    async def ehlo(self, *, begins_tls: bool = False) -> PeerFeatures:
        """Say EHLO, or HELO to a server that does not know it; what the peer offers.

        Args:
            begins_tls: it is the first thing said after STARTTLS.

        Raises:
            HostError: refused, not SMTP, or not in time; with ``begins_tls`` also as for :meth:`starttls`.
        """
        with self._typed(Stage.EHLO):
            try:
                with self._still_tls() if begins_tls else contextlib.nullcontext():
                    await self._smtp.ehlo(timeout=self._deadlines.ehlo)
            except aiosmtplib.SMTPHeloError as error:
                if error.code not in _HELO_INSTEAD:
                    raise
                await self._smtp.helo(timeout=self._deadlines.ehlo)
                return PeerFeatures()
        return _features(self._smtp)

    async def starttls(self, context: ssl.SSLContext, name: str) -> None:
        """Begin TLS; ``name`` goes into SNI and is what a verifying context compares.

        Raises:
            HostError: with ``certificate`` or ``handshake`` set, and trouble ``BELOW_FLOOR``.
        """
        with self._tls_typed():
            await self._smtp.starttls(tls_context=context, server_hostname=name, timeout=self._deadlines.handshake)

    @contextlib.contextmanager
    def _tls_typed(self) -> Iterator[None]:
        try:
            yield
        except ssl.SSLCertVerificationError as error:
            fault = certificate_fault(error)
            below = self._below(f"the certificate does not verify: {fault.detail}")
            raise HostError(below, fault=fault, certificate=True) from None
        except aiosmtplib.SMTPResponseException as error:
            raise _no_handshake(self._answered(error, Trouble.BELOW_FLOOR, Stage.TLS)) from None
        except ssl.SSLError as error:
            raise self._broken(error) from None
        except (TimeoutError, aiosmtplib.SMTPTimeoutError):
            raise _no_handshake(self._below("the TLS handshake took too long")) from None
        except (aiosmtplib.SMTPException, OSError, ValueError):
            raise _no_handshake(self._below("the connection ended in the TLS handshake")) from None

    @contextlib.contextmanager
    def _still_tls(self) -> Iterator[None]:
        """Until the peer has answered over TLS, what breaks is TLS.

        With TLS 1.3 a server judges our part of the handshake after we are done with it (RFC 8446 section 4.4.4), so
        its alert, or the end with which it spares itself one, comes in place of the first answer.
        """
        try:
            yield
        except (TimeoutError, aiosmtplib.SMTPResponseException):
            raise
        except OSError as error:
            raise self._broken(error if isinstance(error, ssl.SSLError) else error.__cause__) from None

    def _broken(self, cause: BaseException | None) -> HostError:
        if isinstance(cause, ssl.SSLError):
            reason = (cause.reason or "protocol error").replace("_", " ").lower()
            return _no_handshake(self._below(f"the TLS handshake failed: {reason}"))
        return _no_handshake(self._below("the connection ended before anything was answered over TLS"))

    async def login(self, username: str, password: str) -> None:
        """AUTH with the best mechanism that both know (CRAM-MD5, PLAIN, LOGIN; RFC 4954).

        Raises:
            HostError: refused, not offered, or not in time.
        """
        with self._typed(Stage.AUTH):
            async with asyncio.timeout(self._deadlines.auth):
                await self._smtp.login(username, password, timeout=self._deadlines.auth)

    @property
    def tls_object(self) -> ssl.SSLObject | None:
        """The live TLS object, to be judged."""
        return None if self._transport is None else self._transport.get_extra_info("ssl_object")

    @property
    def _transport(self) -> asyncio.Transport | None:
        return cast("asyncio.Transport | None", self._smtp.transport)  # uvloop's are no subclasses of asyncio's

    def release(self, protocol: asyncio.Protocol) -> asyncio.Transport:
        """Hand the live connection to another protocol; this object is of no further use.

        Raises:
            HostError: the connection has ended meanwhile.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise HostError(_failure(Trouble.NETWORK, Stage.EHLO, "the connection ended", self._host))
        transport.set_protocol(protocol)
        self._smtp.transport = None
        self._smtp.protocol = None
        return transport

    def abort(self) -> None:
        """Drop the connection, whatever state it is in. Harmless after ``release``."""
        if self._transport is not None:
            self._transport.abort()
        elif not self._begun:
            self._sock.close()  # no transport ever took it over
        self._smtp.close()

    @contextlib.contextmanager
    def _typed(self, stage: Stage) -> Iterator[None]:
        try:
            yield
        except aiosmtplib.SMTPResponseException as error:
            raise HostError(self._answered(error, Trouble.REPLY, stage)) from None
        except (TimeoutError, aiosmtplib.SMTPTimeoutError):
            raise HostError(_failure(Trouble.NETWORK, stage, f"no answer in time at {stage}", self._host)) from None
        except (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPConnectError, OSError):
            raise HostError(_failure(Trouble.NETWORK, stage, f"the connection ended at {stage}", self._host)) from None
        except (aiosmtplib.SMTPException, ValueError):
            detail = "no way to log in that both sides know" if stage is Stage.AUTH else "the answer is not SMTP"
            raise HostError(_failure(Trouble.PROTOCOL, stage, detail, self._host)) from None

    def _answered(self, error: aiosmtplib.SMTPResponseException, trouble: Trouble, stage: Stage) -> Failure:
        text = error.message.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        try:
            reply = make_reply(error.code, tuple(text.split("\n"))[:128])
        except ReplyError as fault:
            return _failure(Trouble.PROTOCOL if trouble is Trouble.REPLY else trouble, stage, str(fault), self._host)
        return Failure(
            trouble=trouble, stage=stage, reply=reply, detail=f"{stage} was answered {reply.code}", host=self._host
        )

    def _below(self, detail: str) -> Failure:
        return _failure(Trouble.BELOW_FLOOR, Stage.TLS, detail, self._host)


def _features(smtp: aiosmtplib.SMTP) -> PeerFeatures:
    offered = smtp.esmtp_extensions
    size = offered.get("size", "").strip()
    limit = int(size) if size.isascii() and size.isdigit() and len(size) <= _MAX_SIZE_DIGITS else 0
    return PeerFeatures(
        pipelining="pipelining" in offered,
        eight_bit_mime="8bitmime" in offered,
        smtputf8="smtputf8" in offered,
        dsn="dsn" in offered,
        require_tls="requiretls" in offered,
        starttls="starttls" in offered,
        chunking="chunking" in offered,
        size=limit or None,
        size_offered="size" in offered,
        auth=frozenset(method.upper() for method in smtp.server_auth_methods),
    )


def _no_handshake(failure: Failure) -> HostError:
    fault = Fault(result=ResultType.VALIDATION_FAILURE, detail=failure.detail)
    return HostError(failure, fault=fault, handshake=True)


def _failure(trouble: Trouble, stage: Stage, detail: str, host: str) -> Failure:
    return Failure(trouble=trouble, stage=stage, detail=detail, host=host)
