"""Readiness checks: each looks at one thing that serving needs, and says in a few words what is wrong with it."""

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography import x509

from relay.admin.http import Check
from relay.core.errors import PosternError
from relay.core.ports import Clock, Metrics, QueueStore


def store(queue: QueueStore) -> Check:
    """The store answers."""

    async def check() -> str:
        try:
            await queue.stats()
        except PosternError as error:
            return str(error)
        return ""

    return check


def disk(directory: Path, reserve: int) -> Check:
    """The file system of ``directory`` has more than ``reserve`` octets, and some inodes, left for the service."""

    async def check() -> str:
        try:
            figures = await asyncio.to_thread(os.statvfs, directory)
        except OSError as error:
            return f"{directory}: {error.strerror}"
        left = figures.f_bavail * figures.f_frsize
        if left <= reserve:
            return f"{directory}: {left:,} octets are left, {reserve:,} are kept free: mail is answered 452"
        if figures.f_files and not figures.f_favail:
            return f"{directory}: no inodes are left"
        return ""

    return check


def workers(alive: Callable[[], int], wanted: int) -> Check:
    """As many workers live as are configured."""

    async def check() -> str:
        number = await asyncio.to_thread(alive)
        return "" if number >= wanted else f"{number} of {wanted} workers are alive"

    return check


def certificates(files: Mapping[str, Path], clock: Clock, metrics: Metrics) -> Check:
    """No listener's certificate has ended; their ends are set as ``postern_certificate_expiry_timestamp_seconds``.

    Args:
        files: PEM files by the listener's name; the first certificate of each is looked at.
        clock: unix seconds.
        metrics: for the gauge.
    """

    async def check() -> str:
        wrong = []
        for name, path in files.items():
            try:
                content = await asyncio.to_thread(path.read_bytes)
                until = x509.load_pem_x509_certificate(content).not_valid_after_utc.timestamp()
            except OSError as error:
                wrong.append(f"{name}: {path}: {error.strerror}")
                continue
            except ValueError:
                wrong.append(f"{name}: {path}: not a PEM certificate")
                continue
            metrics.set("postern_certificate_expiry_timestamp_seconds", until, {"certificate": name})
            if until <= clock():
                wrong.append(f"{name}: {path}: the certificate has expired")
        return "; ".join(wrong)

    return check
