"""The extraction helper as a service: it starts before any key is read, and reads none."""

import asyncio
import os
import pwd
from typing import TYPE_CHECKING, Final

import structlog

from relay.app.base import Life
from relay.app.pages import keep_freed_memory
from relay.app.scanning import engine_limits, tuning
from relay.config.settings import Settings
from relay.core.errors import PosternError
from relay.extract.budget import AttachmentLimits
from relay.observe import log as logs

if TYPE_CHECKING:
    from relay.extract.helper import ExtractLimits

log = structlog.get_logger("extract")

_NOBODY: Final = "nobody"
_MARGIN: Final = 1.0
"""Seconds by which the helper gives a job up before its client stops waiting."""


def extract_limits(settings: Settings) -> "ExtractLimits":
    """What the helper may cost; as root it becomes nobody."""
    from relay.extract.helper import ExtractLimits  # noqa: PLC0415  only the helper loads the readers of attachments

    seconds = max(settings.scan.timeout - _MARGIN, settings.scan.timeout / 2)
    nobody = pwd.getpwnam(_NOBODY) if os.geteuid() == 0 else None
    return ExtractLimits(
        jobs=settings.scan.helpers * settings.workers,
        seconds=seconds,
        cpu_seconds=max(1, int(seconds)),
        memory=settings.scan.helper_memory,
        content=settings.limits.message_size + (1 << 20),
        uid=nobody.pw_uid if nobody else None,
        gid=nobody.pw_gid if nobody else None,
        engine=engine_limits(settings),
        attachments=AttachmentLimits(
            depth=settings.scan.attachment_depth,
            files=settings.scan.attachment_files,
            octets=settings.scan.attachment_size,
            pages=settings.scan.attachment_pages,
        ),
        tuning=tuning(settings),
    )


class HelperService:
    """Serves extraction requests until stopped; a reload changes nothing that a restart would not."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._serving: asyncio.Task[None] | None = None
        self._became_another = False

    async def start(self) -> None:
        """Listen on the helper's socket."""
        from relay.extract.helper import serve  # noqa: PLC0415  as above

        self._life.configure_log()
        keep_freed_memory()
        ready = asyncio.Event()
        settings = self._life.settings
        limits = extract_limits(settings)
        self._became_another = limits.uid is not None
        self._serving = asyncio.create_task(serve(settings.run_dir / "extract.sock", limits, ready))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({self._serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._serving.done():
            await self._serving

    async def reload(self) -> None:
        """Take up where the log goes.

        A helper that became another user may not read that. It opens the same file anew; where it may not do that
        either, it writes on into the file it has, and says so.
        """
        if self._became_another:
            try:
                logs.reopen()
            except OSError as error:
                log.warning("the log stays where it was", problems=error.strerror)
            return
        try:
            site = self._life.site.again()
        except PosternError as error:
            log.warning("reload refused, what runs stays", problems=str(error))
            return
        self._life.adopt(site)
        log.info("reloaded", snapshot=site.version)

    async def stop(self) -> None:
        """End the jobs under way: whoever waits for them answers ``unreadable``."""
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.wait({self._serving})
