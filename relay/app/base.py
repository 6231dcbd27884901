"""What every role begins with: where the configuration comes from, the log, and how to read it anew."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from relay.app import snapshot as snapshots
from relay.config.load import load
from relay.config.operation import LogFormat
from relay.config.settings import Settings
from relay.core.decision import MethodName
from relay.core.ports import Clock
from relay.observe import log

CONFIGURED: frozenset[MethodName] = frozenset({MethodName.TLS})
"""The methods that exist so far; a rule's others are passed over, and ``postern policy check`` warns of them."""

CLOCK: Clock = time.time


class Service(Protocol):
    """What a role does between start and stop."""

    async def start(self) -> None:
        """Be able to serve when this returns.

        Raises:
            PosternError: with a text for operators.
        """

    async def reload(self) -> None:
        """Swap to the current snapshot; on any fault keep what runs, and log it."""

    async def stop(self) -> None:
        """Finish what is under way and let go of everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a process finds its configuration: a snapshot of the supervisor's, or a file of its own."""

    snapshot: Path | None
    config: Path | None
    settings: Settings

    @classmethod
    def of(cls, *, snapshot: Path | None, config: Path | None) -> Self:
        """Read it.

        Raises:
            ProblemsError: all that is wrong in it.
        """
        if snapshot is not None:
            return cls(snapshot=snapshot, config=None, settings=snapshots.read(snapshot).settings)
        return cls(snapshot=None, config=config, settings=load(config or Path("conf/postern.yaml")))

    def again(self) -> Self:
        """Read what is in force now: the current snapshot, or the file.

        Raises:
            ProblemsError: all that is wrong in it.
        """
        current = self.snapshot.parent / snapshots.CURRENT if self.snapshot is not None else None
        return self.of(snapshot=current, config=self.config)


@dataclass(slots=True, kw_only=True)
class Life:
    """One process: its name, and the configuration it last took up."""

    site: Site
    name: str

    @property
    def settings(self) -> Settings:
        """The settings in force in this process."""
        return self.site.settings

    def configure_log(self) -> None:
        """Log as configured, under this process's name."""
        configure_log(self.settings, self.name)


_FORMATS = {LogFormat.AUTO: log.Format.AUTO, LogFormat.JSON: log.Format.JSON, LogFormat.CONSOLE: log.Format.TEXT}


def configure_log(settings: Settings, process: str) -> None:
    """Log as the settings say, under a process's name."""
    log.configure(
        log.LogOptions(
            process=process,
            level=settings.log.level.value,
            format=_FORMATS[settings.log.format],
            file=settings.log.file,
        )
    )
