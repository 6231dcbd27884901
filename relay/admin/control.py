"""The control socket: who may use it, and the loop that answers its lines."""

import asyncio
import contextlib
import grp
import os
import pwd
import socket
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from relay.admin import wire
from relay.admin.operations import Operations, Operator
from relay.core.errors import PosternError, Problem, ProblemsError
from relay.core.ports import Metrics

log = structlog.get_logger("control")

_CREDENTIALS: Final = struct.Struct("3i")


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlOptions:
    """Where the socket is and who may use it, besides root and the service's own user.

    Attributes:
        path: of the socket; its directory exists.
        operators: names of Unix users.
        operator_groups: names of Unix groups; the first that exists also owns the socket, so that its members reach it.
        idle: seconds a connection may be silent, and a request may take to arrive.
        deadline: seconds an operation may take.
        connections: how many at once.
    """

    path: Path
    operators: tuple[str, ...] = ()
    operator_groups: tuple[str, ...] = ()
    idle: float = 60.0
    deadline: float = 300.0
    connections: int = 32


class ControlServer:
    """Serves operations on a Unix socket of mode 0660. An async context manager."""

    def __init__(self, options: ControlOptions, operations: Operations, metrics: Metrics) -> None:
        self._options = options
        self._operations = operations
        self._metrics = metrics
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen.

        Raises:
            ProblemsError: another process listens there, or the path cannot be used.
        """
        path = self._options.path
        await self._clear_away(path)
        listening = _bind(path)
        self._server = await asyncio.start_unix_server(self._serve, sock=listening, limit=wire.MAX_REQUEST)
        self._give_to_group(path)

    def admit(self, operators: tuple[str, ...], groups: tuple[str, ...]) -> None:
        """Let these users and groups in from now on, and nobody else; open connections are judged at each request."""
        regrouped = groups != self._options.operator_groups
        self._options = replace(self._options, operators=operators, operator_groups=groups)
        if regrouped:
            self._give_to_group(self._options.path)

    async def stop(self) -> None:
        """End every connection and remove the socket."""
        if self._server is not None:
            self._server.close()
            self._options.path.unlink(missing_ok=True)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the transports close at the loop's next turn

    async def _clear_away(self, path: Path) -> None:
        """Remove the socket of a process that died; refuse to take over that of a living one."""
        if not path.is_socket():  # noqa: ASYNC240  one look at a local name, at start
            return
        try:
            _, writer = await asyncio.wait_for(asyncio.open_unix_connection(path), 5.0)
        except (OSError, TimeoutError):
            path.unlink(missing_ok=True)  # noqa: ASYNC240  as above
            return
        writer.close()
        raise ProblemsError(
            Problem(where=str(path), what="another process answers here", hint="is Postern running already?")
        )

    def _give_to_group(self, path: Path) -> None:
        groups = self._options.operator_groups
        for name in groups:
            with contextlib.suppress(KeyError, PermissionError):
                os.chown(path, -1, grp.getgrnam(name).gr_gid)
                return
        if groups:
            log.warning(
                "the control socket could be given to no group: only its owner and root reach it", groups=groups
            )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._tasks) >= self._options.connections:
            writer.write(wire.write_error("too many connections"))
            writer.close()
            return
        self._tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await self._converse(reader, writer)
        except TimeoutError:
            writer.transport.abort()  # closed, it would keep an answer that nobody reads, and the connection with it
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        operator = _who(writer.get_extra_info("socket"))
        while self._admits(operator, writer):
            try:
                line = await asyncio.wait_for(reader.readuntil(b"\n"), self._options.idle)
            except asyncio.IncompleteReadError:
                return
            except asyncio.LimitOverrunError:
                writer.write(wire.write_error(f"a request is at most {wire.MAX_REQUEST} octets"))
                break
            if not self._admits(operator, writer):  # a reload may have taken the right away meanwhile
                break
            writer.write(await self._answer(line, operator))
            await asyncio.wait_for(writer.drain(), self._options.idle)
        await asyncio.wait_for(writer.drain(), self._options.idle)

    def _admits(self, operator: Operator, writer: asyncio.StreamWriter) -> bool:
        if self._may(operator):
            return True
        self._metrics.count("postern_operator_actions_total", {"operation": "connect", "result": "denied"})
        log.error("control socket refused a user", operator=operator.name, uid=operator.uid)
        writer.write(wire.write_error(f"{operator.name} is not an operator: see control.operators"))
        return False

    async def _answer(self, line: bytes, operator: Operator) -> bytes:
        operation, result = "unreadable", "failed"
        try:
            request = wire.read_request(line)
            operation = request.op
            async with asyncio.timeout(self._options.deadline):
                answer = wire.write_result(await self._operations.run(request, operator))
            result = "ok"
        except TimeoutError:
            answer = wire.write_error("it took too long and was given up; what was done so far stays")
        except PosternError as error:
            answer = wire.write_error(str(error))
        except Exception:
            log.exception("an operation failed", operation=operation)
            answer = wire.write_error("a fault in Postern; its log says more")
        self._metrics.count("postern_operator_actions_total", {"operation": operation, "result": result})
        return answer

    def _may(self, operator: Operator) -> bool:
        if operator.uid in (0, os.geteuid()) or operator.name in self._options.operators:
            return True
        try:
            user = pwd.getpwuid(operator.uid)
        except KeyError:
            return False
        ids = set(os.getgrouplist(user.pw_name, user.pw_gid))
        for name in self._options.operator_groups:
            with contextlib.suppress(KeyError):
                if grp.getgrnam(name).gr_gid in ids:
                    return True
        return False


def _bind(path: Path) -> socket.socket:
    """A socket that has mode 0660 from the first moment on; nothing else runs while the umask is another."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o117)
    try:
        listening.bind(str(path))
    except OSError as error:
        listening.close()
        raise ProblemsError(
            Problem(where=str(path), what=f"cannot listen: {error.strerror or error}", hint="check control.socket")
        ) from error
    finally:
        os.umask(mask)
    return listening


def _who(connection: socket.socket) -> Operator:
    """The peer, as the kernel knew it when it connected."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"uid:{uid}"
    return Operator(name=name, uid=uid, pid=pid)
