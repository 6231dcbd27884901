"""The life of one process: start, heartbeat, reload on SIGHUP, drain on SIGTERM; what it does is a service's affair."""

from relay import plainlog  # noqa: F401, I001  before structlog

import argparse
import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog
import uvloop
from setproctitle import setproctitle

from relay import app
from relay.app.base import Service
from relay.core.errors import PosternError
from relay.observe import log as logs
from relay.observe import notify
from relay.supervisor import EX_CONFIG

log = structlog.get_logger("role")

_PR_SET_PDEATHSIG: Final = 1
_BEAT: Final = 5.0
"""Seconds between heartbeats when nobody says how often."""


def die_with_supervisor() -> None:
    """Ask the kernel for SIGTERM when the supervisor that started this process is gone (prctl(2), PR_SET_PDEATHSIG)."""
    supervisor = os.environ.get("POSTERN_SUPERVISOR")
    if supervisor is None:
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(supervisor):  # it died before the request took effect
        raise SystemExit(0)


async def live(service: Service) -> None:
    """Run a service from start to stop."""
    loop = asyncio.get_running_loop()
    stop, reload = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    loop.set_exception_handler(logs.uncaught_in_loop)
    notify.keep()  # the helper becomes another user in its start
    await service.start()
    die_with_supervisor()  # again, for the kernel forgets the wish of a process that becomes another user
    notify.notify(notify.READY)
    try:
        await _serve(service, stop, reload)
    finally:
        notify.notify(notify.STOPPING)
        await service.stop()


async def _serve(service: Service, stop: asyncio.Event, reload: asyncio.Event) -> None:
    beat = notify.watchdog_interval() or _BEAT
    while not stop.is_set():
        waits = [asyncio.ensure_future(event.wait()) for event in (stop, reload)]
        await asyncio.wait(waits, timeout=beat, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if reload.is_set():
            reload.clear()
            notify.reloading()
            await service.reload()
            notify.notify(notify.READY)
        notify.notify(notify.WATCHDOG)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of ``python -m relay.roles ROLE``; the exit status."""
    parser = argparse.ArgumentParser(prog="relay.roles", description=__doc__)
    parser.add_argument("role", choices=["worker", "admin", "extract", "portal"])
    parser.add_argument("--name", required=True, help="name in logs and leases")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--snapshot", type=Path, help="snapshot written by the supervisor")
    source.add_argument("--config", type=Path, help="configuration file, when the role runs alone")
    options = parser.parse_args(arguments)
    die_with_supervisor()
    setproctitle(f"postern: {options.name}")
    try:
        service = app.service(options.role, options.name, snapshot=options.snapshot, config=options.config)
        uvloop.run(live(service))
    except PosternError as error:
        log.error("cannot run", process=options.name, problems=str(error))
        return EX_CONFIG
    return 0


if __name__ == "__main__":
    sys.exit(main())
