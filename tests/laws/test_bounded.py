"""Law 6, bounded: every limit has its answer, every network wait a deadline, every state of the queue an expiry."""

import asyncio
import contextlib
import re
import socket
import urllib.request

import pytest

from relay.demo.behaviour import StartTls
from relay.demo.dns import Trouble
from tests.support.system import audit, clinic, domain, drained, end, fates, system, until
from tests.support.system_client import Line, letter, submit

pytestmark = pytest.mark.law

SMALL = {
    "limits": {
        "message_size": "900KiB",
        "recipients": 100,
        "connections": 12,
        "command_line": "1200B",
        "message_line": "1000B",
        "messages_per_connection": 3,
        "commands_per_connection": 110,
        "idle_commands_per_connection": 10,
        "errors_per_connection": 4,
        "header_size": "16KiB",
        "mime_depth": 3,
        "mime_parts": 10,
        "received_hops": 10,
        "bytes_in_flight": "1MiB",
        "queue_size": "1MiB",
        "disk_reserve": "0B",
    }
}


def small_site(tmp_path, store, **listener):
    """Everything small; recipients' servers cannot be found."""
    inside = {
        "name": "inside", "kind": "relay", "tls": "none", "networks": ["127.0.0.0/8"],
        "trust_networks": {"127.0.0.0/8": "ehr"}, "max_connections_per_address": 8,
    }  # fmt: skip
    return system(tmp_path, settings=SMALL | {"dns": {"failure_ttl": "1s"}}, inside=inside | listener, store=store)


# --- what intake takes in ---------------------------------------------------


def declared_size(address):
    with Line(address) as line:
        line.say("EHLO test.clinic.example")
        return line.say("MAIL FROM:<ehr@clinic.example> SIZE=1100000")


def real_size(address):
    return submit(address, letter(b"x" * 70 + b"\r\n" + b"lift\r\n" * 160_000))


def recipients(address):
    with Line(address) as line:
        last = line.begin(*(f"box{number}@mail.example" for number in range(101)))
        assert line.data(letter()).startswith("250"), "those that were taken are served"
        return last


def command_line(address):
    with Line(address) as line:
        answer = line.say("NOOP " + "x" * 1300)
        assert line.say("NOOP").startswith("250"), "and the next command is heard"
        return answer


def message_line(address):
    return submit(address, letter(b"x" * 1100))


def header_size(address):
    return submit(address, letter(b"text", *(b"X-%d: %s" % (number, b"y" * 900) for number in range(20))))


def hops(address):
    return submit(address, letter(b"text", *(b"Received: from a by b%d" % number for number in range(11))))


def errors(address):
    with Line(address) as line:
        answers = [line.say("WHAT") for _ in range(5)]
    return next(answer for answer in answers if not answer.startswith("500"))


def idle_commands(address):
    with Line(address) as line:
        return [line.say("NOOP") for _ in range(11)][-1]


def commands(address):
    with Line(address) as line:
        for _ in range(2):
            line.begin(*(f"box{number}@mail.example" for number in range(50)))
            line.data(letter())
        answers = [
            line.say("MAIL FROM:<ehr@clinic.example>"),
            *(line.say("RCPT TO:<a@mail.example>") for _ in range(9)),
        ]
        return next(answer for answer in answers if not answer.startswith("250"))


def messages(address):
    with Line(address) as line:
        for _ in range(3):
            line.begin()
            assert line.data(letter()).startswith("250")
        return line.say("MAIL FROM:<ehr@clinic.example>")


def connections_of_one_address(address):
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(Line(address)) for _ in range(9)]
        assert all(line.greeting.startswith("220") for line in lines[:8])
        return lines[8].greeting


def connections_of_all(address):
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(Line(address, source=f"127.0.0.{10 + number % 4}")) for number in range(13)]
        assert all(line.greeting.startswith("220") for line in lines[:12])
        return lines[12].greeting


def begin_one(address):
    with Line(address) as line:
        line.say("EHLO test.clinic.example")
        return line.say("MAIL FROM:<ehr@clinic.example>")


def octets_in_flight(address):
    """While one client is sending much, another is told to wait; then no more."""
    with Line(address) as line:
        line.begin()
        line.say("DATA")
        line.send(letter(b"the lift\r\n" * 90_000))
        # The relay reads what was sent while it answers others: it is asked until it has read enough.
        answer = next((one for _ in range(200) if (one := begin_one(address)).startswith("452")), "never refused")
        line.send(b"\r\n.\r\n")
        assert line.reply().startswith("250")
    assert begin_one(address).startswith("250")
    return answer


LIMITS = {
    declared_size: "552 5.3.4",
    real_size: "552 5.3.4",
    recipients: "452 4.5.3",
    command_line: "500 5.5.2",
    message_line: "554 5.6.0",
    header_size: "552 5.3.4",
    hops: "554 5.4.6",
    octets_in_flight: "452 4.3.1",
    errors: "421 4.7.0 Too many errors",
    idle_commands: "421 4.7.0 Too many commands without a message",
    commands: "421 4.7.0 Too many commands in one session",
    messages: "421 4.7.0 Enough messages",
    connections_of_one_address: "421 4.7.0 Too many connections from your address",
    connections_of_all: "421 4.3.2",
}


def nobody_is_connected(site):
    """Whether the relay has met the end of every connection of the probe before: each counts until then."""
    with urllib.request.urlopen("http://{}:{}/metrics".format(*site.admin), timeout=60) as answer:
        text = answer.read().decode()
    figures = re.findall(r"^postern_connections_open\{[^}]*\} (\S+)$", text, re.MULTILINE)
    return not any(float(figure) for figure in figures)


async def test_every_limit_of_intake_has_its_answer(tmp_path, store):
    async with small_site(tmp_path, store) as (site, net):
        for probe, answer in LIMITS.items():
            got = await asyncio.to_thread(probe, site.relay)
            assert got.startswith(answer), f"{probe.__name__}: {got}"
            await until(lambda: nobody_is_connected(site))
            assert (await asyncio.to_thread(submit, site.relay, letter())).startswith("250"), probe.__name__
            await until(lambda: nobody_is_connected(site))
        deep = b"".join(
            b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (depth, depth) for depth in range(6)
        )
        wide = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\npart\r\n" * 20 + b"--b--\r\n"
        for nested in (deep, wide):
            assert (await asyncio.to_thread(submit, site.relay, b"From: ehr@clinic.example\r\n" + nested)).startswith(
                "250"
            )
        await drained(site)  # what was large before would fill it already
        await check_queue_size(site, net)
        await end(site)
        kinds = {kind for one in audit(site) if one["kind"] == "accepted" for kind in one["facts"]["findings"]}
        assert {"unreadable: depth", "unreadable: parts"} <= kinds


async def check_queue_size(site, net):
    """Mail that cannot leave fills the queue; what is over its size is refused, and taken again once it is empty."""
    net.dns.set("away.example", Trouble.SERVFAIL)
    content = letter(b"the lift\r\n" * 9_000)
    answers = [await asyncio.to_thread(submit, site.relay, content, "box@away.example") for _ in range(14)]
    taken = [answer for answer in answers if answer.startswith("250")]
    assert 8 <= len(taken) < 14
    assert all(answer.startswith("452 4.3.1") for answer in answers[len(taken) :])
    net.dns.set("away.example", {"MX": ["10 mx.mail.example."]})
    await drained(site)
    assert (await asyncio.to_thread(submit, site.relay, content)).startswith("250")


async def test_a_silent_client_is_given_up(tmp_path, usual_store):
    waits = {"idle_timeout": "3s", "command_timeout": "3s", "data_timeout": "3s"}

    def silent(address):
        with Line(address) as line:
            return line.reply()

    def half_a_command(address):
        with Line(address) as line:
            line.send(b"EHL")
            return line.reply()

    def half_a_message(address):
        with Line(address) as line:
            line.begin()
            line.say("DATA")
            line.send(letter())
            return line.reply()

    async with small_site(tmp_path, usual_store, **waits) as (site, _):
        answers = await asyncio.gather(
            *(asyncio.to_thread(probe, site.relay) for probe in (silent, half_a_command, half_a_message))
        )
        assert [answer[:9] for answer in answers] == ["421 4.4.2"] * 3


# --- what delivery waits for ------------------------------------------------

STALLS = ("banner", "ehlo", "starttls", "mail", "rcpt", "data", "final")
WAITS = dict.fromkeys(("connect", "tls", "greeting", "ehlo", "mail", "rcpt", "data", "block", "final", "quit"), "500ms")
PATIENCE = """\
policy: patience
rules:
  - id: held
    when: { recipient: { domain: held.example } }
    deliver: { methods: [portal], otherwise: hold, expire: 5s }
  - id: rest
    deliver: { methods: [tls], tls: encrypted, expire: 5s }
"""


def stalling():
    """A domain for each place where a server can fall silent."""
    return (
        *(domain(f"{stage}.example", stall_at=stage) for stage in STALLS),
        domain("tls.example", starttls=StartTls.STALLS),
        domain("endless.example", banner="220-" + "\n220-".join(["on and on"] * 100_000)),
    )


@contextlib.contextmanager
def unreachable():
    """An address that takes no connection and refuses none: its backlog is full."""
    with contextlib.ExitStack() as stack:
        deaf = stack.enter_context(socket.create_server(("127.0.2.1", 0), backlog=0))
        for _ in range(3):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(deaf.getsockname())
        yield deaf.getsockname()


@pytest.mark.timeout(120)
async def test_every_wait_of_delivery_and_every_state_of_the_queue_ends(tmp_path, store):
    settings = {
        "delivery": {"timeouts": WAITS, "attempt_deadline": "3s", "retry": {"first": "1s", "max": "2s"}},
        "dsn": {"postmaster": "postmaster@clinic.example"},
        "metrics": {"recipient_domains": 3},
    }
    with unreachable() as (host, port):
        route = {"name": "deaf", "domains": ["deaf.example"], "hosts": [f"{host}:{port}"], "internal": True}
        internet = (clinic(), *stalling())
        how = {"policy": PATIENCE, "settings": settings, "routes": [route], "store": store}
        async with system(tmp_path, *internet, **how) as (site, net):
            net.dns.set("silent-dns.example", Trouble.TIMEOUT)
            names = [one.name for one in net.domains[1:]] + ["deaf.example", "silent-dns.example", "held.example"]
            for name in names:
                assert (await asyncio.to_thread(submit, site.relay, letter(), f"box@{name}")).startswith("250")
            await drained(site)
            text = await asyncio.to_thread(scrape, site)
            await end(site)
            check_expired(site, names)
            check_labels(text)


def scrape(site):
    with urllib.request.urlopen("http://{}:{}/metrics".format(*site.admin), timeout=60) as answer:
        return answer.read().decode()


def check_expired(site, names):
    """Every copy was given up when its server fell silent, tried again, and ended as expired in time."""
    records = audit(site)
    told = fates(records)
    accepted = {
        record["facts"]["recipients"][0].partition("@")[2]: record["message_id"]
        for record in records
        if record["kind"] == "accepted"
    }
    assert set(accepted) == set(names)
    for name, message_id in accepted.items():
        assert [fate["fate"] for fate in told[message_id, 0]] == ["expired"], name
        tried = [one for one in records if one["message_id"] == message_id and one["kind"] == "attempt"]
        assert tried or name == "held.example", name


def check_labels(text):
    seen = set(re.findall(r'recipient_domain="([^"]*)"', text))
    assert "other" in seen
    assert len(seen) <= 4, seen
