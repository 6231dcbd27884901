"""The portal's server from a socket: TLS, PROXY headers from named proxies alone, and slow clients that are let go."""

import asyncio
import contextlib
import ssl
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from relay.core.errors import ProblemsError
from relay.demo.authority import Authority
from relay.portal.middleware import HEADERS
from relay.portal.proxyheader import Proxied, ProxyHeaderError, read_header
from relay.portal.server import PortalServer, ServerOptions

GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n"
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def v2(command=0x21, family=0x11, body=None):
    body = bytes([192, 0, 2, 7, 198, 51, 100, 1]) + struct.pack("!HH", 40000, 443) if body is None else body
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(body)) + body


async def whoami(request):
    return PlainTextResponse(f"{request.client.host} {request.url.scheme}")


class Running:
    def __init__(self, context=None, app=None, **options):
        app = app or Starlette(routes=[Route("/", whoami)])
        self.server = PortalServer(ServerOptions(port=0, **options), app, context)

    async def __aenter__(self):
        await self.server.start()
        return self

    async def __aexit__(self, *_):
        await self.server.stop()

    async def say(self, *pieces, context=None):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port, ssl=context)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()


def body(answer):
    return answer.partition(b"\r\n\r\n")[2]


async def test_it_serves_and_says_nothing_of_what_it_is():
    async with Running() as running:
        answer = await running.say(GET)
    assert body(answer) == b"127.0.0.1 http"
    assert b"server:" not in answer.lower()


async def test_it_speaks_tls_by_itself(tmp_path):
    authority = Authority(tmp_path)
    files = authority.issue("secure.clinic.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    trusting = ssl.create_default_context(cafile=authority.root)
    trusting.check_hostname = False
    async with Running(context) as running:
        assert body(await running.say(GET, context=trusting)) == b"127.0.0.1 https"


@pytest.mark.parametrize("header", [V1, v2()])
async def test_a_proxy_says_whom_it_serves(header):
    async with Running(proxies=("127.0.0.0/8",)) as running:
        assert body(await running.say(header + GET)) == b"192.0.2.7 http"
        assert body(await running.say(header[:9], header[9:], GET)) == b"192.0.2.7 http"


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", v2(command=0x20), v2(family=0x00, body=b"")])
async def test_a_proxy_may_speak_for_itself(header):
    async with Running(proxies=("127.0.0.0/8",)) as running:
        assert body(await running.say(header + GET)) == b"127.0.0.1 http"


@pytest.mark.parametrize(
    "header", [b"", b"PROXY TCP4 nobody 1.2.3.4 1 2\r\n", b"PROXY " + b"x" * 200, v2(command=0x11), v2(body=b"ab")]
)
async def test_without_a_right_header_nothing_is_served(header):
    async with Running(proxies=("127.0.0.0/8",)) as running:
        assert await running.say(header + GET) == b""


async def test_who_is_no_proxy_is_not_heard():
    async with Running(proxies=("192.0.2.0/24",)) as running:
        assert await running.say(V1 + GET) == b""


async def test_one_client_leaves_room_for_others():
    async with Running(connections_per_client=2) as running, contextlib.AsyncExitStack() as stack:
        held = [await asyncio.open_connection("127.0.0.1", running.server.port) for _ in range(2)]
        for _, writer in held:
            stack.callback(writer.close)
        assert await running.say(GET) == b"", "one too many"
        held[0][1].close()
        await held[0][1].wait_closed()
        async with asyncio.timeout(60):
            while not (answer := await running.say(GET)):  # noqa: ASYNC110  the server hears of the end when it does
                await asyncio.sleep(0.01)
        assert body(answer).startswith(b"127.0.0.1")


async def test_ipv4_clients_of_a_server_on_both_families_are_told_apart():
    """The kernel writes their addresses as IPv6: all would be of one prefix, and no proxy of IPv4 would be known."""
    async with Running(address="::", connections_per_client=1) as running:
        _, writer = await asyncio.open_connection("127.0.0.2", running.server.port, local_addr=("127.0.0.2", 0))
        assert body(await running.say(GET)).endswith(b"127.0.0.1 http")
        writer.close()
    async with Running(address="::", proxies=("127.0.0.0/8",)) as running:
        assert body(await running.say(V1 + GET)) == b"192.0.2.7 http"


async def test_a_proxy_speaks_for_many():
    async with Running(connections_per_client=1, speakers=("127.0.0.0/8",)) as running:
        _, writer = await asyncio.open_connection("127.0.0.1", running.server.port)
        assert body(await running.say(GET)).startswith(b"127.0.0.1")
        writer.close()


async def test_headers_that_trickle_in_have_a_deadline():
    async with Running(header_deadline=0.05) as running, asyncio.timeout(60):
        assert await running.say(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ") == b""
        assert await running.say(b"") == b""


async def test_a_handshake_that_does_not_come_has_a_deadline(tmp_path):
    async with Running(server_context(tmp_path), handshake_deadline=0.05) as running:
        for piece in (b"", b"\x16\x03\x01"):
            async with asyncio.timeout(60):
                assert await running.say(piece) == b""


async def test_what_is_left_of_a_body_after_its_answer_has_a_deadline():
    """Each octet of it would begin the time of an idle connection anew."""
    async with Running(header_deadline=1.0) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.server.port)
        writer.write(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nx")
        async with asyncio.timeout(60):
            await drip(reader, writer)
        writer.close()


async def drip(reader, writer):
    """Send an octet whenever there is a turn, until the server has had enough."""
    taken = asyncio.create_task(reader.read())
    while not taken.done():
        with contextlib.suppress(OSError):
            writer.write(b"x")
            await writer.drain()
        await asyncio.sleep(0.001)
    with contextlib.suppress(OSError):
        assert b"404" in taken.result()


class Taken:
    """An application whose answer has no end, or is large; ``left`` is set when its client is gone."""

    def __init__(self, *, endless):
        self.endless, self.left, self.served = endless, asyncio.Event(), 0

    async def __call__(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if not self.endless:
            await send({"type": "http.response.body", "body": bytes(16 << 20), "more_body": False})
            return
        stream = asyncio.create_task(self._stream(send))
        while (await receive())["type"] != "http.disconnect":
            pass
        stream.cancel()
        self.left.set()

    async def _stream(self, send):
        while True:
            await send({"type": "http.response.body", "body": bytes(64 * 1024), "more_body": True})
            self.served += 1


def server_context(directory):
    files = Authority(directory).issue("secure.clinic.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    return context


@pytest.mark.parametrize("tls", [False, True])
async def test_a_client_that_does_not_take_its_answer_is_let_go(tmp_path, tls):
    app = Taken(endless=True)
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    async with Running(server_context(tmp_path) if tls else None, app=app, write_deadline=0.2) as running:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", running.server.port, ssl=trusting if tls else None, limit=1024
        )
        writer.write(GET)
        async with asyncio.timeout(60):
            await app.left.wait()
            while running.server._server.server_state.connections:  # noqa: ASYNC110  its end is heard when it is
                await asyncio.sleep(0.01)
        assert app.served, "it had an answer"
        writer.close()


async def test_what_is_left_of_an_answer_has_a_deadline_too():
    """All of it is written, as far as the application knows; it waits in the server."""
    app = Taken(endless=False)
    async with Running(app=app, write_deadline=0.2, high_water=64 << 20) as running:
        _, writer = await asyncio.open_connection("127.0.0.1", running.server.port, limit=1024)
        writer.write(GET.replace(b"Connection: close\r\n", b""))
        async with asyncio.timeout(60):
            state = running.server._server.server_state
            while not state.total_requests or state.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        writer.close()


async def test_a_client_that_takes_its_answer_gets_all_of_it():
    async with Running(app=Taken(endless=False)) as running:
        answer = body(await running.say(GET))
    assert answer.endswith(b"\r\n0\r\n\r\n")
    assert answer.count(0) == 16 << 20


async def test_headers_have_a_size():
    async with Running() as running:
        answer = await running.say(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 100_000)
    assert answer.startswith(b"HTTP/1.1 400") or answer == b""


def headers_of(answer):
    lines = answer.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    return dict(line.lower().split(": ", 1) for line in lines)


@pytest.mark.parametrize(
    "garbage",
    [
        b"nonsense\r\n\r\n",
        b"GET / FTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\0" * 50 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_request_gets_an_answer_as_safe_as_all_others(garbage, caplog):
    async with Running() as running:
        answer = await running.say(garbage)
    assert answer.startswith(b"HTTP/1.1 400")
    for name, value in HEADERS.items():
        assert headers_of(answer)[name] == value.lower()
    assert body(answer) == b"This is no request.\n"
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_garbage_after_the_beginning_of_an_answer_ends_the_connection_quietly(caplog):
    app = Taken(endless=True)
    async with Running(app=app) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.server.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        async with asyncio.timeout(60):
            await reader.readuntil(b"200")
            writer.write(b"no chunk\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                while await reader.read(65536):
                    pass
            await app.left.wait()
        writer.close()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_beyond_the_limit_of_connections_people_are_asked_to_come_back():
    async with Running(connections=2) as running:
        _, writer = await asyncio.open_connection("127.0.0.1", running.server.port)
        async with asyncio.timeout(60):
            while not (answer := await running.say(GET)).startswith(b"HTTP/1.1 503"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        for name, value in HEADERS.items():
            assert headers_of(answer)[name] == value.lower()
        assert headers_of(answer)["retry-after"] == "10"
        writer.close()


async def test_a_port_that_is_taken_is_told():
    async with Running() as running:
        taken = PortalServer(ServerOptions(port=running.server.port), Starlette(), None)
        with pytest.raises(ProblemsError, match="portal cannot listen"):
            await taken.start()


# --- the header by itself


@pytest.mark.parametrize("header", [V1, v2(), b"PROXY UNKNOWN\r\n", v2(command=0x20)])
def test_a_header_is_read_whole_or_not_at_all_however_it_comes(header):
    whole = read_header(header + b"GET /")
    assert whole is not None
    assert whole.size == len(header)
    for end in range(len(header)):
        assert read_header(header[:end]) is None


def test_ipv6_of_both_versions():
    address = bytes.fromhex("20010db8000000000000000000000001")
    header = v2(family=0x21, body=address * 2 + struct.pack("!HH", 5, 6) + b"tlv")
    assert read_header(header) == Proxied(len(header), ("2001:db8::1", 5))
    assert read_header(b"PROXY TCP6 2001:db8::1 ::1 5 6\r\n").client == ("2001:db8::1", 5)


@given(
    st.binary(max_size=300)
    | st.binary(max_size=200).map(lambda tail: b"PROXY " + tail)
    | st.binary(max_size=200).map(lambda tail: SIGNATURE + tail)
)
def test_no_octets_do_more_than_be_refused(data):
    try:
        found = read_header(data)
    except ProxyHeaderError:
        return
    assert found is None or found.size <= len(data)
