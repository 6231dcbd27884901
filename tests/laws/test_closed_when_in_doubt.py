"""Law 3: what fails, times out or cannot be read raises protection or holds the message; it never lowers protection.

Every test sends a harmless message to a server without TLS: while all is well it goes there in the clear
(``test_while_all_is_well...``), and with anything in doubt it must not.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from dataclasses import replace

import pytest

from relay.config.keyfiles import create_ring, load_ring, ring_path, write_private
from relay.core.change import Settle
from relay.core.decision import MethodName
from relay.core.entry import EntryState
from relay.core.errors import CorruptError, ProblemsError, StoreError, StoreFullError, StoreUnavailableError
from relay.core.level import Level
from relay.core.ports import ScanReport
from relay.demo.behaviour import StartTls
from relay.demo.dns import Trouble
from relay.extract.wire import frame
from relay.protect.keyring import KeyRing, dump_ring
from tests.support.composed import composed
from tests.support.system import domain, until

pytestmark = pytest.mark.law

BARE = "bare.example"
TO = f"office@{BARE}"
LETTER = (
    b"From: ehr@clinic.example\r\nTo: office@bare.example\r\nSubject: Parking\r\n\r\n"
    b"The car park is closed on Monday.\r\n"
)
BY_HELPER = {"scan": {"inline_limit": "0", "timeout": "500ms"}}
"""Every message goes to the helper, which has half a second."""


def bare(name=BARE, **behaviour):
    return domain(name, certificate="none", starttls=StartTls.ABSENT, **behaviour)


def is_held(entry):
    return entry.state is EntryState.HELD


async def sent_in_the_clear(it):
    (message,) = await it.internet.peers[BARE].wait_messages(1, timeout=60)
    assert message.clear
    await it.wait_gone()


async def release(it, entry):
    """What ``postern queue release`` does to an entry."""
    claimed = await it.store.acquire(entry.id)
    now = time.time()
    released = replace(
        claimed.entry, state=EntryState.READY, created_at=now, due_at=now, tls_failures=0, reason="released"
    )
    await it.store.commit((Settle(entry=released),))


# --- while all is well ---


async def test_while_all_is_well_the_letter_goes_in_the_clear(tmp_path, store):
    async with composed(tmp_path, bare(), store=store) as it:
        assert (await it.send(TO, LETTER))[0] == 250
        await sent_in_the_clear(it)
        assert await it.alerts() == []


@contextlib.contextmanager
def real_helper(it):
    """The extraction helper as a process; ends with the block."""
    command = it.site.command("run", "--role", "extract", "--name", "extract-1")
    process = subprocess.Popen(command, env=it.site.environment(), stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def helper_socket(it):
    return it.site.directory / "run" / "extract.sock"


async def test_with_the_helper_well_the_letter_goes_in_the_clear_and_with_the_helper_killed_it_does_not(
    tmp_path, store
):
    async with composed(tmp_path, bare(), settings={"scan": {"inline_limit": "0"}}, store=store) as it:
        with real_helper(it) as process:
            await until(helper_socket(it).exists)
            assert (await it.send(TO, LETTER))[0] == 250
            await sent_in_the_clear(it)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            assert (await it.send(TO, LETTER))[0] == 250
            entry = await it.wait_entry(is_held)
            assert entry.treatment.floor is Level.VERIFIED
            assert len(it.internet.peers[BARE].messages) == 1


# --- the scan ---


class Raises:
    """A part that fails whatever it is asked."""

    def __init__(self, error=RuntimeError):
        self._error = error

    def __getattr__(self, name):
        def fail(*_args, **_named):
            raise self._error("planted: Jane Roe")

        return fail

    async def scan(self, content: bytes, client: str = "") -> ScanReport:
        raise self._error("planted: Jane Roe")


@pytest.mark.parametrize("error", [RuntimeError, UnicodeError, RecursionError, MemoryError, TimeoutError, OSError])
async def test_a_scanner_that_raises_holds_and_alerts(tmp_path, error, usual_store):
    async with composed(tmp_path, bare(), store=usual_store) as it:
        it.replace_part(scanner=Raises(error))
        assert (await it.send(TO, LETTER))[0] == 250
        entry = await it.wait_entry(is_held)
        assert "scan failed" in entry.reason
        assert await it.alerts() == ["scan-failed"]
        await release(it, entry)
        await it.wait_entry(lambda one: one.tls_failures > 0)
        assert it.heard(BARE) == [], "released, it still needs what an unreadable message needs"
        assert "Jane" not in it.log()


async def hangs(reader, writer):
    await reader.read(-1)


async def hangs_half_way(reader, writer):
    writer.write((1000).to_bytes(4, "big") + b'{"verdict":')
    await reader.read(-1)


async def closes(reader, writer):
    await reader.read(10)


async def closes_half_way(reader, writer):
    await reader.read(10)
    writer.write((1000).to_bytes(4, "big") + b'{"verdict":')
    await writer.drain()


def answers(payload):
    async def answer(reader, writer):
        await reader.read(1)
        writer.write(payload)
        await writer.drain()

    return answer


VERDICT = b'{"phi":0,"subject_phi":0,"findings":[],"truncated":false,"engine":"x"}'
HELPERS = {
    "hangs": hangs,
    "hangs half-way": hangs_half_way,
    "closes": closes,
    "closes half-way": closes_half_way,
    "answers junk": answers(frame(b"\xff\x00\x80 not JSON")),
    "answers an empty object": answers(frame(b"{}")),
    "answers a list": answers(frame(b"[]")),
    "answers nothing of length 0": answers(frame(b"")),
    "answers an unknown verdict": answers(frame(b'{"verdict":' + VERDICT.replace(b'"phi":0', b'"phi":9', 1) + b"}")),
    "answers without attachments": answers(frame(b'{"verdict":' + VERDICT + b',"subject":"","headers":[]}')),
    "promises too much": answers(b"\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("helper", [*HELPERS, "is not there"])
async def test_a_helper_that_fails_raises_protection(tmp_path, helper, usual_store):
    async with composed(tmp_path, bare(), settings=BY_HELPER, store=usual_store) as it:
        async with one_helper(it, HELPERS.get(helper)):
            assert (await it.send(TO, LETTER))[0] == 250
        entry = await it.wait_entry(lambda one: one.tls_failures > 0)
        assert entry.treatment.rule == "clinical-attachment"
        assert entry.treatment.floor is Level.VERIFIED
        accepted = next(event for event in await it.events() if event.kind == "accepted")
        assert [kind for kind in accepted.facts["findings"] if kind.startswith("unreadable")]
        assert it.heard(BARE) == []


@contextlib.asynccontextmanager
async def one_helper(it, answer):
    if answer is None:
        yield
        return
    tasks = set()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        try:
            await answer(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, str(helper_socket(it)))
    try:
        yield
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


# --- the policy ---


async def test_a_policy_that_raises_at_acceptance_holds_at_the_highest_floor_and_alerts(tmp_path, store):
    async with composed(tmp_path, bare(), store=store) as it:
        it.replace_part(policy=Raises())
        assert (await it.send(TO, LETTER))[0] == 250
        entry = await it.wait_entry(is_held)
        assert entry.treatment.floor is Level.AUTHENTICATED
        assert await it.alerts() == ["policy-error"]
        await release(it, entry)
        await it.wait_entry(lambda one: one.tls_failures > 0)
        assert it.heard(BARE) == []
        assert "Jane" not in it.log()


async def test_a_condition_that_raises_holds_and_alerts(tmp_path, store):
    async with composed(tmp_path, bare(), store=store) as it:
        policy = it.worker._policy.current

        def fail(copy):
            raise ZeroDivisionError

        first, *others = policy._rule_checks
        policy._rule_checks = ((first[0], fail), *others)
        assert (await it.send(TO, LETTER))[0] == 250
        entry = await it.wait_entry(is_held)
        assert entry.treatment.floor is Level.AUTHENTICATED
        assert await it.alerts() == ["policy-error"]
        assert it.heard(BARE) == []


class NewPolicy(Raises):
    """A policy taken up after acceptance that cannot be asked."""

    version = "f" * 64


async def test_a_policy_that_raises_at_the_attempt_defers(tmp_path, store):
    async with composed(tmp_path, bare(mail="451 4.3.0 Later"), store=store) as it:
        assert (await it.send(TO, LETTER))[0] == 250
        await it.wait_entry(lambda one: one.attempts > 0)
        it.worker._policy.current = NewPolicy()
        before = (await it.entries())[0].attempts
        peer = it.internet.peers[BARE]
        peer.behaviour = replace(peer.behaviour, mail="250 2.1.0 Ok")
        entry = await it.wait_entry(lambda one: one.attempts >= before + 2)
        assert "error of our own" in entry.reason
        assert peer.messages == []
        assert "Jane" not in it.log()


# --- methods and look-ups ---


class BrokenMethod:
    name = MethodName.TLS

    async def render(self, entry, message, content):
        raise ValueError("planted: Jane Roe")


async def test_a_method_that_raises_defers(tmp_path, store):
    async with composed(tmp_path, bare(), store=store) as it:
        it.worker._attempter._methods = {MethodName.TLS: BrokenMethod()}
        assert (await it.send(TO, LETTER))[0] == 250
        await it.wait_entry(lambda one: one.attempts >= 2)
        assert it.heard(BARE) == []
        assert "Jane" not in it.log()


@pytest.mark.parametrize(
    "trouble", [Trouble.SERVFAIL, Trouble.REFUSED, Trouble.TIMEOUT], ids=lambda trouble: trouble.value
)
@pytest.mark.parametrize("which", ["MX", "A", "all"])
async def test_a_look_up_that_fails_defers_and_guesses_no_host(tmp_path, trouble, which, usual_store):
    quick = {"dns": {"timeout": "100ms", "lifetime": "200ms"}}
    async with composed(tmp_path, bare(), settings=quick, store=usual_store) as it:
        dns, address = it.internet.dns, it.internet.peers[BARE].host
        host = f"mx.{BARE}"
        if which == "MX":  # an address of the domain's own must not stand in for an MX that cannot be known
            dns.set(BARE, {"MX": trouble, "A": [address]})
        elif which == "A":
            dns.set(host, {"A": trouble})
        else:
            dns.set(BARE, trouble)
            dns.set(host, trouble)
        assert (await it.send(TO, LETTER))[0] == 250
        entry = await it.wait_entry(lambda one: one.attempts > 0)
        assert "DNS" in entry.reason
        assert it.internet.peers[BARE].connections == 0


async def test_a_vouching_that_raises_defers(tmp_path, store):
    async with composed(tmp_path, bare(), store=store) as it:
        it.worker._attempter._connector._vouching = Raises()
        assert (await it.send(TO, LETTER))[0] == 250
        await it.wait_entry(lambda one: one.attempts > 0)
        assert it.heard(BARE) == []
        assert "Jane" not in it.log()


# --- the store ---


REFUSALS = {
    StoreUnavailableError: 451,
    StoreError: 451,
    StoreFullError: 452,
    CorruptError: 451,
    RuntimeError: 451,
    OSError: 451,
}


class FailingStore:
    """The worker's store, save that it keeps nothing."""

    def __init__(self, store, error):
        self._store, self._error = store, error

    async def commit(self, unit):
        raise self._error("planted: Jane Roe")

    def __getattr__(self, name):
        return getattr(self._store, name)


@pytest.mark.parametrize("error", list(REFUSALS), ids=lambda error: error.__name__)
async def test_a_store_that_cannot_keep_is_answered_4yz_and_nothing_is_sent(tmp_path, error, store):
    async with composed(tmp_path, bare(), store=store) as it:
        store = it.store
        it.replace_part(store=FailingStore(store, error))
        code, text = await it.send(TO, LETTER)
        assert code == REFUSALS[error]
        assert "Jane" not in text
        assert await it.entries() == []
        it.replace_part(store=store)
        assert (await it.send(TO, LETTER))[0] == 250
        await sent_in_the_clear(it)
        assert len(it.internet.peers[BARE].messages) == 1


# --- keys ---


async def test_mail_whose_key_is_missing_is_set_aside_and_delivered_when_the_key_is_back(tmp_path, store):
    async with composed(tmp_path, bare(mail="451 4.3.0 Later"), store=store) as it:
        assert (await it.send(TO, LETTER))[0] == 250
        await it.wait_entry(lambda one: one.attempts > 0)
        keys = tmp_path / "keys"
        right = load_ring(keys).rotated(now=time.time(), random=os.urandom)
        await it.stop()
        write_private(ring_path(keys), dump_ring(right))
        await it.start()  # from here on the store belongs to the ring's second key
        await it.stop()
        write_private(ring_path(keys), dump_ring(right.without(1)))
        peer = it.internet.peers[BARE]
        peer.behaviour = replace(peer.behaviour, mail="250 2.1.0 Ok")
        await it.start()
        await until(lambda: "entry_damaged" in it.log())
        assert peer.messages == []
        await it.stop()
        write_private(ring_path(keys), dump_ring(right))
        await it.start()
        await sent_in_the_clear(it)
        assert len(peer.messages) == 1


async def test_a_ring_of_another_installation_touches_nothing(tmp_path, store):
    async with composed(tmp_path, bare(mail="451 4.3.0 Later"), store=store) as it:
        assert (await it.send(TO, LETTER))[0] == 250
        await it.wait_entry(lambda one: one.attempts > 0)
        await it.stop()
        keys = tmp_path / "keys"
        right = load_ring(keys)
        ring_path(keys).unlink()
        create_ring(keys, KeyRing.create(now=time.time(), random=os.urandom))
        with pytest.raises(ProblemsError, match="did not seal"):
            await it.start()
        assert "entry_damaged" not in it.log()
        write_private(ring_path(keys), dump_ring(right))
        peer = it.internet.peers[BARE]
        peer.behaviour = replace(peer.behaviour, mail="250 2.1.0 Ok")
        await it.start()
        await sent_in_the_clear(it)
        assert len(peer.messages) == 1


async def test_without_a_readable_key_ring_nothing_starts(tmp_path, store):
    async with composed(tmp_path, bare(), start=False, store=store) as it:
        ring_path(tmp_path / "keys").chmod(0o644)
        with pytest.raises(ProblemsError, match="others"):
            await it.start()
        ring_path(tmp_path / "keys").chmod(0o600)
        ring_path(tmp_path / "keys").unlink()
        with pytest.raises(ProblemsError, match="no key ring"):
            await it.start()
