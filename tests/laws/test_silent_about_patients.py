"""Law 4: logs, metrics, notices, listings, the audit trail and the store's files hold nothing of a patient.

One run of the whole system, with planted words wherever a person or another server can write any; then every octet
that Postern wrote is searched for them.
"""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import smtplib
import socket
import time
import urllib.error
import urllib.request
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.cli import main
from relay.demo.behaviour import KEYWORDS
from relay.demo.scenario import CLINIC, STORIES
from relay.demo.scenario import SENDER as EHR
from relay.demo.scenario import domains as story_domains
from tests.support.plants import Patient, Plants, of_records
from tests.support.system import children, domain, log_lines, system

pytestmark = [pytest.mark.law, pytest.mark.timeout(180)]

POLICY = """\
policy: silent
floor:
  - { id: phi-floor, when: { phi: likely }, require: verified, overridable: true }
rules:
  - id: never
    when: { recipient: { domain: refused.example } }
    reject: { reason: "This clinic does not write to that domain" }
  - id: waits
    when: { recipient: { domain: held.example } }
    hold: { reason: "recipient domain looks mistyped" }
  - id: plain
    when: { recipient: { domain: plain.example } }
    deliver: { methods: [tls], tls: encrypted }
    override: { floors: phi-floor, reason: "asked for, in a test" }
  - id: rest
    deliver: { methods: [tls, portal], tls: opportunistic, within: 2s, otherwise: hold, warn_after: 1s }
"""

FAULTS = '''
"""Makes parts of Postern fail with texts that quote the message, as an unlucky library would."""
import importlib.abc
import importlib.util
import sys


def after_attempt(module):
    prepare = module.Outgoing.prepare

    def failing(self, message, entry, content, features):
        if b"X-Fault: prepare" in content:
            raise ValueError(f"cannot prepare {content!r} for {entry!r}")
        return prepare(self, message, entry, content, features)

    module.Outgoing.prepare = failing


def after_accept(module):
    keep, decide = module.Acceptor._keep, module.Acceptor._decide_one

    async def failing_keep(self, message, content, *rest):
        if b"X-Fault: keep" in content:
            raise LookupError(f"cannot keep {content!r} of {message!r}")
        return await keep(self, message, content, *rest)

    module.Acceptor._keep = failing_keep


def after_engine(module):
    read = module.ScanEngine.read

    def failing(self, content):
        if b"X-Fault: scan" in content:
            raise UnicodeDecodeError("utf-8", content, 0, 1, "planted")
        return read(self, content)

    module.ScanEngine.read = failing


def after_policy(module):
    copy = module.CompiledPolicy._copy

    def failing(self, facts, recipient):
        if any(name == "x-fault" and value == "policy" for name, value in facts.headers):
            raise KeyError(facts)
        return copy(self, facts, recipient)

    module.CompiledPolicy._copy = failing


def after_connection(module):
    class_ = module.Connection
    drive = class_._drive

    def failing(self, events):
        events = list(events)
        if any("plantfault" in repr(event) for event in events):
            raise RuntimeError(repr(events))
        return drive(self, events)

    class_._drive = failing


PATCHES = {
    "relay.worker.outgoing": after_attempt,
    "relay.intake.accept": after_accept,
    "relay.extract.engine": after_engine,
    "relay.policy.engine": after_policy,
    "relay.intake.connection": after_connection,
}


class Patching(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        patch = PATCHES.pop(name, None)
        if patch is None:
            return None
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            patch(module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Patching())
'''


def echoes(recipient):
    """What many servers answer to RCPT: the mailbox, whole, in part, in quotation marks or bare."""
    local = recipient.partition("@")[0]
    return (
        f"550-5.1.1 <{recipient}>: Recipient address rejected: {local} is unknown here\n"
        f"550 5.1.1 user {local} (mailbox {recipient.upper()}, x={local}=mail.example) does not exist"
    )


def quotes(code, subject="Refused: Subject:"):
    """A content filter that repeats what it dislikes."""

    def final(message):
        seen = message_from_bytes(message.content, policy=default)
        body = seen.get_body(("plain",)).get_content().splitlines()[0]
        names = [seen[name].addresses[0].display_name for name in ("From", "To")]
        return (
            f"{code}-5.7.1 {subject} {seen['Subject']}\n"
            f"{code}-5.7.1 from {names[0]} to {names[1]}\n"
            f"{code} 5.7.1 the text begins with {body} and the sender is {message.sender}"
        )

    return final


DOMAINS = (
    *story_domains(),
    domain("echo.example", recipients=echoes),
    domain("filter.example", final=quotes(554)),
    domain("later.example", final=quotes(451)),
    domain("bare-filter.example", final=quotes(554, subject="rule SPAM hit:")),
    domain("held.example"),
    domain("refused.example"),
    domain("plain.example", certificate="self-signed", keywords=tuple(word for word in KEYWORDS if word != "DSN")),
    domain("dropped.example", drop_at="final"),
    domain("mailecho.example", mail="550 5.7.1 MAIL refused"),
)


class Run:
    """What was sent, and everything that came of it."""

    def __init__(self, site, internet):
        self.site, self.internet, self.plants = site, internet, Plants()
        self.shown: dict[str, bytes] = {}

    # --- sending ---

    def patient(self):
        return Patient.of(self.plants)

    def send(self, to_domain, *, also=(), port="relay", ehlo="", options=(), **how):
        """One message with words of its own; the last answer."""
        patient = self.patient()
        sender, recipient = patient.addresses(to_domain)
        with smtplib.SMTP(*getattr(self.site, port), timeout=60) as client:
            client.ehlo(ehlo or self.plants.word("ehlo"))
            client.mail(sender, [*options, f"ENVID={self.plants.word('envelope_id')}", "RET=FULL"])
            for one in (recipient, *also):
                original = f"ORCPT=rfc822;{self.plants.word('original')}@mail.example"
                client.rcpt(one, ["NOTIFY=SUCCESS,FAILURE,DELAY", original])
            return client.data(patient.message(to_domain, **how))

    def talk(self, *lines, port="relay"):
        """Raw lines, whatever is answered."""
        with socket.create_connection(getattr(self.site, port), timeout=60) as sock, contextlib.suppress(OSError):
            sock.recv(4096)
            for line in lines:
                sock.sendall(line.encode("utf-8", "surrogateescape") + b"\r\n")
                sock.recv(4096)

    def stories(self):
        for number, story in enumerate(STORIES):
            with smtplib.SMTP(*self.site.relay, timeout=60) as client:
                client.sendmail(EHR, list(story.recipients), story.build(number))

    def ordinary(self):
        for name in (
            "mail.example",
            "echo.example",
            "filter.example",
            "bare-filter.example",
            "later.example",
            "held.example",
        ):
            assert self.send(name)[0] == 250
        for name in ("plain.example", "oldclinic.example", "badcert.example", "grey.example", "dropped.example"):
            assert self.send(name)[0] == 250
        assert self.send("mailecho.example")[0] == 250
        assert self.send("mail.example", also=[f"{self.plants.word('recipient')}@refused.example"])[0] == 250
        assert self.send("refused.example")[0] == 550
        assert self.send(f"{self.plants.word('host')}.invalid")[0] == 250

    def odd(self):
        """Malformed, refused and hostile: each a way to an error path."""
        word = self.plants.word
        self.talk(
            f"EHLO {word('ehlo')} {word('ehlo')}",
            f"EHLO {word('ehlo')}",
            f"MAIL FROM:<{word('sender')}@stranger.example>",
            f"MAIL FROM:<{word('sender')}@clinic.example> ODD={word('header')}",
            f"MAIL FROM:<{word('sender')}@clinic.example> ENVID={word('envelope_id')}+0A",
            f"MAIL FROM:<{word('sender')}@clinic.example",
            f"MAIL FROM:<{word('sender')}@clinic.example>",
            f"RCPT TO:<{word('recipient')}>",
            f"RCPT TO:<{word('recipient')}@{word('host')}..example>",
            f"RCPT TO:<{word('recipient')}@mail.example> ORCPT={word('original')} NOTIFY={word('original')}",
            f"RCPT TO:{word('recipient')} {word('recipient')}@mail.example",
            f'RCPT TO:<"{word("recipient")} x"@mail.example>',
            f"VRFY {word('recipient')}",
            f"EXPN {word('recipient')}",
            f"HELP {word('recipient')}",
            f"{word('body')} {word('body')}",
            f"DATA {word('body')}",
            "DATA",
            f"Subject: {word('subject')}\r\n\r\n{word('body')}\n bare\r\n.",
            "RSET",
            f"MAIL FROM:<{word('sender')}@clinic.example> SIZE=99999999999",
            f"MAIL FROM:<{word('sender')}@clinic.example>",
            f"RCPT TO:<{word('recipient')}@mail.example>",
            "DATA",
            "Received: a\r\n" * 120 + f"Subject: {word('subject')}\r\n\r\n{word('body')}\r\n.",
        )
        self.talk(
            f"EHLO {word('ehlo')}",
            "MAIL FROM:<x@clinic.example>",
            f"RCPT TO:<plantfault{word('recipient')}@mail.example>",
        )
        self.talk(f"EHLO {word('ehlo')}", "x" * 70000 + word("body"))
        name = base64.b64encode(f"\0{word('identity')}\0{word('secret')}".encode()).decode()
        self.talk(f"EHLO {word('ehlo')}", f"AUTH PLAIN {name}", port="submission")
        with contextlib.suppress(smtplib.SMTPException), smtplib.SMTP(*self.site.submission, timeout=60) as client:
            client.starttls()
            client.login(self.plants.word("identity"), self.plants.word("secret"))

    def malformed(self):
        """Taken all the same, and hard to read."""
        word = self.plants.word
        heads = (
            f"Content-Type: multipart/mixed; boundary={word('header')}\r\nSubject: =?utf-8?B?{word('subject')}",
            f"Content-Type: text/{word('header')}; charset={word('header')}\r\nSubject: =?x-{word('subject')}?Q?=E4?=",
            f"From: {word('from_name')} {word('sender')}@clinic.example <\r\nTo: {word('to_name')}\r\nSubject: \xe4",
            f"{word('header')} {word('header')}\r\nSubject: \xe4{word('subject')}",
            f"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: {word('header')}",
            f"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\nSubject: {word('subject')}",
        )
        for head in heads:
            with smtplib.SMTP(*self.site.relay, timeout=60) as client:
                client.ehlo("ehr")
                client.mail(f"{word('sender')}@clinic.example")
                client.rcpt(f"{word('recipient')}@echo.example")
                client.data(f"{head}\r\n\r\n--{word('body')}\r\n{word('body')}\r\n".encode("latin-1"))

    def faults(self):
        """Failures inside, with texts that quote the message."""
        for fault, code in (("prepare", 250), ("scan", 250), ("policy", 250), ("keep", 451)):
            assert self.send("mail.example", head={"X-Fault": fault})[0] == code, fault

    async def helper_dies(self):
        """A large message whose helper is gone."""
        for title, pids in children(self.site).items():
            if "extract" in title:
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
        code, _ = await asyncio.to_thread(self.send, "mail.example", lines=6000)
        assert code == 250

    # --- looking ---

    def look(self, name):
        """Everything an operator or a monitor can be shown, kept for the search."""
        self.shown[f"list {name}"] = postern(self.site, "queue", "list", "--json")
        self.shown[f"list as text {name}"] = postern(self.site, "queue", "list")
        self.shown[f"stats {name}"] = postern(self.site, "queue", "stats", "--json")
        host, port = self.site.admin
        for path in ("metrics", "livez", "readyz"):
            with (
                contextlib.suppress(urllib.error.HTTPError),
                urllib.request.urlopen(f"http://{host}:{port}/{path}") as page,
            ):
                self.shown[f"{path} {name}"] = page.read()

    def show_each(self):
        """``queue show`` of every message: it names mailboxes to the operator, and nothing else of a person."""
        listed = json.loads(postern(self.site, "queue", "list", "--json"))["entries"]
        messages = {entry["message"] for entry in listed}
        return {message: postern(self.site, "queue", "show", message, "--json") for message in messages}


def postern(site, *arguments):
    """What a verb prints, on both outputs; run in this process, for there are many."""
    result = CliRunner().invoke(main, arguments, env={"POSTERN_CONFIG": str(site.config)})
    assert result.exit_code == 0, result.output
    return result.output.encode()


def settled(site):
    """Whether nothing new is expected of any copy: each had its first attempt or was held."""
    listed = json.loads(postern(site, "queue", "list", "--json"))["entries"]
    return all(entry["state"] == "held" or entry["attempts"] > 0 for entry in listed)


def wait_settled(site):
    deadline = time.monotonic() + 60
    while not settled(site):
        assert time.monotonic() < deadline, "copies were left untried"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory, one_store):
    """The run, once for all tests; its site has stopped."""
    return asyncio.run(a_whole_run(tmp_path_factory.mktemp("silent"), one_store))


async def a_whole_run(directory, store):
    faults = directory / "faults"
    faults.mkdir()
    (faults / "sitecustomize.py").write_text(FAULTS)
    settings = {"log": {"level": "debug", "format": "json", "file": str(directory / "postern.log")}}
    environment = {"PYTHONPATH": os.pathsep.join([str(faults), str(Path(__file__).parent.parent.parent)])}
    how = {"policy": POLICY, "workers": 2, "settings": settings, "environment": environment, "store": store}
    async with system(directory, *DOMAINS, **how) as (site, internet):
        run = Run(site, internet)
        for step in (run.stories, run.ordinary, run.odd, run.malformed, run.faults):
            await asyncio.to_thread(step)
        await asyncio.to_thread(run.look, "under way")
        copy_files(site, directory / "under way")
        await run.helper_dies()
        await asyncio.to_thread(wait_settled, site)
        await asyncio.to_thread(run.look, "at rest")
        run.queue_show = await asyncio.to_thread(run.show_each)
        copy_files(site, directory / "at rest")
        await site.stop()
        run.shown["audit show"] = postern(site, "audit", "show", "--json")
        run.shown["audit show as text"] = postern(site, "audit", "show")
        run.shown["audit verify"] = postern(site, "audit", "verify")
        run.dsns = internet.peers[CLINIC].messages
        return run


def copy_files(site, target):
    """The files as they are while the system runs: WAL, snapshots, metrics."""
    for name in ("data", "run"):
        for path in (site.directory / name).rglob("*"):
            if path.is_file() and not path.is_symlink():
                copy = target / name / path.relative_to(site.directory / name)
                copy.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(path, copy)


def test_the_run_met_what_it_was_to_meet(whole_run):
    """Guards the tests below against a run in which nothing happened."""
    lines = log_lines(whole_run.site)
    events = {line["event"] for line in lines}
    assert {"accepted", "refused", "delivered", "bounced", "deferred", "held"} <= events
    audit = whole_run.shown["audit show"]
    assert b"policy-error" in audit
    assert b"unreadable: crash" in audit
    errors = [json.dumps(line) for line in lines if line["level"] == "error"]
    for fault in ("ValueError", "LookupError", "RuntimeError"):
        assert any(fault in line for line in errors), f"{fault} was to be provoked"
    assert len(whole_run.dsns) >= 5
    assert any(b"Action: relayed" in message.content for message in whole_run.dsns)
    assert b"[withheld]" in audit
    arrived = whole_run.internet.peers["mail.example"].messages
    everything = whole_run.plants.kinds()
    found = {find.kind for message in arrived for find in everything.search("", message.content)}
    assert found >= {"body", "html", "subject", "from_name", "to_name", "file_name", "header", "ehlo", "recipient"}


def test_the_log_and_stderr_are_silent(whole_run):
    site = whole_run.site
    wanted = whole_run.plants.all_but("host")
    text = b"\n".join(path.read_bytes() for path in site.directory.glob("postern*"))
    assert len(text) > 10_000
    assert wanted.search("log", text) == []


def test_metrics_and_health_are_silent(whole_run):
    wanted = whole_run.plants.all_but("host")
    pages = {name: page for name, page in whole_run.shown.items() if "metrics" in name or "z " in name}
    assert len(pages) >= 3
    assert [find for name, page in pages.items() for find in wanted.search(name, page)] == []


def test_listings_are_silent(whole_run):
    wanted = whole_run.plants.all_but("host")
    pages = {name: page for name, page in whole_run.shown.items() if name.startswith(("list", "stats"))}
    assert [find for name, page in pages.items() for find in wanted.search(name, page)] == []


def test_what_is_shown_of_one_message_names_mailboxes_alone(whole_run):
    wanted = whole_run.plants.all_but("sender", "recipient", "host")
    assert len(whole_run.queue_show) >= 3
    assert [find for name, page in whole_run.queue_show.items() for find in wanted.search(name, page)] == []


def test_the_audit_trail_is_silent(whole_run):
    wanted = whole_run.plants.all_but("host")
    pages = {name: page for name, page in whole_run.shown.items() if name.startswith("audit")}
    assert [find for name, page in pages.items() for find in wanted.search(name, page)] == []
    assert b"fate" in pages["audit show"]


def test_notices_to_senders_hold_addresses_alone(whole_run):
    wanted = whole_run.plants.all_but("sender", "recipient", "original", "envelope_id", "host")
    assert {message.sender for message in whole_run.dsns} == {""}
    found = [find for one in whole_run.dsns for find in wanted.search(str(one.recipients), one.content)]
    assert found == []


def test_files_of_the_running_and_of_the_stopped_system_are_silent(whole_run):
    directory = whole_run.site.directory
    wanted = whole_run.plants.all_but("host")
    octets, found = wanted.search_files(
        directory / "data", directory / "run", directory / "under way", directory / "at rest"
    )
    assert octets > 1_000_000
    assert found == []


def test_the_stories_patients_are_nowhere_either(whole_run):
    names = (
        b"Jane Roe",
        b"jane.roe",
        b"Tom Sample",
        b"00481516",
        b"Ana Muster",
        b"XQA99812345",
        b"metformin",
        b"HbA1c",
    )
    directory = whole_run.site.directory
    pages = list(whole_run.shown.values())
    pages += [path.read_bytes() for path in directory.glob("postern*")]
    pages += [path.read_bytes() for name in ("data", "run") for path in (directory / name).rglob("*") if path.is_file()]
    assert [name for name in names for page in pages if name in page] == []
    assert of_records(whole_run.dsns).count(b"HbA1c") == 0


def test_the_search_finds_what_there_is():
    """The search itself: every form it claims to know, at every place, and nothing where nothing is."""
    plants = Plants()
    word = plants.word("body")
    wanted = plants.kinds()
    assert wanted.search("", b"x" * 1000) == []
    forms = [word.encode(), word.upper().encode(), word.encode("utf-16-le"), word.encode().hex().encode()]
    forms += [base64.b64encode(b"x" * shift + word.encode() + b"y" * 5) for shift in range(6)]
    for form in forms:
        assert wanted.search("", b"\x00\xff" + form + b"\x01"), form
