"""sd_notify(3) as a service manager sees it."""

import os
import socket

import pytest

from relay.observe import notify


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path, monkeypatch):
    name = str(tmp_path / "notify") if request.param == "path" else f"@postern-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name if request.param == "path" else f"\0{name[1:]}")
        listening.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield listening


def test_assignments_arrive_as_lines(manager):
    assert notify.notify(notify.READY, "STATUS=serving")
    assert manager.recv(4096) == b"READY=1\nSTATUS=serving"
    assert notify.status("two\nlines")
    assert manager.recv(4096) == b"STATUS=two lines"


def test_a_kept_connection_outlives_the_right_to_make_one(tmp_path, monkeypatch):
    path = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    monkeypatch.setattr(notify, "_kept", {})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.settimeout(60)
        assert notify.keep()
        path.unlink()  # nobody can connect any more
        try:
            assert notify.notify(notify.READY)
            assert listening.recv(4096) == b"READY=1"
        finally:
            notify._kept.pop(str(path)).close()


def test_a_reload_tells_the_time(manager):
    assert notify.reloading()
    first, second = manager.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    assert int(second.removeprefix("MONOTONIC_USEC=")) > 0


def test_without_a_manager_nothing_happens(monkeypatch, tmp_path):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify.notify(notify.READY)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert not notify.notify(notify.READY)
    monkeypatch.setenv("NOTIFY_SOCKET", "relative")
    assert not notify.notify(notify.READY)


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [("10000000", "", 5.0), ("10000000", "own", 5.0), ("10000000", "1", None), ("0", "", None), ("", "", None)],
)
def test_the_watchdog_interval_is_half_of_what_is_allowed(monkeypatch, usec, pid, seconds):
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)
    assert notify.watchdog_interval() == seconds
