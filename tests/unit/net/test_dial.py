"""A TCP connection to a peer: it stands, it is refused, or it does not come in time."""

import asyncio
import contextlib
import socket

import pytest
import uvloop

from relay.net.handshake import HostError, dial

LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])


def listening(backlog=16):
    listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
    return listener, listener.getsockname()[1]


def run(loop, coroutine):
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(coroutine)


class Ear(asyncio.Protocol):
    """Notes what it hears, and that the connection ended."""

    def __init__(self):
        self.heard = b""
        self.ended = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        self.heard += data

    def connection_lost(self, exc):
        self.ended.set_result(exc)


@contextlib.asynccontextmanager
async def dialled():
    """A listener, and the link to it with its ear."""
    listener, port = listening()
    with listener:
        ear = Ear()
        yield listener, await dial("127.0.0.1", port, ear, host="mx.example", source="127.0.0.9", deadline=60.0), ear


async def failure(port, deadline=60.0):
    with pytest.raises(HostError) as caught:
        await dial("127.0.0.1", port, Ear(), host="mx.example", source=None, deadline=deadline)
    return caught.value.failure.detail


@LOOPS
def test_it_stands_and_carries_words_both_ways(loop):
    async def use():
        async with dialled() as (listener, link, ear):
            accepted, (source, _) = listener.accept()
            with accepted:
                link.write(b"x")
                said = await asyncio.to_thread(accepted.recv, 1)
                accepted.sendall(b"y")
                accepted.shutdown(socket.SHUT_WR)
                assert await asyncio.wait_for(ear.ended, 60) is None
        return said, ear.heard, source, link.is_closing

    assert run(loop, use()) == (b"x", b"y", "127.0.0.9", True)


@LOOPS
def test_it_says_where_it_comes_from(loop):
    async def use():
        async with dialled() as (_, link, ear):
            source = link.source
            link.abort()
            await asyncio.wait_for(ear.ended, 60)
        return source, link.source

    assert run(loop, use()) == ("127.0.0.9", "")


@LOOPS
def test_a_port_where_nobody_listens_refuses(loop):
    listener, port = listening()
    listener.close()
    assert run(loop, failure(port)) == "connecting failed: connection refused"


@LOOPS
def test_a_server_that_takes_no_connection_is_given_up(loop):
    listener, port = listening(backlog=0)
    with listener, contextlib.ExitStack() as stack:
        for _ in range(4):  # more than it holds for its owner to accept: the next is not answered
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        assert run(loop, failure(port, deadline=0.05)) == "connecting took too long"
