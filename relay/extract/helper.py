"""The helper process: parses what strangers wrote, where a crash costs one job and nothing else.

It is started before any key is read, gives up the network, and forks job processes from one that has everything loaded.
A job process that crashes, hangs or runs over its CPU time or memory is killed and forked anew; its message is
``unreadable`` with the reason.
"""

import asyncio
import contextlib
import encodings
import importlib
import os
import pkgutil
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
from relay.extract.wire import LENGTH, MAX_CLIENT, encode_report, frame, request_head
from relay.scan.tuning import Tuning

_LOG: Final = structlog.get_logger("postern.extract")
_PICTURE_MEMORY: Final = 1024 * 1024 * 1024  # octets of address space that reading pictures takes besides
_MAX_REPLY: Final = 16 * 1024 * 1024
_READ_AHEAD: Final = 1024 * 1024
"""Octets of a request that are taken before anybody waits for them: of a large one few pieces, not many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractLimits:
    """What the helper may cost.

    Attributes:
        jobs: messages read at the same time, a process each.
        seconds: wall time of one job.
        cpu_seconds: CPU time of one job.
        memory: octets of address space of a job process.
        content: octets of a message taken.
        request_seconds: wall time for a client to send its request.
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

    def __init__(self, engine: ScanEngine, limits: ExtractLimits, close: list[socket.socket]) -> None:
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            _run_job(engine, limits, theirs, [ours, *close])
        theirs.close()
        ours.settimeout(0)
        self._socket = ours

    async def ask(self, content: bytes, client: bytes) -> bytes:
        """The reply's payload.

        Raises:
            EOFError: the process died.
            OSError: likewise.
        """
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self._socket, request_head(client, len(content)))
        await loop.sock_sendall(self._socket, content)
        size = int.from_bytes(await self._exactly(LENGTH), "big")
        if size > _MAX_REPLY:
            raise EOFError
        return await self._exactly(size)

    async def _exactly(self, size: int) -> bytes:
        loop = asyncio.get_running_loop()
        data = bytearray()
        while len(data) < size:
            piece = await loop.sock_recv(self._socket, min(size - len(data), 1 << 20))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)

    def kill(self) -> None:
        """End the process and collect it."""
        self._socket.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _run_job(engine: ScanEngine, limits: ExtractLimits, link: socket.socket, close: list[socket.socket]) -> NoReturn:
    """The job process: never returns to the parent's loop."""
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        for other in close:
            other.close()
        link.settimeout(None)
        sandbox.die_with_parent()
        sandbox.limit_memory(limits.memory)
        sandbox.limit_files()
        sandbox.give_up(_CONFINEMENT)
        while True:
            client, content = _read_frame(link), _read_frame(link)
            sandbox.allow_cpu(limits.cpu_seconds)
            link.sendall(frame(_answer(engine, content, client.decode(errors="replace"))))
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


def _answer(engine: ScanEngine, content: bytes, client: str) -> bytes:
    try:
        return encode_report(engine.scan(content, client))
    except MemoryError:
        return encode_report(unreadable_report("memory"))


def _read_frame(link: socket.socket) -> bytes:
    return _read_exactly(link, int.from_bytes(_read_exactly(link, LENGTH), "big"))


def _read_exactly(link: socket.socket, size: int) -> bytes:
    pieces: list[bytes] = []
    while size:
        piece = link.recv(size, socket.MSG_WAITALL)  # all of it, as a rule: nothing is copied again
        if not piece:
            os._exit(0)
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class _Pool:
    """Job processes, at most ``limits.jobs``; a free one is kept warm."""

    def __init__(self, engine: ScanEngine, limits: ExtractLimits, listener: socket.socket) -> None:
        self._engine = engine
        self._limits = limits
        self._listener = listener
        self._slots = asyncio.Semaphore(limits.jobs)
        self._idle: list[_Job] = []

    async def scan(self, content: bytes, client: bytes) -> bytes:
        """The reply for a message, whatever becomes of the job."""
        async with self._slots:
            job = self._idle.pop() if self._idle else _Job(self._engine, self._limits, [self._listener])
            try:
                async with asyncio.timeout(self._limits.seconds):
                    reply = await job.ask(content, client)
            except (EOFError, OSError) as error:
                job.kill()
                reason = "timeout" if isinstance(error, TimeoutError) else "crash"
                _LOG.warning("extraction failed", reason=reason, octets=len(content))
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
    pool = _Pool(engine, limits, listener)
    server = await asyncio.start_unix_server(
        lambda reader, writer: _handle(pool, limits, reader, writer), sock=listener, limit=_READ_AHEAD
    )
    try:
        if ready is not None:
            ready.set()
        await server.serve_forever()
    finally:
        server.close()
        pool.close()
        _remove(socket_path)


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
        listener.listen(64)
    except OSError:
        listener.close()
        raise
    listener.settimeout(0)
    return listener


async def _handle(
    pool: _Pool, limits: ExtractLimits, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        async with asyncio.timeout(limits.request_seconds):
            length = int.from_bytes(await reader.readexactly(LENGTH), "big")
            if length > MAX_CLIENT:
                return
            client = await reader.readexactly(length)
            size = int.from_bytes(await reader.readexactly(LENGTH), "big")
            if size > limits.content:
                writer.write(frame(encode_report(unreadable_report("size"))))
                await writer.drain()
                return
            content = await reader.readexactly(size)
        writer.write(frame(await pool.scan(content, client)))
        await writer.drain()
    except (OSError, EOFError):
        _LOG.info("a request for a scan was given up by its client")
    finally:
        writer.close()
