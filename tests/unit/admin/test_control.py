"""The control socket from outside: who may use it, what it refuses, and that it survives bad input."""

import asyncio
import contextlib
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from relay.admin import wire
from relay.admin.client import ControlClient
from relay.admin.control import ControlOptions, ControlServer
from relay.admin.wire import ChangeRequest, ControlError, ListRequest, ListResult, Selection
from relay.core.errors import ProblemsError

ROOT = Path(__file__).parents[3]
NOBODY = 65534


@contextlib.asynccontextmanager
async def serving(desk, path, **options):
    server = ControlServer(ControlOptions(path=path, **options), desk.operations, desk.metrics)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def say(path, *lines):
    reader, writer = await asyncio.open_unix_connection(path, limit=1 << 24)
    answers = []
    try:
        for line in lines:
            writer.write(line)
            answers.append(orjson.loads(await asyncio.wait_for(reader.readline(), 60)))
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return answers


async def test_requests_and_results_travel_whole(desk, tmp_path):
    await desk.keep("m1")
    path = tmp_path / "control.sock"
    async with serving(desk, path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660

        def ask():
            with ControlClient(path) as client:
                listed = client.ask(ListRequest(), ListResult)
                with pytest.raises(ControlError, match="nothing in the queue matches"):
                    client.ask(ChangeRequest(op="hold", where=Selection(ids=("m9",))), wire.ChangeResult)
                return listed, client.ask(ListRequest(limit=1), ListResult)

        first, second = await asyncio.to_thread(ask)
    assert [entry.id for entry in first.entries] == ["m1.0"]
    assert first == second
    assert not path.exists()


async def test_the_kernel_says_who_asks(desk, tmp_path):
    await desk.keep("m1")
    path = tmp_path / "control.sock"
    async with serving(desk, path):
        await say(path, b'{"op":"hold","where":{"ids":["m1"]}}\n')
    [event] = await desk.audit()
    assert event.facts["uid"] == os.getuid()
    assert ("postern_operator_actions_total", {"operation": "hold", "result": "ok"}, 1) in desk.metrics.counted


async def ask_as(uid, gid, path):
    """Ask from a process of another user, as far as the socket's mode allows."""
    code = (
        "import os, socket, sys\n"
        f"os.setgroups([]); os.setgid({gid}); os.setuid({uid})\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "try: s.sendall(b'{}\\n')\n"
        "except BrokenPipeError: print(end='')\n"
        "print(s.makefile().readline())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(path), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, error = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, error
    return orjson.loads(out)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
async def test_users_are_let_in_by_name_or_group_alone(desk):
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o755)  # noqa: ASYNC240  nothing else runs in this loop
        path = Path(directory) / "control.sock"
        for options, allowed in (
            ({}, False),
            ({"operators": ("root",)}, False),
            ({"operators": ("nobody",)}, True),
            ({"operator_groups": ("root", "no-such-group")}, False),
            ({"operator_groups": ("nogroup",)}, True),
        ):
            async with serving(desk, path, **options):
                path.chmod(0o666)  # the mode is the first gate; here the second is looked at
                answer = await ask_as(NOBODY, NOBODY, path)
            assert ("is not an operator" not in answer["error"]) is allowed, options
        async with serving(desk, path, operator_groups=("nogroup",)):
            assert path.stat().st_gid == NOBODY
        async with serving(desk, path, operators=("nobody",), operator_groups=("root",)) as server:
            path.chmod(0o666)
            assert "is not an operator" not in (await ask_as(NOBODY, NOBODY, path))["error"]
            server.admit((), ("nogroup",))
            assert path.stat().st_gid == NOBODY
            assert "is not an operator" not in (await ask_as(NOBODY, NOBODY, path))["error"]
            server.admit(("root",), ())
            assert "is not an operator" in (await ask_as(NOBODY, NOBODY, path))["error"], "shut out without a restart"
    denied = {"operation": "connect", "result": "denied"}
    assert desk.metrics.counted.count(("postern_operator_actions_total", denied, 1)) == 4


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"nonsense\n", "not JSON"),
        (b"{}\n", "op"),
        (b'{"op":"drop"}\n', "op"),
        (b'{"op":"list","secret":1}\n', "secret"),
        (b'{"op":"list","limit":0}\n', "limit"),
        (b'{"op":"unseal","id":"m1","reason":""}\n', "reason"),
        (b'{"op":"remove","where":{"ids":["m1"]}}\n', "needs a reason"),
        (b'{"op":"release","where":{}}\n', "needs ids or a filter"),
    ],
)
async def test_bad_requests_get_one_clear_error_and_the_next_is_served(desk, tmp_path, line, complaint):
    path = tmp_path / "control.sock"
    async with serving(desk, path):
        bad, good = await say(path, line, b'{"op":"stats"}\n')
    assert not bad["ok"]
    assert complaint in bad["error"]
    assert good["ok"]


async def test_a_request_is_bounded(desk, tmp_path):
    path = tmp_path / "control.sock"
    async with serving(desk, path):
        [answer] = await say(path, b'{"op":"' + b"x" * (2 * wire.MAX_REQUEST))
        assert "at most" in answer["error"]
        assert (await say(path, b'{"op":"stats"}\n'))[0]["ok"]


async def test_silent_connections_end_and_their_number_is_bounded(desk, tmp_path):
    path = tmp_path / "control.sock"
    async with serving(desk, path, idle=0.05):
        reader, writer = await asyncio.open_unix_connection(path)
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()
    async with serving(desk, path, connections=1):
        held = await asyncio.open_unix_connection(path)
        held[1].write(b'{"op":"stats"}\n')
        await held[0].readline()
        reader, writer = await asyncio.open_unix_connection(path)
        assert b"too many connections" in await asyncio.wait_for(reader.read(), 60)
        writer.close()
        held[1].close()


async def test_who_never_reads_an_answer_costs_its_memory_no_longer_than_the_silence_allowed(
    desk, tmp_path, monkeypatch
):
    transports = []
    serve = ControlServer._serve

    async def watched(self, reader, writer):
        transports.append(writer.transport)
        await serve(self, reader, writer)

    monkeypatch.setattr(ControlServer, "_serve", watched)
    monkeypatch.setattr(wire, "write_result", lambda _: b"x" * (8 << 20) + b"\n")
    path = tmp_path / "control.sock"
    async with serving(desk, path, idle=0.2) as server:
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            client.connect(str(path))
            await asyncio.get_running_loop().sock_sendall(client, b'{"op":"stats"}\n')
            async with asyncio.timeout(60):
                while not transports or server._tasks:  # noqa: ASYNC110  what ends a connection sets no event here
                    await asyncio.sleep(0.01)
                while transports[0].get_write_buffer_size():  # noqa: ASYNC110  as above
                    await asyncio.sleep(0.01)


async def test_a_fault_of_ours_shows_no_traceback(desk, tmp_path):
    async def fail():
        raise RuntimeError("planted-secret")

    desk.store.stats = fail
    path = tmp_path / "control.sock"
    async with serving(desk, path):
        [answer] = await say(path, b'{"op":"stats"}\n')
    assert answer == {"ok": False, "error": "a fault in Postern; its log says more"}


async def test_an_operation_that_hangs_is_given_up(desk, tmp_path):
    desk.store.stats = asyncio.Event().wait
    path = tmp_path / "control.sock"
    async with serving(desk, path, deadline=0.02):
        [answer] = await say(path, b'{"op":"stats"}\n')
    assert "too long" in answer["error"]


async def test_a_refused_user_reads_why(desk, tmp_path, monkeypatch):
    monkeypatch.setattr(ControlServer, "_may", lambda *_: False)
    path = tmp_path / "control.sock"

    def ask():
        with ControlClient(path) as client, pytest.raises(ControlError, match="is not an operator"):
            client.ask(ListRequest(), ListResult)

    async with serving(desk, path):
        for _ in range(5):
            await asyncio.to_thread(ask)


async def test_a_stale_socket_is_replaced_and_a_living_one_is_not(desk, tmp_path):
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serving(desk, path):
        with pytest.raises(ProblemsError, match="another process answers"):
            async with serving(desk, path):
                pass
        assert (await say(path, b'{"op":"stats"}\n'))[0]["ok"]


async def test_a_path_that_cannot_be_used_is_one_clear_error(desk, tmp_path):
    for path in (tmp_path / "none" / "control.sock", tmp_path / ("x" * 200)):
        with pytest.raises(ProblemsError, match="cannot listen"):
            async with serving(desk, path):
                pass


def test_nobody_listening_is_said_plainly(tmp_path):
    with pytest.raises(ControlError, match="no Postern is listening"):
        ControlClient(tmp_path / "control.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))
    with pytest.raises(ControlError, match="no Postern is listening"):
        ControlClient(tmp_path / "dead.sock")


async def test_answers_that_cannot_be_read_are_said_plainly(tmp_path):
    answers = [b"", b"nonsense\n", b"{}\n", b'{"ok":true,"result":{"x":1}}\n', b"[]\n"]

    async def serve(reader, writer):
        await reader.readline()
        writer.write(answers.pop(0))
        writer.close()

    server = await asyncio.start_unix_server(serve, tmp_path / "s")

    def ask():
        with ControlClient(tmp_path / "s") as client, pytest.raises(ControlError):
            client.ask(ListRequest(), ListResult)

    for _ in range(5):
        await asyncio.to_thread(ask)
    assert answers == []
    server.close()


def test_the_client_needs_no_loop_and_little_time():
    code = "import relay.admin.client, sys; assert 'starlette' not in sys.modules and 'asyncio' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


async def test_an_open_connection_is_judged_at_each_request(desk, tmp_path, monkeypatch):
    path = tmp_path / "control.sock"
    async with serving(desk, path) as server:
        reader, writer = await asyncio.open_unix_connection(path)
        request = orjson.dumps({"op": "stats"}) + b"\n"
        writer.write(request)
        assert orjson.loads(await asyncio.wait_for(reader.readline(), 60))["ok"]
        monkeypatch.setattr(server, "_may", lambda _operator: False)
        writer.write(request)
        assert "is not an operator" in orjson.loads(await asyncio.wait_for(reader.readline(), 60))["error"]
        assert await asyncio.wait_for(reader.read(), 60) == b"", "and the connection ends"
        writer.close()
        await writer.wait_closed()
