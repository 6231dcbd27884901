"""What every role begins with: where the configuration comes from, the log, and how to read it anew."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import structlog

from relay.app import snapshot as snapshots
from relay.app.current import CURRENT
from relay.config.load import load
from relay.config.operation import LogFormat
from relay.config.settings import Settings
from relay.core.errors import PosternError, Problem, ProblemsError
from relay.core.ports import Clock, Metrics
from relay.observe import log

CLOCK: Clock = time.time


_told = structlog.get_logger("housekeeping")


async def every(seconds: float, do: Callable[[], Awaitable[None]], metrics: Metrics) -> None:
    """Do something again and again, ``seconds`` after it ended, until cancelled.

    Nothing that goes wrong ends it: what is done so must go on as long as the process lives. A fault of ours is alerted
    each time it happens.
    """
    while True:
        try:
            await do()
        except PosternError as error:
            _told.error("housekeeping failed", error=str(error))
        except Exception:  # noqa: BLE001 - told with its trace, and tried again
            metrics.count("postern_alerts_total", {"kind": "housekeeping-failed"})
            _told.exception("housekeeping failed inside")
        await asyncio.sleep(seconds)


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
    """Where a process finds its configuration: a snapshot of the supervisor's, or a file of its own.

    Attributes:
        snapshot: the supervisor's directory; ``None``: the file ``config``.
        config: the file, where the process runs alone.
        settings: what stood there.
        version: the name of the snapshot that was read, as the supervisor logs it too; empty for a file.
    """

    snapshot: Path | None
    config: Path | None
    settings: Settings
    version: str = ""

    @classmethod
    def of(cls, *, snapshot: Path | None, config: Path | None) -> Self:
        """Read it.

        Raises:
            ProblemsError: all that is wrong in it.
        """
        if snapshot is not None:
            frozen = snapshots.read(snapshot)
            return cls(snapshot=snapshot, config=None, settings=frozen.settings, version=frozen.directory.name)
        return cls(snapshot=None, config=config, settings=load(config or Path("conf/postern.yaml")))

    def again(self) -> Self:
        """Read what is in force now: the current snapshot, or the file.

        Raises:
            ProblemsError: all that is wrong in it.
        """
        current = self.snapshot.parent / CURRENT if self.snapshot is not None else None
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
        """Log as configured, under this process's name.

        Raises:
            ProblemsError: the log file cannot be opened.
        """
        configure_log(self.settings, self.name)

    def adopt(self, site: Site) -> None:
        """Take a configuration up while running; a log that cannot be opened stays where it is, and that is told."""
        self.site = site
        try:
            self.configure_log()
        except ProblemsError as error:
            _told.error("the log stays where it was", problems=str(error))


_FORMATS = {LogFormat.AUTO: log.Format.AUTO, LogFormat.JSON: log.Format.JSON, LogFormat.CONSOLE: log.Format.TEXT}


def log_options(settings: Settings, process: str) -> log.LogOptions:
    """How a process logs by these settings."""
    return log.LogOptions(
        process=process,
        level=settings.log.level.value,
        format=_FORMATS[settings.log.format],
        file=settings.log.file,
    )


def configure_log(settings: Settings, process: str) -> None:
    """Log as the settings say, under a process's name.

    Raises:
        ProblemsError: the log file cannot be opened.
    """
    try:
        log.configure(log_options(settings, process))
    except OSError as error:
        what, hint = f"the log cannot be opened: {error.strerror}", "see log.file, and who may write there"
        raise ProblemsError(Problem(where=str(settings.log.file), what=what, hint=hint)) from error
