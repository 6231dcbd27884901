"""Metrics and health over real HTTP."""

import asyncio
import contextlib
import json

import prometheus_client
import pytest

from relay.admin.http import CONTENT_TYPE, HttpOptions, HttpServer, application
from relay.core.errors import ProblemsError
from relay.portal.deadlines import Deadlines


async def fine():
    return ""


async def render():
    return b"postern_up 1\n"


@contextlib.asynccontextmanager
async def serving(app, **options):
    server = HttpServer(HttpOptions(port=0, **options), app)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def get(port, path):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode().lower(), body


async def test_metrics_and_liveness():
    async with serving(application(render, {})) as server:
        status, head, body = await get(server.port, "/metrics")
        assert (status, body) == (200, b"postern_up 1\n")
        assert f"content-type: {CONTENT_TYPE}" in head
        assert "server:" not in head
        assert (await get(server.port, "/livez"))[::2] == (200, b"ok\n")
        assert (await get(server.port, "/"))[0] == 404


def test_the_content_type_is_what_prometheus_client_renders():
    assert prometheus_client.CONTENT_TYPE_LATEST == CONTENT_TYPE


async def test_ready_only_when_every_check_is_right():
    wrong = ["the disk is full"]

    async def disk():
        return wrong[0]

    async with serving(application(render, {"store": fine, "disk": disk})) as server:
        status, _, body = await get(server.port, "/readyz")
        assert status == 503
        assert json.loads(body) == {"ready": False, "checks": {"store": "ok", "disk": "the disk is full"}}
        wrong[0] = ""
        assert (await get(server.port, "/readyz"))[0] == 200


async def test_checks_that_hang_or_fail_are_failed_checks():
    async def broken():
        raise RuntimeError("planted-secret")

    checks = {"dns": asyncio.Event().wait, "store": broken}
    async with serving(application(render, checks, deadline=0.02)) as server:
        status, _, body = await get(server.port, "/readyz")
    assert status == 503
    assert json.loads(body)["checks"]["dns"] == "no answer within 0.02 s"
    assert b"planted" not in body


async def test_a_fault_shows_no_traceback():
    async def broken():
        raise RuntimeError("planted-secret")

    async with serving(application(broken, {})) as server:
        assert (await get(server.port, "/metrics"))[::2] == (500, b"internal error\n")


async def test_a_taken_port_is_one_clear_error():
    async with serving(application(render, {})) as server:
        other = HttpServer(HttpOptions(port=server.port), application(render, {}))
        with pytest.raises(ProblemsError, match="cannot listen for metrics and health"):
            await other.start()


async def test_a_client_that_sends_its_headers_slowly_is_let_go():
    class Short(Deadlines):
        header_deadline = 0.05

    server = HttpServer(HttpOptions(port=0), application(render, {}), Short)
    await server.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: ")
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()
    finally:
        await server.stop()


async def test_the_protocol_with_deadlines_serves_as_the_other():
    server = HttpServer(HttpOptions(port=0), application(render, {}), Deadlines)
    await server.start()
    try:
        assert (await get(server.port, "/metrics"))[::2] == (200, b"postern_up 1\n")
    finally:
        await server.stop()
