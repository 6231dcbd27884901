"""``postern portal init`` and the portal's own key ring: made once, rotated, and counted apart from the queue's."""

import asyncio
import json
import os
import socket
import time

import pytest
import yaml
from click.testing import CliRunner

from relay.app.current import CURRENT
from relay.app.portal_store import open_portal
from relay.app.reloads import Outcome, Reloads, Result
from relay.app.snapshot import home
from relay.cli import main
from relay.config.keyfiles import load_portal_ring, load_ring, ring_path
from relay.config.load import load
from relay.core.portal import DepositState
from tests.support.portal import a_deposit


class NoMetrics:
    def count(self, *_): ...


@pytest.fixture
def site(tmp_path):
    settings = {
        "hostname": "relay.clinic.example",
        "data_dir": "data", "run_dir": "run", "keys_dir": "keys",
        "listeners": [{
            "name": "ehr", "kind": "relay", "address": "127.0.0.1", "port": 0, "tls": "none",
            "networks": ["127.0.0.0/8"], "trust_networks": {"127.0.0.0/8": "ehr"},
        }],
        "portal": {"origin": "https://secure.clinic.example", "mail_from": "secure@clinic.example",
                   "keys_dir": "portal-keys"},
    }  # fmt: skip
    config = tmp_path / "postern.yaml"
    config.write_text(yaml.safe_dump(settings))
    return config


def run(site, *arguments, ok=True):
    done = CliRunner().invoke(main, list(arguments), env={"POSTERN_CONFIG": str(site)})
    assert (done.exit_code == 0) is ok, done.output
    return done.output


def status(site, *more):
    return json.loads(run(site, "keys", *more, "status", "--json"))


async def keep(site, *, end=False):
    settings = load(site)
    store = await open_portal(settings, settings.portal, NoMetrics())
    try:
        made = await store.deposits.deposit(a_deposit(), b"x")
        if end:
            import dataclasses

            gone = dataclasses.replace(made, state=DepositState.RECALLED)
            await store.deposits.change(gone, expected=DepositState.WAITING)
            await store.deposits.prune(before=1e18, limit=9)
    finally:
        await store.close()


def test_the_ring_is_made_once_and_is_another_than_the_queue_s(site):
    run(site, "keys", "init")
    assert "portal-keys/ring.json" in run(site, "portal", "init")
    assert "is there already" in run(site, "portal", "init", ok=False)
    settings = load(site)
    assert load_portal_ring(settings.portal.keys_dir).id != load_ring(settings.keys_dir).id
    assert settings.portal.dir.stat().st_mode & 0o777 == 0o700


def test_without_a_portal_it_says_so(site):
    settings = yaml.safe_load(site.read_text())
    del settings["portal"]
    site.write_text(yaml.safe_dump(settings))
    assert "no portal is configured" in run(site, "portal", "init", ok=False)
    assert "no portal is configured" in run(site, "keys", "--portal", "status", ok=False)


def test_a_version_that_messages_need_is_not_retired_and_the_queue_s_ring_does_not_count_them(site):
    run(site, "keys", "init")
    run(site, "portal", "init")
    asyncio.run(keep(site))
    assert status(site, "--portal")["versions"][0]["sealed_objects"] > 0
    assert status(site)["versions"][0]["sealed_objects"] == 0
    run(site, "keys", "--portal", "rotate")
    assert "still need it" in run(site, "keys", "--portal", "retire", "1", ok=False)
    asyncio.run(keep(site, end=True))
    run(site, "keys", "--portal", "retire", "1")
    assert [version["number"] for version in status(site, "--portal")["versions"]] == [2]


@pytest.mark.parametrize("more", [(), ("--portal",)])
def test_a_version_under_which_the_running_system_still_seals_is_not_retired(site, more):
    run(site, "keys", "init")
    run(site, "portal", "init")
    settings = load(site)
    current = home(settings.run_dir) / CURRENT
    current.parent.mkdir(parents=True)
    current.symlink_to("a snapshot")

    def reload():
        """What a start and each reload write."""
        at = status(site, *more)["versions"][-1]["created_at"] + 0.001
        os.utime(current, (at, at), follow_symlinks=False)

    reload()
    run(site, "keys", *more, "rotate")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(settings.control.socket))
        listening.listen()
        assert "has not been reloaded since" in run(site, "keys", *more, "retire", "1", ok=False)
        reload()
        run(site, "keys", *more, "retire", "1")
        run(site, "keys", *more, "rotate")
        assert "has not been reloaded since" in run(site, "keys", *more, "retire", "2", ok=False)
    run(site, "keys", *more, "retire", "2")  # nothing runs any more
    assert [version["number"] for version in status(site, *more)["versions"]] == [3]


def test_no_version_is_retired_while_a_reload_is_under_way_or_was_not_taken_up(site):
    """The snapshot is the new one then; but new workers that do not run leave the old ones, who hear of nothing."""
    run(site, "keys", "init")
    settings = load(site)
    run(site, "keys", "rotate")
    current = home(settings.run_dir) / CURRENT
    current.parent.mkdir(parents=True)
    with Reloads(settings.run_dir) as reloads, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(settings.control.socket))
        listening.listen()
        current.symlink_to("a snapshot")
        reloads.begin()
        reloads.end(Outcome.of(TimeoutError()))
        assert "the last reload was not taken up" in run(site, "keys", "retire", "1", ok=False)
        reloads.end(Outcome(result=Result.RELOADED))
        later = time.time() + 1000
        os.utime(current, (later, later), follow_symlinks=False)
        assert "is not over" in run(site, "keys", "retire", "1", ok=False)
        os.utime(current, None, follow_symlinks=False)
        reloads.end(Outcome(result=Result.RELOADED))
        run(site, "keys", "retire", "1")


def test_a_ring_that_its_group_may_read_stays_so_and_no_other_may(site):
    run(site, "portal", "init")
    path = ring_path(load(site).portal.keys_dir)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    run(site, "keys", "--portal", "rotate")
    assert path.stat().st_mode & 0o777 == 0o640
    path.chmod(0o644)
    assert "others can read" in run(site, "keys", "--portal", "status", ok=False)


@pytest.mark.parametrize(
    "where",
    [[], ["--mailbox", "pat@mail.example"], ["--tenant", "t"], ["id", "--mailbox", "p@m.example", "--tenant", "t"]],
)
def test_a_secret_is_for_messages_or_for_a_mailbox_and_a_tenant(site, where):
    told = run(site, "portal", "secret", *where, "--reason", "they called", ok=False)
    assert "give IDS, or --mailbox and --tenant" in told
