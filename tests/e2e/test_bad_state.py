"""What can be wrong with an installation: each fault gives one clear error, and no promised message is lost by any."""

import asyncio
import contextlib
import os
import shutil
import subprocess

import pytest
import yaml

from relay.demo.dns import Trouble
from relay.supervisor import EX_CONFIG
from tests.support.load import Load, tokens_in
from tests.support.system import audit, drained, end, fates, log_lines, system, until
from tests.support.system_client import letter, submit


def refused(site, *words):
    """``postern run`` ends by itself and says once, in its log or on standard error, where, what and what to do."""
    before = len(log_lines(site))
    done = subprocess.run(
        site.command("run"), env=site.environment(), capture_output=True, text=True, timeout=60, check=False
    )
    said = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == EX_CONFIG, (done.returncode, said)
    assert len(said) == 1, said
    told = [line["problems"] for line in log_lines(site)[before:] if line["event"] == "cannot run"] or said
    assert len(told) == 1, told
    for word in words:
        assert word in told[0], (word, told)


@contextlib.contextmanager
def changed(path, content):
    """The file with other content for a while; nothing may touch it meanwhile."""
    sound = path.read_bytes()
    path.write_bytes(content(sound))
    yield
    assert path.read_bytes() == content(sound), f"{path} was changed"
    path.write_bytes(sound)


def check_a_damaged_queue(site):
    queue = site.directory / "data" / "queue" / "queue.db"
    with changed(queue, lambda sound: b"not a database " * 100 + sound[1500:]):
        refused(site, "queue.db", "damaged")


def check_a_damaged_page_is_mended(site):
    """Whatever is left on the disk of the write-ahead log comes along."""
    queue = site.directory / "data" / "queue" / "queue.db"
    queue.write_bytes(os.urandom(4096) + queue.read_bytes()[4096:])
    refused(site, "queue.db", "postern queue repair")
    told = site.postern("queue", "repair")
    assert "11 messages with 11 entries" in told
    assert "nothing was lost" in told
    assert "left as it is" in site.postern("queue", "repair")


def check_a_policy_with_a_typo(site):
    with changed(site.config.parent / "policies" / "main.yaml", lambda sound: sound.replace(b"methods:", b"methds:")):
        refused(site, "main.yaml:4", "methds", "methods")


def check_keys_that_cannot_be_used(site):
    ring = site.directory / "keys" / "ring.json"
    with changed(ring, lambda sound: sound[:-40]):
        refused(site, "ring.json", "cannot be read")
    ring.chmod(0o644)
    refused(site, "ring.json", "mode 0644")
    ring.chmod(0o600)
    away = ring.with_name("away")
    ring.rename(away)
    refused(site, "ring.json", "postern keys init")
    away.rename(ring)


async def check_a_ring_of_another_installation(site):
    """It would open nothing: refused before a message is set aside as damaged."""
    ours, theirs = site.directory / "keys", site.directory / "theirs"
    ours.rename(theirs)
    site.postern("keys", "init")
    with pytest.raises(RuntimeError, match="did not start"):
        await site.start()
    told = [line for line in log_lines(site) if "did not seal" in str(line)]
    assert told
    assert all("keys recovery restore" in str(line) for line in told)
    shutil.rmtree(ours)
    theirs.rename(ours)


def check_a_wrong_configuration(site):
    with changed(site.config, lambda sound: sound.replace(b"trust_networks", b"trust_network")):
        refused(site, "postern.yaml:", "trust_network")


def check_a_second_installation_on_the_same_ports(site, directory):
    """The kernel would share the ports between the workers of both, and each would get a part of the mail."""
    settings = yaml.safe_load(site.config.read_text())
    other = {"data_dir": "data", "run_dir": "run"}
    settings |= {name: str(directory / folder) for name, folder in other.items()}
    settings["control"] = settings.get("control", {}) | {"socket": str(directory / "run" / "control.sock")}
    settings["audit"] = settings.get("audit", {}) | {"dir": str(directory / "data" / "audit")}
    settings["log"] = settings.get("log", {}) | {"file": str(directory / "log")}
    directory.mkdir()
    second = directory / "postern.yaml"
    second.write_text(yaml.safe_dump(settings))
    for verb, status in (("run", EX_CONFIG), ("check", 1)):
        done = subprocess.run(
            [*site.command(verb), "--config", str(second)], env=site.environment(), capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == status, (verb, done.stdout, done.stderr)
        told = [line for line in (done.stderr + done.stdout).splitlines() if "another program listens there" in line]
        assert len(told) == len(settings["listeners"]) + 1, (verb, done.stderr)
        assert all(str(second) in line for line in told)
    assert not (directory / "data" / "queue").exists()


async def check_a_full_disk(site, net, load):
    """New mail is refused; what is kept is delivered all the same, and makes room."""
    settings = yaml.safe_load(site.config.read_text())
    settings["limits"]["disk_reserve"] = "1024TiB"  # as much as no disk has
    site.config.write_text(yaml.safe_dump(settings))
    await site.start()
    assert (await asyncio.to_thread(submit, site.relay, letter())).startswith("452 4.3.1")
    peer = net.peers["mail.example"]
    assert not peer.messages
    net.dns.set("mail.example", {"MX": ["10 mx.mail.example."]})
    await peer.wait_messages(len(load.promised), timeout=60)
    assert {token for message in peer.messages for token in tokens_in(message.content)} == set(load.promised)


@pytest.mark.timeout(600)
async def test_each_fault_is_told_once_and_nothing_is_lost(tmp_path):
    settings = {"dns": {"failure_ttl": "1s"}}
    async with system(tmp_path, settings=settings) as (site, net):
        net.dns.set("mail.example", Trouble.SERVFAIL)  # a resolver that is down: deferred, not bounced
        load = Load(*site.relay)
        await load.run(10)
        assert len(load.promised) == 10
        await until(lambda: len([line for line in log_lines(site) if line["event"] == "deferred"]) >= 10)
        await asyncio.to_thread(refused, site, str(tmp_path / "data"), "another Postern")
        await asyncio.to_thread(check_a_second_installation_on_the_same_ports, site, tmp_path / "second")
        assert (await asyncio.to_thread(submit, site.relay, letter(), "box@nowhere.example")).startswith("250")
        await end(site)
        for check in (
            check_a_damaged_queue,
            check_a_damaged_page_is_mended,
            check_a_policy_with_a_typo,
            check_keys_that_cannot_be_used,
            check_a_wrong_configuration,
        ):
            await asyncio.to_thread(check, site)
        await check_a_ring_of_another_installation(site)
        await check_a_full_disk(site, net, load)
        await drained(site)
        await end(site)
        told = fates(audit(site))
        assert all([fate["fate"] for fate in told[identity, 0]] == ["delivered"] for identity in load.promised.values())
