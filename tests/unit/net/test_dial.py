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


async def failure(port, deadline=60.0):
    with pytest.raises(HostError) as caught:
        await dial("127.0.0.1", port, host="mx.example", source=None, deadline=deadline)
    return caught.value.failure.detail


@LOOPS
def test_it_stands_and_can_be_used_by_a_transport(loop):
    async def use():
        listener, port = listening()
        with listener:
            sock = await dial("127.0.0.1", port, host="mx.example", source="127.0.0.9", deadline=60.0)
            accepted, (source, _) = listener.accept()
            with accepted:
                _, writer = await asyncio.open_connection(sock=sock)
                writer.write(b"x")
                await writer.drain()
                said = await asyncio.to_thread(accepted.recv, 1)
                writer.close()
                await writer.wait_closed()
        return said, source

    assert run(loop, use()) == (b"x", "127.0.0.9")


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
