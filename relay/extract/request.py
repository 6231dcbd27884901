"""A request to the helper: the client's name, and the message as a descriptor of memory that is not copied on the way.

A message comes as a memory file (memfd_create(2)), sent beside the first octet of the request (unix(7), SCM_RIGHTS).
The worker writes it once, the helper hands the descriptor on to a job, the job reads it once: through two sockets a
message of a megabyte would be copied four times, and the helper would wake for every piece of it.
"""

import asyncio
import os
import socket
from typing import Final, Self

from relay.extract.wire import LENGTH, frame

MAX_CLIENT: Final = 1024
"""Octets of a client's name in a request."""


class MemoryFile:
    """Memory with a descriptor, to be filled and sent; a context that closes it."""

    def __init__(self) -> None:
        """Make it.

        Raises:
            OSError: no descriptor is left.
        """
        self.descriptor = os.memfd_create("postern-mail", os.MFD_CLOEXEC)

    def write(self, piece: memoryview) -> None:
        """Append a piece.

        Raises:
            OSError: no memory is left.
        """
        while piece:
            piece = piece[os.write(self.descriptor, piece) :]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


def read_memory_file(descriptor: int) -> bytes:
    """All that a memory file holds.

    Raises:
        OSError: it cannot be read.
    """
    size = os.fstat(descriptor).st_size
    content = os.pread(descriptor, size, 0)
    while len(content) < size and (piece := os.pread(descriptor, size - len(content), len(content))):
        content += piece
    return content


def send_request(link: socket.socket, client: bytes, descriptor: int) -> None:
    """Send a request whole: it is small, and the first thing on its connection or after the last reply.

    Raises:
        OSError: the peer is gone.
    """
    request = frame(client[:MAX_CLIENT])
    if socket.send_fds(link, [request], [descriptor]) != len(request):
        raise BrokenPipeError


class Request:
    """A request that comes in pieces; :meth:`close` it.

    Attributes:
        client: the client's name, once all of the request has come.
    """

    def __init__(self) -> None:
        self.client: bytes | None = None
        self._data = b""
        self._descriptors: list[int] = []

    @property
    def descriptor(self) -> int:
        """The message's.

        Raises:
            ValueError: there is not one, but none or several.
        """
        (descriptor,) = self._descriptors
        return descriptor

    def take(self, link: socket.socket) -> bool:
        """Take what has come; whether there is more to come.

        Raises:
            OSError: the connection is broken, or has nothing now.
            EOFError: it has ended.
            ValueError: what came is no request.
        """
        data, descriptors, _, _ = socket.recv_fds(link, LENGTH + MAX_CLIENT, 1, socket.MSG_CMSG_CLOEXEC)
        self._descriptors += descriptors
        self._data += data
        if not data:
            raise EOFError
        size = LENGTH + int.from_bytes(self._data[:LENGTH], "big")
        if len(self._data) < LENGTH:
            return True
        if size > LENGTH + MAX_CLIENT or len(self._data) > size:
            raise ValueError("a request that is too long")
        if len(self._data) == size:
            self.client = self._data[LENGTH:]
        return self.client is None

    def close(self) -> None:
        """Let go of the message."""
        while self._descriptors:
            os.close(self._descriptors.pop())


async def receive(link: socket.socket, request: Request) -> None:
    """Take a request whole.

    Raises:
        OSError, EOFError, ValueError: see :meth:`Request.take`.
    """
    more = True
    while more:
        try:
            more = request.take(link)
        except BlockingIOError:
            await _readable(link)


async def _readable(link: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    has_come = asyncio.Event()
    loop.add_reader(link, has_come.set)
    try:
        await has_come.wait()
    finally:
        loop.remove_reader(link)


async def receive_exactly(loop: asyncio.AbstractEventLoop, link: socket.socket, size: int) -> bytes:
    """So many octets.

    Raises:
        EOFError: the peer sent fewer.
        OSError: the connection is broken.
    """
    data = bytearray()
    while len(data) < size:
        piece = await loop.sock_recv(link, min(size - len(data), 1 << 20))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)
