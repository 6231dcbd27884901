"""Deadlines for slow clients of HTTP: for headers that trickle in, bodies nobody waits for, answers that nobody takes.

uvicorn bounds idle connections and sizes, and nothing else: a client that reads an octet a minute would hold a
connection, and the memory of its answer, for as long as it likes.
"""

import asyncio
import socket
from collections.abc import Mapping
from typing import Any, Final

import h11
import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

log = structlog.get_logger("http")

_TCP_NOTSENT_LOWAT: Final = 25
"""Linux: how much that was not sent yet the kernel takes; the socket module names it from Python 3.12 on."""


class Deadlines(H11Protocol):
    """Serves HTTP/1.1, and lets clients go that are slower than any person's telephone.

    Attributes:
        header_deadline: seconds for a request's headers to arrive, and for the rest of a body after its answer.
        write_deadline: seconds for a client to take what waits for it: ``high_water`` octets at the most.
        high_water: octets of an answer that may wait here before its sender does.
        said: headers of answers that never reach the application.
    """

    header_deadline: float = 30.0
    write_deadline: float = 60.0
    high_water: int = 64 * 1024
    said: Mapping[str, str] = {}

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """As uvicorn makes it."""
        super().__init__(*arguments, **named)
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A connection, through its TLS handshake where there is one."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(self.high_water)
        self._let_the_kernel_hold_little(transport)
        self._await_request()

    def _let_the_kernel_hold_little(self, transport: asyncio.Transport) -> None:
        """Else it takes megabytes at once and tells nothing for minutes: a slow client would look like a dead one."""
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family in {socket.AF_INET, socket.AF_INET6}:
            connection.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, 16 * 1024)

    def data_received(self, data: bytes) -> None:
        """Octets of a request."""
        super().data_received(data)
        if self._is_awaiting_headers() or self._is_awaiting_what_nobody_reads():
            self._await_request()
        else:
            self._stop_reading()

    def on_response_complete(self) -> None:
        """An answer was written, as far as the application is concerned."""
        self._stop_reading()
        super().on_response_complete()
        if self._is_awaiting_what_nobody_reads():
            self._await_request()
        if self.transport.get_write_buffer_size():
            self._await_writing()

    def pause_writing(self) -> None:
        """The client takes more slowly than we write."""
        super().pause_writing()
        self._await_writing()

    def resume_writing(self) -> None:
        """It has taken most of what waited."""
        super().resume_writing()
        self._stop_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self._stop_reading()
        super().connection_lost(exc)
        self._stop_writing()

    def send_400_response(self, msg: str) -> None:
        """What is no request, answered without a word of what was wrong with it."""
        del msg
        self._stop_reading()
        headers = {"content-type": "text/plain; charset=utf-8", **self.said, "connection": "close"}
        answer = h11.Response(status_code=400, headers=list(headers.items()), reason=b"Bad Request")
        try:
            for event in (answer, h11.Data(data=b"This is no request.\n"), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:  # an answer is under way already
            self.transport.abort()
            return
        self.transport.close()
        self._await_writing()

    # --- reading

    def _is_awaiting_headers(self) -> bool:
        return self.conn.their_state is h11.IDLE

    def _is_awaiting_what_nobody_reads(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # as uvicorn has it before the first request
        is_answered = cycle is not None and cycle.response_complete
        return is_answered and self.conn.their_state is h11.SEND_BODY

    def _await_request(self) -> None:
        if self._reading is None:
            self._reading = self.loop.call_later(self.header_deadline, self._not_sent)

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _not_sent(self) -> None:
        self._reading = None
        if not self.transport.is_closing():
            log.info("http_too_slow", what="request")
            self.transport.close()
            self._await_writing()

    # --- writing

    def _await_writing(self) -> None:
        self._stop_writing()
        self._writing = self.loop.call_later(self.write_deadline, self._not_taken)

    def _stop_writing(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def _not_taken(self) -> None:
        """Time is over: unless another answer is on its way by now, which has a time of its own."""
        self._writing = None
        cycle: RequestResponseCycle | None = self.cycle
        is_answered = cycle is None or cycle.response_complete
        waits = is_answered and self.transport.get_write_buffer_size() > 0
        if self.flow.write_paused or waits or self.transport.is_closing():
            log.info("http_too_slow", what="answer")
            self.transport.abort()
