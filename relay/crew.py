"""Who is supervised: the roster, its places, and the process that fills each at the time."""

import asyncio
import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

REFUSED: Final = "config/refused"
"""Below ``run_dir``: why the newest configuration is not in force, while an older one runs."""


class Role(StrEnum):
    """What a process does. The order is that of starting; stopping is the reverse."""

    EXTRACT = "extract"
    ADMIN = "admin"
    PORTAL = "portal"
    WORKER = "worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """Which processes shall run, from one snapshot of the configuration.

    Attributes:
        snapshot: the snapshot file every process of this roster reads.
        workers: how many workers.
        listeners: a digest of what listens; a change wants a new generation of workers.
        portal: a digest of the portal's settings, whose change wants its process anew; empty: it does not run here.
        policy: the policy's version, to be told.
    """

    snapshot: Path
    workers: int
    listeners: str
    portal: str = ""
    policy: str = ""


def role_command(role: Role, name: str, snapshot: Path) -> Sequence[str]:
    """The command line of one role's process: of the directory we were started in, it takes no code (``-P``)."""
    return (sys.executable, "-P", "-m", "relay.roles", role.value, "--name", name, "--snapshot", str(snapshot))


@dataclass(slots=True, eq=False)
class Child:
    """One process."""

    name: str
    roster: Roster
    process: asyncio.subprocess.Process
    last_beat: float
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    stale: bool = False
    """A newer roster is in force, and the process could not be told yet: it has no ears before it is ready."""

    def signal(self, number: int) -> None:
        """Send a signal; one that has ended needs none."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)


@dataclass(slots=True, eq=False)
class Place:
    """One process of the roster, whichever it is at the time."""

    name: str
    role: Role
    roster: Roster
    child: Child | None = None
    task: asyncio.Task[None] | None = None
    retired: asyncio.Event = field(default_factory=asyncio.Event)
    refused: bool = False
    """Its process ended with ``EX_CONFIG`` before it was ever ready."""

    @property
    def is_ready(self) -> bool:
        """Whether its process has said so."""
        return self.child is not None and self.child.ready.is_set()
