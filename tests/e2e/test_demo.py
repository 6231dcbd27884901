"""The demo is the README's first promise: it runs by itself, and every message meets its expected fate."""

import os
import re
import signal
import subprocess
import sys

import httpx
import pytest

from relay.demo.ledger import HELD, Ledger
from relay.demo.scenario import STORIES, domains
from relay.demo.show import deviations
from tests.support.portal_site import forms_of


@pytest.mark.timeout(400)
def test_the_demo_ends_by_itself_with_every_fate_as_expected():
    done = subprocess.run(
        [sys.executable, "-m", "relay", "demo", "--once"], capture_output=True, text=True, timeout=390, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing left below its floor" in done.stdout
    assert "look at next (gone when this ends: leave --once away)" in done.stdout
    assert re.search(r"http://localhost:\d+/m/[A-Za-z0-9_-]{22}", done.stdout), "a link that leads to the secure page"
    for domain in domains():
        assert domain.name in done.stdout


def lines_until(process, pattern):
    """What the demo prints up to the line that matches, and the match."""
    for line in process.stdout:
        found = re.search(pattern, line)
        if found:
            return found
    raise AssertionError(f"the demo ended without {pattern}")


class Reader:
    """A browser as far as the journey needs one; cookies are kept by hand, for ``Secure`` ones need TLS elsewhere."""

    def __init__(self, link):
        origin, _, self.path = link.partition("/m/")
        self.client = httpx.Client(base_url=origin, timeout=60)
        self.cookies, self.page = {}, None
        self.ask("GET", f"/m/{self.path}")

    def ask(self, method, path, **options):
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        self.page = self.client.request(method, path, headers={"cookie": cookie}, **options)
        for header in self.page.headers.get_list("set-cookie"):
            name, _, value = header.partition(";")[0].partition("=")
            self.cookies[name] = value
        if self.page.is_redirect:
            self.ask("GET", self.page.headers["location"])

    def send(self, action, **fields):
        [form] = [form for form in forms_of(self.page.text) if form.action == action]
        self.ask("POST", action, data=form.fields | fields)


@pytest.mark.timeout(400)
def test_its_last_link_leads_a_reader_to_the_message():
    """As somebody does who runs ``make demo``: the link in a browser, the code from the screen, the message."""
    command = [sys.executable, "-m", "relay", "demo"]
    environment = os.environ | {"COLUMNS": "200", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as demo:
        try:
            link = lines_until(demo, r"http://localhost:\d+/m/[A-Za-z0-9_-]{22}")[0]
            lines_until(demo, "Running until Ctrl-C")
            reader = Reader(link)
            deposit = link.rpartition("/")[2]
            reader.send(f"/m/{deposit}/code")
            reader.send(f"/m/{deposit}/open", code=lines_until(demo, r"The code for \S+ is ([0-9]{4} [0-9]{4})")[1])
            reader.ask("GET", f"/inbox/{deposit}")
            reader.send(f"/inbox/{deposit}/open")
            assert reader.page.status_code == 200
            assert f"/inbox/{deposit}/eml" in reader.page.text
            reader.ask("GET", f"/inbox/{deposit}/eml")
            assert "subject:" in reader.page.text.lower()
            reader.client.close()
            demo.send_signal(signal.SIGINT)
            demo.stdout.read()
            assert demo.wait(60) == 0
        finally:
            demo.kill()


def records(**fate):
    decided = {"entry": "m.1", "numbers": [0], "action": "deliver", "rule": "phi", "floor": "verified"}
    yield {"kind": "decided", "message_id": "m", "facts": decided}
    yield {"kind": "fate", "message_id": "m", "facts": {"entry": "m.1", "numbers": [0], "why": "", **fate}}


def ledger_of(story, **fate):
    ledger = Ledger()
    ledger.add("m", story, {"a@b.example": "delivered"})
    ledger.read(records(**fate))
    return ledger.copies


def test_what_leaves_below_its_floor_is_a_deviation():
    story = next(number for number, one in enumerate(STORIES) if one.expected_rule == "phi")
    good = ledger_of(story, fate="delivered", proof={"level": "verified"})
    assert deviations(good) == []
    bad = ledger_of(story, fate="delivered", proof={"level": "encrypted"})
    assert any("below verified" in line for line in deviations(bad))


def test_another_fate_or_rule_is_a_deviation():
    story = next(number for number, one in enumerate(STORIES) if one.expected_rule == "rest")
    lines = deviations(ledger_of(story, fate="bounced"))
    assert any("expected delivered" in line for line in lines)
    assert any("decided by phi" in line for line in lines)


def test_a_held_copy_is_read_from_its_attempt():
    ledger = Ledger()
    ledger.add("m", 0, {"a@b.example": HELD})
    ledger.read(list(records(fate="x"))[:1])
    facts = {"entry": "m.1", "state": "held", "reason": "no portal", "attempt": 3}
    ledger.read([{"kind": "held", "message_id": "m", "facts": facts}])
    (copy,) = ledger.copies
    assert (copy.stands, copy.why, copy.attempts) == (HELD, "no portal", 3)
