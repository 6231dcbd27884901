"""The scanner that intake sees: small messages on the spot, the rest in the helper, and an answer in any case."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from relay.core.labour import labour
from relay.core.ports import ScanReport
from relay.extract.engine import DEFERRED, Reading, ScanEngine, unreadable_report
from relay.extract.request import MemoryFile, receive_exactly, send_request
from relay.extract.wire import LENGTH, decode_report, rekey

_MAX_REPLY: Final = 16 * 1024 * 1024
_SMALL: Final = 16 * 1024
_PIECE: Final = 1024 * 1024
"""Octets that are written into memory before others have their turn."""
_LABOUR: Final = 200_000
"""What reading a message on the event loop may cost; see :func:`relay.core.labour.labour`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanServiceLimits:
    """Where and how long a message is scanned.

    Attributes:
        inline: octets up to which a message is scanned on the event loop.
        fallback: octets of the beginning that are read on the spot when the helper gives no answer; it holds the loop
            as long as ``inline`` does, and is read also where ``inline`` is nought.
        deadline: seconds for the helper's answer, connecting included; then ``unreadable: timeout``.
    """

    inline: int = 128 * 1024
    fallback: int = 128 * 1024
    deadline: float = 10.0


class ScanService:
    """Implements :class:`~relay.core.ports.Scanner`."""

    def __init__(
        self,
        engine: ScanEngine,
        socket_path: Path,
        digest: Callable[[str], str],
        limits: ScanServiceLimits | None = None,
    ) -> None:
        self._engine = engine
        self._socket_path = socket_path
        self._digest = digest
        self._limits = limits or ScanServiceLimits()

    async def scan(self, content: bytes, client: str = "") -> ScanReport:
        """Scan a message of this client's. Never raises for what is in it, nor for a helper that is away (law 3).

        When the helper gives no answer, what can be read on the spot is judged all the same, with the finding
        ``unreadable: timeout`` or ``unreadable: crash`` beside it.
        """
        if len(content) > self._limits.inline or _is_laborious(content):
            return await self._in_helper(content, client)
        try:
            reading = self._engine.read(content)
            if not reading.deferred:
                await asyncio.sleep(0)  # stage by stage (docs/architecture.md)
                return self._engine.report(reading, client=client)
        except Exception:  # noqa: BLE001 - closed when in doubt (law 3): a fault of ours must not let a message through
            return unreadable_report("crash")
        return await self._in_helper(content, client)

    async def _in_helper(self, content: bytes, client: str) -> ScanReport:
        try:
            async with asyncio.timeout(self._limits.deadline):
                return rekey(await self._ask(content, client), self._digest)
        except TimeoutError:
            return self._without_helper(content, client, "timeout")
        except (OSError, EOFError, ValueError):
            return self._without_helper(content, client, "crash")

    async def _ask(self, content: bytes, client: str) -> ScanReport:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as link:
            await loop.sock_connect(link, str(self._socket_path))
            with MemoryFile() as file:
                whole = memoryview(content)
                for start in range(0, len(content), _PIECE):
                    if start:
                        await asyncio.sleep(0)
                    file.write(whole[start : start + _PIECE])
                send_request(link, client.encode(), file.descriptor)
            size = int.from_bytes(await receive_exactly(loop, link, LENGTH), "big")
            if size > _MAX_REPLY:
                raise ValueError("the helper's reply is over its limit")
            return decode_report(await receive_exactly(loop, link, size))

    def _without_helper(self, content: bytes, client: str, reason: str) -> ScanReport:
        """Judge the beginning on the spot: the header and the first part usually lie there."""
        beginning = content[: self._limits.fallback]
        if _is_laborious(beginning):
            return unreadable_report(reason)
        try:
            reading = self._engine.read(beginning)
            return self._engine.report(_given_up(reading, reason), (("1", reason),), client)
        except Exception:  # noqa: BLE001 - as above
            return unreadable_report(reason)


def _is_laborious(content: bytes) -> bool:
    return len(content) > _SMALL and labour(content) > _LABOUR


def _given_up(reading: Reading, reason: str) -> Reading:
    """What waited for the helper is unreadable for the reason why the helper gave no answer."""
    return replace(
        reading,
        faults=tuple((part, reason if fault == DEFERRED else fault) for part, fault in reading.faults),
        attachments=tuple(
            replace(attachment, unreadable=reason) if attachment.unreadable == DEFERRED else attachment
            for attachment in reading.attachments
        ),
    )
