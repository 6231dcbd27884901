"""One TCP connection to a peer: octets in and out, in the clear and, from :meth:`Link.secure` on, in TLS.

TLS is done here and not by the event loop: for a connection that carries one message the loop's buffers, tasks and
timers around TLS cost more than what they do (bench/profile.md). Both sides of it are ordinary protocols of asyncio.
"""

import asyncio
import contextlib
import ssl
from typing import Final, cast

_RECORD: Final = 16_384
"""Octets read at a time: the most that one record of TLS holds (RFC 8446 section 5.1)."""
_FAREWELL: Final = 5.0
"""Seconds for the rest of what was written to leave, once TLS broke: a peer may read no more and keep us for ever."""
_LOST: Final = "the connection ended in the handshake"


class Link(asyncio.Protocol):
    """A connection, made by ``loop.create_connection``.

    All methods belong to the thread of its event loop. Nothing here waits, so nothing here needs a deadline: whoever
    waits for an answer or for :meth:`secure` has one, and calls :meth:`abort`.

    Args:
        protocol: what is called with what the peer says; ``connection_made`` is not.
    """

    __slots__ = ("_incoming", "_is_closing", "_outgoing", "_parted", "_protocol", "_shaken", "_tls", "_transport")

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        self._transport: asyncio.Transport | None = None
        self._is_closing = self._parted = False
        self._tls: ssl.SSLObject | None = None
        self._shaken: asyncio.Future[None] | None = None
        self._incoming = self._outgoing = _NO_BIO

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS object once its handshake is over; ``None`` in the clear, and when the connection has ended."""
        return None if self._is_closing or self._shaken is not None else self._tls

    @property
    def is_closing(self) -> bool:
        """Whether it has ended, by whomever."""
        return self._is_closing

    @property
    def unsent(self) -> int:
        """Octets that were written and that the network has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    @property
    def source(self) -> str:
        """The address that it comes from."""
        return "" if self._transport is None else str(self._transport.get_extra_info("sockname")[0])

    def hand_over(self, protocol: asyncio.Protocol) -> None:
        """Call another protocol from now on."""
        self._protocol = protocol

    # --- TLS -------------------------------------------------------------------

    def secure(self, context: ssl.SSLContext, name: str) -> asyncio.Future[None]:
        """Begin TLS: from here on nothing but a handshake is read, and nothing may be written until it is over.

        Args:
            context: shared by all connections; what it verifies is verified.
            name: for SNI, and what a verifying context compares with the certificate.

        Returns:
            Done when the handshake is over. Its last octets leave with the first words that are written after it, or
            with :meth:`flush`. It fails with ``ssl.SSLError`` or ``OSError``; the connection has ended then.

        Raises:
            ValueError: not a name that can be asked for.
        """
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._shaken = shaken = asyncio.get_running_loop().create_future()
        if self._is_closing:
            self._fail(ConnectionResetError(_LOST))
        else:
            self._shake(self._tls, shaken)
        return shaken

    def _shake(self, tls: ssl.SSLObject, shaken: asyncio.Future[None]) -> None:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            self.flush()
            return
        except (ssl.SSLError, ValueError) as error:
            self.flush()  # the alert that tells the peer why
            self._fail(error)
            self._end()
            return
        self._shaken = None
        if not shaken.done():
            shaken.set_result(None)
        if self._incoming.pending:
            self._decrypt(tls)

    def _fail(self, error: Exception) -> None:
        shaken, self._shaken, self._tls = self._shaken, None, None
        if shaken is not None and not shaken.done():
            shaken.set_exception(error)

    def flush(self) -> None:
        """Send what TLS has to say by itself."""
        if self._outgoing.pending and self._transport is not None:
            self._transport.write(self._outgoing.read())

    # --- writing ---------------------------------------------------------------

    def write(self, data: bytes | memoryview) -> None:
        """Send octets; when the network does not take them for a while, ``pause_writing`` is called.

        Raises:
            RuntimeError: TLS has begun and its handshake is not over.
        """
        if self._is_closing or self._transport is None:
            return
        if self._tls is None:
            self._transport.write(data)
            return
        if self._shaken is not None:
            raise RuntimeError("nothing is said while TLS begins")
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[self._tls.write(rest) :]  # it takes a record at a time
        except ssl.SSLError as error:
            self._end(error)
        else:
            self.flush()

    def part(self, data: bytes) -> None:
        """Send the last words, and in the same piece the end of TLS; what the peer has to say still comes.

        RFC 8446 section 6.1: whoever tells the end writes no more, and may read on. Under TLS 1.2 a peer may end the
        connection then without a word (RFC 5246 section 7.2.1): so let it be words that need no answer.
        """
        if self._tls is None or self._shaken is not None or self._is_closing:
            self.write(data)
            return
        with contextlib.suppress(ssl.SSLError):
            self._tls.write(data)
        self._tell_end(self._tls)

    def _tell_end(self, tls: ssl.SSLObject) -> None:
        self._parted = True
        with contextlib.suppress(ssl.SSLError):
            tls.unwrap()
        self.flush()

    def close(self) -> None:
        """End it in good order: what was written is sent, and the end of TLS is told (RFC 8446 section 6.1)."""
        if self._tls is not None and self._shaken is None and not self._is_closing and not self._parted:
            self._tell_end(self._tls)
        self._end()

    def abort(self) -> None:
        """End it at once; ``connection_lost`` is called a little later."""
        self._is_closing = True
        if self._transport is not None:
            self._transport.abort()

    def _end(self, fault: Exception | None = None) -> None:
        """Read and write no more.

        Args:
            fault: of TLS, to be told in the place of what the transport says.
        """
        self._is_closing = True
        if self._transport is not None:
            self._transport.close()
        if fault is not None:
            loop = asyncio.get_running_loop()
            self._protocol, protocol = _DEAF, self._protocol
            loop.call_soon(protocol.connection_lost, fault)
            loop.call_later(_FAREWELL, self.abort)

    # --- asyncio.Protocol --------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses of asyncio's

    def data_received(self, data: bytes) -> None:
        """Octets from the network."""
        tls = self._tls
        if self._is_closing:
            return
        if tls is None:
            self._protocol.data_received(data)
            return
        self._incoming.write(data)
        if self._shaken is not None:
            self._shake(tls, self._shaken)
        else:
            self._decrypt(tls)

    def _decrypt(self, tls: ssl.SSLObject) -> None:
        words, over, fault = b"", False, None
        try:
            while self._incoming.pending or tls.pending():
                piece = tls.read(_RECORD)
                if not piece:
                    over = True  # close_notify
                    break
                words += piece
        except ssl.SSLWantReadError:
            pass  # a record that has not come whole, or one without words, such as a ticket
        except ssl.SSLError as error:
            fault = error
        self.flush()
        if words:
            self._protocol.data_received(words)
        if fault is not None:
            self._end(fault)
        elif over and not self._is_closing:
            self.eof_received()
            self._end()

    def eof_received(self) -> bool:
        """The peer says no more."""
        if self._shaken is not None:
            self._fail(ConnectionResetError(_LOST))
        self._is_closing = True
        self._protocol.eof_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._is_closing = True
        self._transport = None
        if self._shaken is not None:
            self._fail(exc or ConnectionResetError(_LOST))
        self._tls = None
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """The network takes no more for now."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """It does again."""
        self._protocol.resume_writing()


_NO_BIO: Final = ssl.MemoryBIO()
"""Stands where no TLS is: always empty."""
_DEAF: Final = asyncio.Protocol()
"""Stands where a protocol was told all it is to know."""
