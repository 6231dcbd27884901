"""Each readiness check, right and wrong."""

import time

import pytest

from relay.admin import checks
from relay.core.errors import StoreUnavailableError
from relay.demo.authority import Authority
from relay.observe.metrics import NoMetrics


class Gauges(NoMetrics):
    def __init__(self):
        self.values = {}

    def set(self, name, value, labels=None):
        self.values[name, labels["certificate"]] = value


async def test_the_store_must_answer(desk):
    check = checks.store(desk.store)
    assert await check() == ""

    async def fail():
        raise StoreUnavailableError("the queue cannot be read")

    desk.store.stats = fail
    assert await check() == "the queue cannot be read"


async def test_the_disk_must_have_its_reserve(tmp_path):
    assert await checks.disk(tmp_path, 1)() == ""
    assert "mail is answered 452" in await checks.disk(tmp_path, 1 << 62)()
    assert "No such file" in await checks.disk(tmp_path / "none", 1)()


@pytest.mark.parametrize(("alive", "said"), [(2, ""), (3, ""), (1, "1 of 2 workers are alive")])
async def test_all_workers_must_live(alive, said):
    assert await checks.workers(lambda: alive, 2)() == said


async def test_certificates_must_be_good_and_their_ends_are_gauges(tmp_path):
    authority = Authority(tmp_path / "ca")
    files = {"relay": authority.issue("a.example").cert, "old": authority.issue("b.example", expired=True).cert}
    gauges = Gauges()
    said = await checks.certificates(files, time.time, gauges)()
    assert said.startswith("old: ")
    assert said.endswith("the certificate has expired")
    name = "postern_certificate_expiry_timestamp_seconds"
    assert gauges.values[name, "old"] < time.time() < gauges.values[name, "relay"]
    (tmp_path / "nonsense").write_text("x")
    broken = {"a": tmp_path / "none", "b": tmp_path / "nonsense"}
    said = await checks.certificates(broken, time.time, gauges)()
    assert "No such file" in said
    assert "not a PEM certificate" in said
