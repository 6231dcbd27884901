"""Readiness looks at each disk that mail needs: the queue's, and the portal's where it may be another."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from relay.app.admin import disk_checks

RESERVE = 1 << 30
QUEUE, PORTAL = Path("/queue"), Path("/portal")


def site(*, portal="auto", store="sqlite"):
    asked = SimpleNamespace(dir=PORTAL, store=portal, store_password=None) if portal else None
    limits = SimpleNamespace(disk_reserve=RESERVE)
    return SimpleNamespace(
        data_dir=QUEUE, limits=limits, portal=asked, store=store, store_password=None, node="n", run_dir=QUEUE
    )


@pytest.fixture
def free(monkeypatch):
    """MiB free on each disk."""
    mib = {QUEUE: 2000, PORTAL: 2000}
    monkeypatch.setattr("os.statvfs", lambda path: SimpleNamespace(f_bavail=mib[path], f_frsize=1 << 20))
    return mib


async def test_a_portal_on_a_disk_of_its_own_has_a_check_of_its_own(free):
    checks = disk_checks(site())
    assert {name: await check() for name, check in checks.items()} == {"disk": "", "portal_disk": ""}
    free[PORTAL] = 1024
    assert {name: await check() for name, check in checks.items()} == {
        "disk": "",
        "portal_disk": "/portal: 1024 MiB free, not more than the reserve of 1024 MiB",
    }
    free[QUEUE], free[PORTAL] = 3, 2000
    assert {name: await check() for name, check in checks.items()} == {
        "disk": "/queue: 3 MiB free, not more than the reserve of 1024 MiB",
        "portal_disk": "",
    }


@pytest.mark.parametrize(
    ("portal", "store"),
    [("", "sqlite"), ("auto", "postgresql://db.example/q"), ("postgresql://db.example/p", "sqlite")],
)
async def test_without_a_portals_file_there_is_nothing_to_look_at(portal, store, free):
    assert set(disk_checks(site(portal=portal, store=store))) == {"disk"}
