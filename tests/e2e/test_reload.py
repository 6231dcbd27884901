"""SIGHUP on the running system: what changed is taken up whole or not at all, and no open message is lost."""

import asyncio
import json
import os
import signal
import smtplib
import ssl

import pytest
import yaml

from relay.demo.ports import free_port
from tests.support.system import OPEN_POLICY, audit, end, log_lines, system, until
from tests.support.system_client import Line, letter, submit

REFUSED = "reload refused, the running configuration stays"


def lines(site, event):
    return [line for line in log_lines(site) if line["event"] == event]


def taken_up(site):
    """How often each worker took up a change."""
    names = [line["process"] for line in lines(site, "reloaded") if line["process"].startswith("worker")]
    return {name: names.count(name) for name in names}


async def reload(site):
    """SIGHUP, and wait until both workers have taken up what changed."""
    before = taken_up(site)
    site.process.send_signal(signal.SIGHUP)
    await until(lambda: all(taken_up(site).get(name, 0) > before.get(name, 0) for name in ("worker-1", "worker-2")))


async def check_policies(site):
    """A changed policy is taken up; of a broken one the operator is told, and the old one stays."""
    policy = site.config.parent / "policies" / "main.yaml"
    assert (await asyncio.to_thread(submit, site.relay, letter())).startswith("250")
    policy.write_text(OPEN_POLICY.replace("id: rest", "id: second"))
    await reload(site)
    assert (await asyncio.to_thread(submit, site.relay, letter())).startswith("250")
    policy.write_text(OPEN_POLICY.replace("id: rest", "id: third").replace("methods:", "methds:"))
    site.process.send_signal(signal.SIGHUP)
    refusal, *_ = await until(lambda: lines(site, REFUSED))
    assert "main.yaml:4" in refusal["problems"]
    assert "methds" in refusal["problems"]
    assert (await asyncio.to_thread(submit, site.relay, letter())).startswith("250")
    policy.write_text(OPEN_POLICY.replace("id: rest", "id: second"))


async def check_a_new_client(site):
    """A client that was added may send once the reload has been, not before."""

    def attempt(secret):
        context = ssl.create_default_context(cafile=str(site.authority.root))
        context.check_hostname = False  # it is for the relay's name, not for 127.0.0.1
        with smtplib.SMTP(*site.submission, timeout=60) as session:
            session.starttls(context=context)
            session.login("lab", secret)
            return session.sendmail("lab@lab.example", ["box@mail.example"], letter())

    told = json.loads(site.postern("client", "add", "lab", "--tenant", "clinic", "--domain", "lab.example", "--json"))
    with pytest.raises(smtplib.SMTPAuthenticationError):
        await asyncio.to_thread(attempt, told["secret"])
    await reload(site)
    assert await asyncio.to_thread(attempt, told["secret"]) == {}


async def check_a_changed_port(site):
    """New workers come with the new port; the old ones end the message they are in the middle of, and go."""
    old = set(site.worker_pids())
    port = free_port()
    settings = yaml.safe_load(site.config.read_text())
    settings["listeners"][1]["port"] = port
    with Line(site.relay) as line:
        line.begin()
        assert line.say("DATA").startswith("354")
        line.send(b"From: ehr@clinic.example\r\n")
        site.config.write_text(yaml.safe_dump(settings))
        site.process.send_signal(signal.SIGHUP)
        await until(lambda: any(one["endpoint"] == f"127.0.0.1:{port}" for one in lines(site, "listening")))
        assert (await asyncio.to_thread(submit, ("127.0.0.1", port), letter())).startswith("250")
        line.send(b"\r\nbegun before, ended after\r\n.\r\n")
        assert (await asyncio.to_thread(line.reply)).startswith("250")
        assert (await asyncio.to_thread(line.reply)).startswith("421")
    await until(lambda: site.worker_pids() and not old & set(site.worker_pids()))


async def check_a_rotated_log(site):
    """Every process says what it took up, in the file that lies at the log's place after a rotation.

    Started by root the helper is nobody, who may open no file there: it says so in the one it has.
    """
    rotated = site.log.with_suffix(".old")
    site.log.rename(rotated)
    site.process.send_signal(signal.SIGHUP)
    expected = {"supervisor", "admin", "worker-1", "worker-2"} | ({"extract"} if os.geteuid() else set())
    await until(lambda: {one["process"] for one in lines(site, "reloaded")} >= expected)
    assert len({one["snapshot"] for one in lines(site, "reloaded")}) == 1
    if not os.geteuid():
        await until(lambda: b"the log stays where it was" in rotated.read_bytes())


@pytest.mark.timeout(400)
async def test_changes_are_taken_up_while_mail_goes_on(tmp_path):
    async with system(tmp_path, workers=2) as (site, net):
        await check_policies(site)
        await check_a_new_client(site)
        await check_a_rotated_log(site)
        await check_a_changed_port(site)
        messages = await net.peers["mail.example"].wait_messages(6)
        assert any(b"begun before, ended after" in message.content for message in messages)
        await end(site)
        decided = [record["facts"]["rule"] for record in audit(site) if record["kind"] == "decided"]
        assert decided == ["rest"] + ["second"] * 5
