"""The helper process: parses what strangers wrote, where a crash costs one job and nothing else.

It is started before any key is read, gives up the network, and forks job processes from one that has everything loaded.
A job process that crashes, hangs or runs over its CPU time or memory is killed and forked anew; its message is
``unreadable`` with the reason.
"""

import asyncio
import contextlib
import encodings
import gc
import importlib
import os
import pkgutil
import resource
import signal
import socket
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NoReturn

import structlog

from relay.extract import sandbox
from relay.extract.budget import AttachmentLimits
from relay.extract.engine import EngineLimits, ScanEngine, load_judge, unreadable_report
from relay.extract.extractor import Extractor
from relay.extract.formats.ocr import PictureReader
from relay.extract.request import Request, read_memory_file, receive, receive_exactly, send_request
from relay.extract.wire import LENGTH, encode_report, frame
from relay.scan.tuning import Tuning

_LOG: Final = structlog.get_logger("postern.extract")
_PICTURE_MEMORY: Final = 1024 * 1024 * 1024  # octets of address space that reading pictures takes besides
_MAX_REPLY: Final = 16 * 1024 * 1024
_WAITING: Final = 1024
"""Connections that wait while the helper is busy: one more is refused, and its message is judged as unreadable."""
_ACCEPT_AGAIN: Final = 1.0  # seconds until the next try, where too many files were open to take a connection


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractLimits:
    """What the helper may cost.

    Attributes:
        jobs: messages read at the same time, a process each.
        seconds: wall time of one job.
        cpu_seconds: CPU time of one job.
        memory: octets of address space of a job process.
        content: octets of a message taken.
        request_seconds: wall time for a client to send its request, and to take the reply.
        uid, gid: run as these when started as root; ``None``: as started.
        engine: limits of reading and judging.
        attachments: limits over the attachments of one message.
        tuning: the operator's own patterns, terms, exclusions and weights; the same as the workers have.
    """

    jobs: int = 2
    seconds: float = 9.0
    cpu_seconds: int = 9
    memory: int = 1024 * 1024 * 1024
    content: int = 64 * 1024 * 1024
    request_seconds: float = 10.0
    uid: int | None = None
    gid: int | None = None
    engine: EngineLimits = field(default_factory=EngineLimits)
    attachments: AttachmentLimits = field(default_factory=AttachmentLimits)
    tuning: Tuning | None = None


class _Job:
    """A forked process that answers one request at a time over a socket pair."""

    def __init__(self, engine: ScanEngine, limits: ExtractLimits) -> None:
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            _run_job(engine, limits, theirs)
        theirs.close()
        ours.settimeout(0)
        self._socket = ours

    async def ask(self, descriptor: int, client: bytes) -> bytes:
        """The reply's payload on the message that this memory file holds.

        Raises:
            EOFError: the process died.
            OSError: likewise.
        """
        loop = asyncio.get_running_loop()
        send_request(self._socket, client, descriptor)
        size = int.from_bytes(await receive_exactly(loop, self._socket, LENGTH), "big")
        if size > _MAX_REPLY:
            raise EOFError
        return await receive_exactly(loop, self._socket, size)

    def kill(self) -> None:
        """End the process and collect it."""
        self._socket.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _run_job(engine: ScanEngine, limits: ExtractLimits, link: socket.socket) -> NoReturn:
    """The job process: never returns to the parent's loop."""
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        _let_go_of_all_but(link)
        link.settimeout(None)
        sandbox.die_with_parent()
        sandbox.limit_memory(limits.memory)
        sandbox.limit_files()
        sandbox.give_up(_CONFINEMENT)
        while True:
            link.sendall(frame(_answer(engine, limits, link)))
    except BaseException:  # noqa: BLE001 - whatever it was, the parent sees the end of the stream and starts another
        os._exit(1)
    os._exit(0)


_CONFINEMENT: Final = {"files": sandbox.forbid_files, "system calls": sandbox.forbid_calls}
"""What a job gives up besides; :func:`_try_confinement` tells at the start which of it this kernel allows."""


def _try_confinement() -> list[str]:
    """What a job cannot give up here, found out in a process of its own."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, ",".join(sandbox.give_up(_CONFINEMENT)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        missing = stream.read().decode()
    os.waitpid(pid, 0)
    return missing.split(",") if missing else []


def _answer(engine: ScanEngine, limits: ExtractLimits, link: socket.socket) -> bytes:
    """The reply to the next request."""
    try:
        client, content = _next_request(link)
        sandbox.allow_cpu(limits.cpu_seconds)
        return encode_report(engine.scan(content, client))
    except MemoryError:
        return encode_report(unreadable_report("memory"))


def _next_request(link: socket.socket) -> tuple[str, bytes]:
    request = Request()
    try:
        while request.take(link):
            pass
        return (request.client or b"").decode(errors="replace"), read_memory_file(request.descriptor)
    finally:
        request.close()


def _let_go_of_all_but(link: socket.socket) -> None:
    """No other client's message or connection, nor another job's, is within reach of what reads a stranger's file."""
    gc.freeze()  # nothing of the parent's is ever collected here, which would close what has its number by then
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.closerange(3, link.fileno())
    os.closerange(link.fileno() + 1, most)


class _Pool:
    """Job processes, at most ``limits.jobs``; a free one is kept warm."""

    def __init__(self, engine: ScanEngine, limits: ExtractLimits) -> None:
        self._engine = engine
        self._limits = limits
        self._slots = asyncio.Semaphore(limits.jobs)
        self._idle: list[_Job] = []

    async def scan(self, descriptor: int, client: bytes) -> bytes:
        """The reply for the message in a memory file, whatever becomes of the job."""
        async with self._slots:
            job = self._idle.pop() if self._idle else _Job(self._engine, self._limits)
            try:
                async with asyncio.timeout(self._limits.seconds):
                    reply = await job.ask(descriptor, client)
            except (EOFError, OSError) as error:
                job.kill()
                reason = "timeout" if isinstance(error, TimeoutError) else "crash"
                _LOG.warning("extraction failed", reason=reason, octets=os.fstat(descriptor).st_size)
                return encode_report(unreadable_report(reason))
            except BaseException:
                job.kill()
                raise
            self._idle.append(job)
            return reply

    def close(self) -> None:
        """End every process."""
        while self._idle:
            self._idle.pop().kill()


async def serve(socket_path: Path, limits: ExtractLimits | None = None, ready: asyncio.Event | None = None) -> None:
    """Run the helper until cancelled.

    Args:
        socket_path: the Unix socket to make, mode 0600; one left by a dead helper is replaced.
        limits: what it may cost.
        ready: set when requests are taken.

    Raises:
        OSError: the socket cannot be made.
    """
    limits = limits or ExtractLimits()
    judge = load_judge(lambda plain: plain, limits.engine.scan, limits.tuning)
    pictures = _picture_reader()
    if pictures is not None:
        limits = replace(limits, memory=limits.memory + _PICTURE_MEMORY)
    engine = ScanEngine(judge, limits.engine, Extractor(limits.attachments, pictures))
    preload()
    listener = _listen(socket_path, limits)
    steps = {"network": sandbox.leave_network, "privileges": sandbox.no_new_privileges}
    if limits.uid is not None:
        uid, gid = limits.uid, limits.gid if limits.gid is not None else limits.uid
        steps = {"network": sandbox.leave_network, "user": lambda: sandbox.become(uid, gid), **steps}
    missing = sandbox.give_up(steps) + _try_confinement()
    if missing:
        _LOG.warning("the kernel or user does not allow every limit of the helper", missing=missing)
    pool = _Pool(engine, limits)
    handling: set[asyncio.Task[None]] = set()
    try:
        if ready is not None:
            ready.set()
        while True:
            task = asyncio.create_task(_handle(pool, limits, await _accept(listener)))
            handling.add(task)
            task.add_done_callback(handling.discard)
    finally:
        listener.close()
        for task in handling:
            task.cancel()
        await asyncio.gather(*handling, return_exceptions=True)
        pool.close()
        _remove(socket_path)


async def _accept(listener: socket.socket) -> socket.socket:
    loop = asyncio.get_running_loop()
    while True:
        try:
            link, _ = await loop.sock_accept(listener)
        except OSError as error:
            _LOG.warning("a connection cannot be taken", why=error.strerror)
            await asyncio.sleep(_ACCEPT_AGAIN)
        else:
            return link


def _picture_reader() -> PictureReader | None:
    """Loaded before any job is forked: a job may open no file and start no thread."""
    if not PictureReader.is_installed():
        return None
    reader = PictureReader()
    reader.load()
    return reader


def preload() -> None:
    """Import what is otherwise imported on first use: later, as another user or confined, it could not be read."""
    for module in pkgutil.iter_modules(encodings.__path__, "encodings."):
        with contextlib.suppress(ImportError):  # of other systems: mbcs, oem
            importlib.import_module(module.name)
    for name in ("xlrd.book", "xlrd.sheet", "xlrd.formatting", "xlrd.compdoc", "pydicom.filereader", "pydicom.values"):
        importlib.import_module(name)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # as another user it may not: the next start replaces it
        path.unlink(missing_ok=True)


def _listen(path: Path, limits: ExtractLimits) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)  # before it listens: nobody else can have connected
        if limits.uid is not None and os.geteuid() != 0:
            _LOG.warning("not started as root: the helper keeps its user")
        listener.listen(_WAITING)
    except OSError:
        listener.close()
        raise
    listener.settimeout(0)
    return listener


async def _handle(pool: _Pool, limits: ExtractLimits, link: socket.socket) -> None:
    request = Request()
    try:
        async with asyncio.timeout(limits.request_seconds):
            await receive(link, request)
        if os.fstat(request.descriptor).st_size > limits.content:
            reply = encode_report(unreadable_report("size"))
        else:
            reply = await pool.scan(request.descriptor, request.client or b"")
        async with asyncio.timeout(limits.request_seconds):
            await asyncio.get_running_loop().sock_sendall(link, frame(reply))
    except (OSError, EOFError, ValueError):
        _LOG.info("a request for a scan was given up by its client")
    finally:
        request.close()
        link.close()
