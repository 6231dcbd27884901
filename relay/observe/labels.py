"""Label values, bounded over all processes: the first so many are admitted until restart, the rest are ``other``."""

import fcntl
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relay.observe.catalogue import OTHER, RECIPIENT_DOMAIN, SENDING_DOMAIN, Label

_SAFE: Final = re.compile(r"[A-Za-z0-9_.:\[\]-]{1,255}\Z")
"""What a value may look like: no mailbox, space or control character ever becomes a label (law 4)."""


class Pool:
    """The admitted values of one pool: a file that all processes append to under a lock, and a copy in memory."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._admitted: set[str] = set()
        self._read = 0

    def admit(self, value: str) -> str:
        """The value when it is or can be admitted, else ``other``."""
        if value in self._admitted:
            return value
        if len(self._admitted) >= self._limit or not _SAFE.match(value):
            return OTHER
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o660)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)  # held for microseconds, once a new value and process
            self._catch_up(file)
            if value not in self._admitted and len(self._admitted) < self._limit:
                line = f"{value}\n".encode()
                os.write(file, line)
                self._read += len(line)
                self._admitted.add(value)
        finally:
            os.close(file)
        return value if value in self._admitted else OTHER

    def _catch_up(self, file: int) -> None:
        size = os.fstat(file).st_size
        if size > self._read:
            self._admitted.update(os.pread(file, size - self._read, self._read).decode("utf-8", "replace").split())
            self._read = size


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelLimits:
    """How many domains get a label of their own, over all processes, until restart."""

    recipient_domains: int = RECIPIENT_DOMAIN.limit
    sending_domains: int = SENDING_DOMAIN.limit


class Labels:
    """Bounds labels; pools lie as files in one directory."""

    def __init__(self, directory: Path, limits: LabelLimits | None = None) -> None:
        limits = limits or LabelLimits()
        self._directory = directory
        self._limits = {
            RECIPIENT_DOMAIN.pool: limits.recipient_domains,
            SENDING_DOMAIN.pool: limits.sending_domains,
        }
        self._pools: dict[str, Pool] = {}

    def bound(self, label: Label, value: str) -> str:
        """The value to count under."""
        if label.values:
            return value if value in label.values else OTHER
        pool = self._pools.get(label.pool)
        if pool is None:
            limit = self._limits.get(label.pool, label.limit)
            pool = self._pools[label.pool] = Pool(self._directory / f"labels-{label.pool}", limit)
        return pool.admit(value or "none")
