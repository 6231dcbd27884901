"""The other end of the control socket, for the command line."""

import contextlib
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast

import orjson
from pydantic import ValidationError

from relay.admin import wire
from relay.admin.wire import ControlError

_CONNECT: Final = 5.0
R = TypeVar("R", bound=wire.Wire)


class ControlClient:
    """One connection to a running Postern; a context manager."""

    def __init__(self, path: Path, *, deadline: float = 310.0) -> None:
        """Connect.

        Args:
            path: of the control socket.
            deadline: seconds to wait for each answer.

        Raises:
            ControlError: nothing listens there, or this user may not connect.
        """
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_CONNECT)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise ControlError(_why(path, error)) from error
        self._socket.settimeout(deadline)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()

    def ask(self, request: wire.Request, result: type[R]) -> R:
        """Send a request and read its result.

        Raises:
            ControlError: it was refused (with the server's words), or the answer cannot be read.
        """
        line = orjson.dumps(request.model_dump(mode="json"), option=orjson.OPT_APPEND_NEWLINE)
        try:
            with contextlib.suppress(BrokenPipeError):  # it hung up at once; its last words can still be read
                self._socket.sendall(line)
            answer = self._file.readline(wire.MAX_RESULT + 1)
        except OSError as error:
            raise ControlError("the running Postern did not answer in time") from error
        return _read(answer, result)


def _read(answer: bytes, result: type[R]) -> R:
    if not answer.endswith(b"\n"):
        raise ControlError("the running Postern ended the connection")
    try:
        value = cast("dict[str, Any]", orjson.loads(answer))
        if not value["ok"]:
            raise ControlError(str(value["error"]))
        return result.model_validate(value["result"])
    except (orjson.JSONDecodeError, ValidationError, KeyError, TypeError) as error:
        raise ControlError("the answer cannot be read: are this command and the service of one version?") from error


def _why(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return f"{path}: no Postern is listening here; start it with `postern run`, or name its configuration"
    if isinstance(error, PermissionError):
        return f"{path}: you may not use the control socket; join a group of control.operator_groups, or use sudo"
    return f"{path}: {error.strerror or error}"
