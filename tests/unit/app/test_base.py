"""What every role stands on: housekeeping that no fault ends, and reloads that end no process."""

import asyncio
from types import SimpleNamespace

import pytest

from relay.app.base import Life, every
from relay.app.helper import HelperService
from relay.config.operation import LogFormat, LogLevel
from relay.core.errors import ProblemsError, StoreError
from relay.observe import log


class Counted:
    """Remembers (name, kind) of every count."""

    def __init__(self):
        self.counted = []

    def count(self, name, labels=None, amount=1):
        del amount
        self.counted.append((name, (labels or {}).get("kind", "")))

    def observe(self, name, value, labels=None):
        """Not looked at."""

    def set(self, name, value, labels=None):
        """Not looked at."""


@pytest.mark.parametrize("fault", [OSError(24, "Too many open files"), StoreError("away"), KeyError("x")])
async def test_no_fault_ends_housekeeping(fault):
    done, metrics = asyncio.Event(), Counted()
    times = 0

    async def do():
        nonlocal times
        times += 1
        if times == 1:
            raise fault
        done.set()

    task = asyncio.create_task(every(0.0, do, metrics))
    await asyncio.wait_for(done.wait(), 60)
    task.cancel()
    expected = [] if isinstance(fault, StoreError) else [("postern_alerts_total", "housekeeping-failed")]
    assert metrics.counted == expected


class Gone:
    """A configuration that may no longer be read."""

    settings = SimpleNamespace()

    def again(self):
        raise ProblemsError


async def test_a_helper_that_may_not_read_the_new_configuration_goes_on():
    life = Life(site=Gone(), name="extract")
    await HelperService(life).reload()
    assert isinstance(life.site, Gone)


async def test_a_helper_that_became_another_user_tries_to_read_nothing(monkeypatch, tmp_path):
    async def serve(_path, _limits, ready):
        ready.set()
        await asyncio.Event().wait()

    def again():
        raise AssertionError("it was asked for what it may not read")

    monkeypatch.setattr("relay.extract.helper.serve", serve)
    monkeypatch.setattr("relay.app.helper.extract_limits", lambda _settings: SimpleNamespace(uid=65534))
    monkeypatch.setattr(Life, "configure_log", lambda _self: None)
    helper = HelperService(
        Life(site=SimpleNamespace(settings=SimpleNamespace(run_dir=tmp_path), again=again), name="x")
    )
    await helper.start()
    await helper.reload()
    await helper.stop()


def test_a_log_that_cannot_be_opened_ends_nothing(tmp_path):
    file = tmp_path / "missing" / "postern.log"
    settings = SimpleNamespace(log=SimpleNamespace(level=LogLevel.INFO, format=LogFormat.JSON, file=file))
    life = Life(site=Gone(), name="worker-1")
    life.adopt(SimpleNamespace(settings=settings))
    assert life.settings is settings
    try:
        with pytest.raises(ProblemsError, match="the log cannot be opened"):
            life.configure_log()
    finally:
        log.shutdown()  # what was set up before the file must not stay for other tests
