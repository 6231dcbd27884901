"""The helper process from outside: requests over its socket, and jobs that crash, hang or eat memory."""

import asyncio
import contextlib
import os
import signal
import socket
import stat
import sys
from dataclasses import replace

import pytest

from relay.core.phi import Phi
from relay.extract.client import ScanService, ScanServiceLimits
from relay.extract.engine import ScanEngine, load_judge
from relay.extract.helper import ExtractLimits, serve
from relay.extract.request import MemoryFile
from relay.extract.wire import decode_report, frame, rekey
from relay.scan.tuning import parse_tuning
from tests.support import documents
from tests.support.laborious import laborious
from tests.unit.scan.test_engine import mail

CONTENT = b"From: a@b.example\r\nSubject: Your result\r\n\r\nJane Roe, DOB 03/04/1961: HbA1c 8.1 %\r\n"


def digest(plain):
    return "keyed-" + plain


@pytest.fixture(scope="module")
def engine():
    return ScanEngine(load_judge(digest))


@contextlib.asynccontextmanager
async def helper(path, limits=None):
    ready = asyncio.Event()
    task = asyncio.create_task(serve(path, limits or ExtractLimits(), ready))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def in_helper(engine, path, **limits):
    return ScanService(engine, path, digest, ScanServiceLimits(inline=0, **limits))


@pytest.fixture(autouse=True)
def stay_in_this_network(monkeypatch):
    # The helper runs inside the test process here, which must keep its network and privileges.
    monkeypatch.setattr("relay.extract.sandbox.leave_network", lambda: None)
    monkeypatch.setattr("relay.extract.sandbox.no_new_privileges", lambda: None)


async def test_the_helper_finds_what_a_scan_on_the_spot_finds(engine, tmp_path):
    async with helper(tmp_path / "s"):
        assert await in_helper(engine, tmp_path / "s").scan(CONTENT) == engine.scan(CONTENT)


async def test_what_is_tuned_for_a_client_holds_in_the_helper_and_on_the_spot(tmp_path):
    tuning = parse_tuning(b"clients: {lab: {weights: {thresholds: {likely: 0.9, certain: 1}}}}", "scan.yaml")
    engine = ScanEngine(load_judge(digest, tuning=tuning))
    everybody, lab = engine.scan(CONTENT), engine.scan(CONTENT, "lab")
    assert everybody.verdict.phi > lab.verdict.phi
    async with helper(tmp_path / "s", ExtractLimits(jobs=1, seconds=60.0, cpu_seconds=60, tuning=tuning)):
        service = in_helper(engine, tmp_path / "s", deadline=90.0)
        assert [await service.scan(CONTENT, client) for client in ("lab", "", "other", "é" * 2000)] == [
            lab, everybody, everybody, everybody,
        ]  # fmt: skip
    on_the_spot = ScanService(engine, tmp_path / "none", digest)
    assert await on_the_spot.scan(CONTENT, "lab") == lab
    without = await in_helper(engine, tmp_path / "none").scan(CONTENT, "lab")
    assert without.verdict.phi == lab.verdict.phi


async def test_the_socket_is_private_and_is_removed(engine, tmp_path):
    path = tmp_path / "s"
    async with helper(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


async def test_a_small_message_needs_no_helper(engine, tmp_path):
    service = ScanService(engine, tmp_path / "none", digest)
    assert (await service.scan(CONTENT)).verdict == engine.scan(CONTENT).verdict


async def test_without_a_helper_the_rest_is_judged_and_the_verdict_is_never_none(engine, tmp_path):
    report = await in_helper(engine, tmp_path / "none").scan(b"Subject: Hello\r\n\r\nLunch?\r\n")
    assert report.verdict.counts() == {"unreadable: crash": 1}
    assert report.verdict.phi >= Phi.POSSIBLE
    assert report.subject == "Hello"


async def test_an_attachment_that_the_helper_never_saw_is_unreadable_for_that_reason(engine, tmp_path):
    content = mail("Patient Jane Roe, DOB 03/04/1961: asthma", **{"a.pdf": documents.pdf(["x"])})
    report = await ScanService(engine, tmp_path / "none", digest).scan(content)
    assert report.attachments[0].unreadable == "crash"
    assert "unreadable: deferred" not in report.verdict.counts()
    assert report.verdict.phi >= Phi.LIKELY


async def test_a_silent_helper_is_a_timeout(engine, tmp_path):
    gone = asyncio.Event()

    async def silent(reader, writer):
        while await reader.read(65536):
            pass
        writer.close()
        gone.set()

    server = await asyncio.start_unix_server(silent, tmp_path / "s")
    async with server:
        report = await in_helper(engine, tmp_path / "s", deadline=0.05).scan(CONTENT)
        await gone.wait()
    assert "unreadable: timeout" in report.verdict.counts()


@pytest.mark.parametrize("reply", [b"", b"\xff\xff\xff\xff", frame(b"{}"), frame(b"rubbish"), frame(b'{"verdict":[]}')])
async def test_a_helper_that_answers_nonsense_is_a_crash(engine, tmp_path, reply):
    async def nonsense(reader, writer):
        writer.write(reply)
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(nonsense, tmp_path / "s")
    async with server:
        report = await in_helper(engine, tmp_path / "s").scan(CONTENT)
    assert "unreadable: crash" in report.verdict.counts()


class Bad:
    """An engine whose jobs do what a parser's bug would do."""

    def __init__(self, real):
        self.real = real

    def scan(self, content, client):
        if b"CRASH" in content:
            os.kill(os.getpid(), signal.SIGKILL)
        if b"HANG" in content:
            signal.pause()
        if b"SPIN" in content:
            while True:
                pass
        if b"MEMORY" in content:
            return bytearray(1 << 40)
        return self.real.scan(content, client)


@pytest.mark.parametrize(
    ("trick", "limits", "reason"),
    [
        (b"CRASH", {}, "crash"),
        (b"HANG", {"seconds": 0.2}, "timeout"),
        (b"SPIN", {"cpu_seconds": 1, "seconds": 90.0}, "crash"),
        (b"MEMORY", {}, "memory"),
    ],
)
async def test_a_job_that_goes_wrong_costs_itself_only(engine, tmp_path, monkeypatch, trick, limits, reason):
    monkeypatch.setattr("relay.extract.helper.ScanEngine", lambda *parts: Bad(ScanEngine(*parts)))
    async with helper(tmp_path / "s", ExtractLimits(jobs=1, **limits)):
        service = in_helper(engine, tmp_path / "s", deadline=90.0)
        report = await service.scan(CONTENT + trick)
        assert f"unreadable: {reason}" in report.verdict.counts()
        assert (await service.scan(CONTENT)).verdict == engine.scan(CONTENT).verdict


async def test_an_over_long_request_is_refused_unread(engine, tmp_path):
    async with helper(tmp_path / "s", ExtractLimits(content=10)):
        report = await in_helper(engine, tmp_path / "s").scan(CONTENT)
    assert "unreadable: size" in report.verdict.counts()


class Nosy:
    """An engine that tells which descriptors are within its reach."""

    def __init__(self, real):
        self.real = real

    def scan(self, content, client):
        held = 0
        for number in range(3, 4096):
            with contextlib.suppress(OSError):
                os.fstat(number)
                held += 1
        return replace(self.real.scan(content, client), subject=str(held))


async def test_a_job_holds_nothing_but_its_own_line(engine, tmp_path, monkeypatch):
    """Forked while others wait, it has neither their messages nor their connections, nor another job's."""
    monkeypatch.setattr("relay.extract.helper.ScanEngine", lambda *parts: Nosy(ScanEngine(*parts)))
    limits = ExtractLimits(jobs=2, seconds=60.0, cpu_seconds=60, request_seconds=60.0)
    async with helper(tmp_path / "s", limits):
        service = in_helper(engine, tmp_path / "s", deadline=90.0)
        with socket.socket(socket.AF_UNIX) as waiting, MemoryFile() as file:
            waiting.connect(str(tmp_path / "s"))
            socket.send_fds(waiting, [b"\0"], [file.descriptor])
            reports = await asyncio.gather(*(service.scan(CONTENT) for _ in range(4)))
    assert [report.subject for report in reports] == ["1"] * 4


async def begun(path, octets, files):
    """A connection on which octets were sent, with so many descriptors of ``CONTENT``."""
    link = socket.socket(socket.AF_UNIX)
    link.connect(str(path))
    with MemoryFile() as file:
        file.write(memoryview(CONTENT))
        if octets:
            socket.send_fds(link, [octets], [file.descriptor] * files)
    link.setblocking(False)
    return await asyncio.open_unix_connection(sock=link)


@pytest.mark.parametrize(
    ("octets", "files"),
    [(b"", 0), (b"\0\0\0\0", 0), (frame(b"x" * 1025), 1), (frame(b"x") + b"y", 1), (b"\xff" * 4, 1), (b"\0\0", 1)],
)
async def test_what_is_no_request_is_given_up_and_the_next_is_served(engine, tmp_path, octets, files):
    async with helper(tmp_path / "s", ExtractLimits(jobs=1, seconds=60.0, cpu_seconds=60)):
        reader, writer = await begun(tmp_path / "s", octets, files)
        writer.write_eof()
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        assert (await in_helper(engine, tmp_path / "s", deadline=90.0).scan(CONTENT)) == engine.scan(CONTENT)


async def test_many_that_ask_at_once_wait_while_the_helper_is_busy(tmp_path):
    async with helper(tmp_path / "s", ExtractLimits(jobs=1, seconds=60.0, cpu_seconds=60)):
        with contextlib.ExitStack() as stack:
            for _ in range(120):  # it has no turn meanwhile to take one
                link = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
                link.connect(str(tmp_path / "s"))


async def test_a_request_may_come_octet_by_octet(engine, tmp_path):
    request = frame(b"lab")
    async with helper(tmp_path / "s", ExtractLimits(jobs=1, seconds=60.0, cpu_seconds=60)):
        reader, writer = await begun(tmp_path / "s", request[:1], 1)
        for octet in request[1:]:
            writer.write(bytes([octet]))
            await writer.drain()
        size = int.from_bytes(await reader.readexactly(4), "big")
        report = decode_report(await reader.readexactly(size))
        writer.close()
    assert rekey(report, digest) == engine.scan(CONTENT)


async def test_a_message_of_many_pieces_comes_whole(engine, tmp_path):
    content = CONTENT + b"and so on and on\r\n" * 200_000 + b"\r\nMRN: 4471829\r\n"
    limits = ExtractLimits(jobs=1, seconds=120.0, cpu_seconds=120, memory=1 << 36)  # beside all that other tests left
    async with helper(tmp_path / "s", limits):
        report = await in_helper(engine, tmp_path / "s", deadline=120.0).scan(content)
    assert {"date-of-birth", "mrn"} <= report.verdict.counts().keys()


async def test_a_message_that_finds_no_memory_is_told_so(engine, tmp_path, monkeypatch):
    def full(_descriptor):
        raise MemoryError

    monkeypatch.setattr("relay.extract.helper.read_memory_file", full)
    async with helper(tmp_path / "s", ExtractLimits(jobs=1, seconds=60.0, cpu_seconds=60)):
        report = await in_helper(engine, tmp_path / "s", deadline=90.0).scan(CONTENT)
    assert "unreadable: memory" in report.verdict.counts()


HELPER = """
import asyncio, os, pathlib, pwd, sys
from relay.extract.helper import ExtractLimits, serve
nobody = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
limits = ExtractLimits(uid=nobody and nobody.pw_uid, gid=nobody and nobody.pw_gid)
async def main():
    ready = asyncio.Event()
    serving = asyncio.create_task(serve(pathlib.Path(sys.argv[1]), limits, ready))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    print("ready" if not serving.done() else serving.exception(), flush=True)
    await serving
asyncio.run(main())
"""


@contextlib.asynccontextmanager
async def helper_process(path):
    """Started as in production: confined, and as root under another user."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HELPER, str(path), stdout=asyncio.subprocess.PIPE, cwd="/"
    )
    try:
        assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.terminate()
        await process.communicate()


async def test_a_confined_helper_still_reads_every_format(engine, tmp_path):
    async with helper_process(tmp_path / "s"):
        service = ScanService(engine, tmp_path / "s", digest)
        for make in (documents.pdf, documents.docx, documents.rtf, documents.doc):
            report = await service.scan(mail("See attached.", file=make(["Patient: Jane Roe", "MRN: 4471829, asthma"])))
            assert report.verdict.phi >= Phi.LIKELY, (make, report.verdict)
            assert not report.verdict.is_unreadable
        for data in (documents.dicom(), documents.hl7(), documents.cda(), documents.gz("日本 MRN".encode("shift-jis"))):
            report = await service.scan(mail("See attached.", file=data))
            assert not report.verdict.is_unreadable


async def test_findings_from_the_helper_are_digested_with_the_key(engine, tmp_path):
    async with helper_process(tmp_path / "s"):
        report = await in_helper(engine, tmp_path / "s").scan(CONTENT)
    assert all(finding.digest.startswith("keyed-") for finding in report.verdict.findings)


async def test_the_helper_as_a_process_has_no_network(tmp_path):
    """Confined as in production it must not reach a listener on loopback."""
    script = (
        "import sys, socket\n"
        "from relay.extract import sandbox\n"
        "missing = sandbox.give_up({'network': sandbox.leave_network, 'privileges': sandbox.no_new_privileges})\n"
        "try:\n"
        "    socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=5).close()\n"
        "    print('reached' if 'network' not in missing else 'not allowed')\n"
        "except OSError:\n"
        "    print('unreachable')\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, str(listener.getsockname()[1]), stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
    assert out.strip() in {b"unreachable", b"not allowed"}


CONFINED = """
import os, socket
from relay.extract import sandbox
sandbox.no_new_privileges()
missing = sandbox.give_up({"files": sandbox.forbid_files, "system calls": sandbox.forbid_calls})
def tried(name, function):
    try:
        function()
    except OSError:
        return
    print(name)
if "files" not in missing:
    tried("read a file", lambda: open("/etc/hostname"))
    tried("wrote a file", lambda: open("/tmp/postern-must-not-exist", "w"))
if "system calls" not in missing:
    tried("made a socket", socket.socket)
    tried("forked", os.fork)
    tried("ran a program", lambda: os.execv("/bin/true", ["true"]))
print("done", len(os.urandom(4)))
"""


async def test_a_confined_job_opens_no_file_no_socket_and_starts_nothing():
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", CONFINED, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert out == b"done 4\n"


def test_a_report_survives_the_wire(engine):
    from relay.extract.wire import encode_report

    report = engine.scan(CONTENT)
    assert decode_report(encode_report(report)) == report


async def test_a_small_message_that_costs_much_is_not_read_on_the_spot(engine, tmp_path):
    content = laborious(lines=20_000, inside=200, head=b"Subject: x\r\n")
    report = await ScanService(engine, tmp_path / "none", digest).scan(content)
    assert report.verdict.counts() == {"unreadable: crash": 1}
    assert report.verdict.phi >= Phi.POSSIBLE
    assert report.subject == ""
    async with helper(tmp_path / "s", ExtractLimits(jobs=1, seconds=120.0, cpu_seconds=120)):
        service = ScanService(engine, tmp_path / "s", digest, ScanServiceLimits(deadline=120.0))
        assert (await service.scan(content)).verdict.counts() == {"unreadable: depth": 1}
