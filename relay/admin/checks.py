"""Readiness checks: each looks at one thing that must be right to serve, and says in words what is not."""

import asyncio
import os
import time
from collections.abc import Iterable, Sequence
from datetime import UTC
from pathlib import Path

from cryptography import x509

from relay.core.errors import StoreError
from relay.core.ports import QueueStore

_CONNECT = 2.0  # seconds; a listener of our own answers at once or not at all
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  where to reach what listens everywhere


async def store_answers(store: QueueStore) -> str:
    """The store can be read."""
    try:
        await store.stats()
    except StoreError as error:
        return str(error)
    return ""


async def disk_has_room(directory: Path, reserve: int) -> str:
    """More than the reserve (bytes) is free."""
    status = os.statvfs(directory)
    free = status.f_bavail * status.f_frsize
    if free > reserve:
        return ""
    return f"{directory}: {free >> 20} MiB free, not more than the reserve of {reserve >> 20} MiB"


async def listeners_answer(listeners: Iterable[tuple[str, str, int]]) -> str:
    """Somebody accepts connections on each listener: (name, address, port)."""
    named = list(listeners)
    answers = await asyncio.gather(*(_answers(address, port) for _, address, port in named))
    silent = [name for (name, _, _), answered in zip(named, answers, strict=True) if not answered]
    return f"nobody answers on {', '.join(silent)}" if silent else ""


async def _answers(address: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_CONNECT):
            _, writer = await asyncio.open_connection(_ANY.get(address, address), port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def certificates_hold(ends: Sequence[tuple[str, float]]) -> str:
    """No certificate of ours has ended: (name, unix seconds of its end)."""
    ended = [name for name, end in ends if end <= time.time()]
    return f"expired: {', '.join(ended)}" if ended else ""


def certificate_end(path: Path) -> float:
    """When the first certificate of a PEM file ends, unix seconds; 0 when it cannot be read."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return 0.0
    return certificate.not_valid_after_utc.astimezone(UTC).timestamp()
