"""What only a real connection shows: TLS, deadlines, limits, drain, faults, real clients."""

import asyncio
import contextlib
import smtplib
import ssl
import subprocess
from ipaddress import ip_network

import pytest

from relay.core.errors import ProblemsError
from relay.intake.limits import ByteBudget, ConnectionCount, ConnectionLimits
from relay.intake.tls import server_context
from relay.smtp.server_limits import SessionLimits
from tests.support.intake import HOSTNAME, SECRET, Taker, client, listening, options, rooms
from tests.support.loops import both_loops
from tests.support.peers import require
from tests.support.turns import until

AUTH = SessionLimits(hostname=HOSTNAME, starttls=True, require_tls=True, auth=True)
GROUP = b"HELO ehr\r\nMAIL FROM:<ehr@clinic.example>\r\nRCPT TO:<a@mail.example>\r\nDATA\r\n"
MESSAGE = "From: ehr@clinic.example\r\nSubject: x\r\n\r\nbody\r\n"


@pytest.fixture(scope="module")
def issued(authority):
    return authority.issue("relay.example", addresses=["127.0.0.1"])


@pytest.fixture
def context(issued):
    return server_context(issued.cert, issued.key)


@contextlib.asynccontextmanager
async def connected(listener, **tls):
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, **tls)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


async def lines(reader, count):
    return [(await asyncio.wait_for(reader.readline(), 60)).decode().rstrip() for _ in range(count)]


async def rest(reader):
    return (await asyncio.wait_for(reader.read(), 60)).decode()


# --- TLS ---


@pytest.mark.parametrize("mechanism", ["plain", "login"])
@both_loops
async def test_smtplib_with_starttls_and_auth(context, authority, mechanism):
    taker = Taker()

    def send(port):
        with smtplib.SMTP("127.0.0.1", port, local_hostname="ehr") as smtp:
            smtp.starttls(context=ssl.create_default_context(cafile=authority.root))
            smtp.ehlo()
            smtp.user, smtp.password = "ehr", SECRET
            smtp.auth(mechanism.upper(), getattr(smtp, f"auth_{mechanism}"))
            smtp.sendmail("ehr@clinic.example", ["a@mail.example"], MESSAGE)

    async with listening(options(limits=AUTH), taker, tls=context) as listener:
        await asyncio.to_thread(send, listener.port)
    ((session, _, content, known),) = taker.taken
    assert (session.client, session.identity, session.tenant, known.name) == ("ehr", "ehr", "clinic", "ehr")
    assert session.tls_version == "TLSv1.3"
    assert session.tls_cipher.startswith("TLS_")
    assert content == MESSAGE.encode()


@both_loops
async def test_implicit_tls(context, authority):
    taker = Taker()
    limits = SessionLimits(hostname=HOSTNAME, auth=True)

    def send(port):
        trust = ssl.create_default_context(cafile=authority.root)
        with smtplib.SMTP_SSL("127.0.0.1", port, context=trust) as smtp:
            smtp.login("ehr", SECRET)
            smtp.sendmail("ehr@clinic.example", ["a@mail.example"], MESSAGE)

    async with listening(options(limits=limits, implicit_tls=True), taker, tls=context) as listener:
        await asyncio.to_thread(send, listener.port)
    assert taker.taken[0][0].tls_version == "TLSv1.3"


@both_loops
async def test_an_old_tls_version_is_refused(context, authority):
    async with listening(options(limits=SessionLimits(hostname=HOSTNAME), implicit_tls=True), tls=context) as listener:
        old = ssl.create_default_context(cafile=authority.root)
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", listener.port, ssl=old, server_hostname="relay.example")
        await listener.drain(5)
        assert listener.metrics.counts["tls_handshakes_failed"] == 1


@both_loops
async def test_a_peer_that_never_shakes_hands_is_cut_off(context):
    slow = options(limits=SessionLimits(hostname=HOSTNAME), implicit_tls=True, command_timeout=0.05)
    async with listening(slow, tls=context) as listener, connected(listener) as (reader, _):
        assert await rest(reader) == ""


def test_a_key_of_another_certificate_is_one_clear_error(authority, issued):
    other = authority.issue("other.example")
    with pytest.raises(ProblemsError, match="does not belong"):
        server_context(issued.cert, other.key)
    with pytest.raises(ProblemsError, match="No such file"):
        server_context(issued.cert.with_name("missing.pem"), issued.key)


def test_a_listener_that_wants_tls_needs_a_certificate():
    from relay.intake.clients import ClientDirectory
    from relay.intake.listener import Listener

    with pytest.raises(ValueError, match="no certificate"):
        Listener(options(limits=AUTH), rooms(Taker()), ClientDirectory([]))


# --- who may ---


@both_loops
async def test_a_peer_outside_the_networks_is_turned_away():
    elsewhere = options(networks=(ip_network("10.0.0.0/8"),))
    async with listening(elsewhere) as listener, connected(listener) as (reader, _):
        assert await rest(reader) == "554 5.7.1 Connections from your address are not accepted here\r\n"


@both_loops
async def test_no_network_is_trusted_by_itself():
    async with listening(options(trusted=())) as listener, connected(listener) as (reader, writer):
        writer.write(b"HELO x\r\nMAIL FROM:<ehr@clinic.example>\r\n")
        assert (await lines(reader, 3))[2] == "550 5.7.1 No client is configured for your address"


@both_loops
async def test_connections_are_bounded_by_address_and_in_all():
    few = options(connections=ConnectionLimits(total=2, per_address=1))
    async with listening(few) as listener, connected(listener) as (reader, _):
        await lines(reader, 1)
        async with connected(listener) as (second, _):
            assert await rest(second) == "421 4.7.0 Too many connections from your address\r\n"
    taker = Taker()
    shared = rooms(taker, connections=ConnectionCount(ConnectionLimits(total=1, per_address=None)))
    async with listening(accept=taker, shared=shared) as listener, connected(listener) as (reader, _):
        await lines(reader, 1)
        async with connected(listener) as (second, _):
            assert await rest(second) == "421 4.3.2 Too many connections; try again later\r\n"


async def turned_away(listener, clear):
    """A connection that must get no place."""
    async with connected(listener) as (reader, _):
        assert await rest(reader) == clear


async def greeted(listener, **tls):
    """Come again until there is a place, and read the greeting."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
                async with connected(listener, **tls) as (reader, _):
                    line = await reader.readuntil(b"\r\n")
                    if line.startswith(b"220"):
                        return
            await asyncio.sleep(0)


@both_loops
async def test_handshakes_that_stall_count_before_they_end(context, authority):
    limits, two = SessionLimits(hostname=HOSTNAME), ConnectionLimits(total=50, per_address=2)
    trust = ssl.create_default_context(cafile=authority.root)
    shared = rooms(Taker(), connections=ConnectionCount(ConnectionLimits(total=50, per_address=3)))
    implicit, plain = options(limits=limits, implicit_tls=True, connections=two), options(name="plain", limits=limits)
    async with (
        listening(implicit, tls=context, shared=shared) as listener,
        listening(plain, shared=shared) as other,
    ):
        async with connected(listener) as (_, stalled):
            stalled.write(b"\x16\x03\x01")
            async with connected(listener):
                await turned_away(listener, "")
                await turned_away(listener, "")
                assert listener.metrics.labelled["connections_refused", (("code", "421"), ("listener", "test"))] == 2
                async with connected(other) as (reader, _):
                    assert (await lines(reader, 1))[0].startswith("220")
                    await turned_away(other, "421 4.7.0 Too many connections from your address\r\n")
            await greeted(listener, ssl=trust, server_hostname="relay.example")
        for _ in range(5):
            await greeted(listener, ssl=trust, server_hostname="relay.example")


@both_loops
async def test_a_handshake_that_takes_too_long_gives_its_place_back(context):
    limits = SessionLimits(hostname=HOSTNAME)
    shared = rooms(Taker(), connections=ConnectionCount(ConnectionLimits(total=50, per_address=1)))
    slow, plain = options(limits=limits, implicit_tls=True, command_timeout=0.05), options(name="plain", limits=limits)
    async with (
        listening(slow, tls=context, shared=shared) as listener,
        listening(plain, shared=shared) as other,
    ):
        async with connected(listener) as (reader, _):
            assert await rest(reader) == ""
        await greeted(other)


@both_loops
async def test_starttls_that_stalls_keeps_its_place(context, authority):
    limits = SessionLimits(hostname=HOSTNAME, starttls=True)
    two = options(limits=limits, connections=ConnectionLimits(total=50, per_address=2))
    async with listening(two, tls=context) as listener, contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            reader, writer = await stack.enter_async_context(connected(listener))
            writer.write(b"EHLO ehr\r\nSTARTTLS\r\n")
            await reader.readuntil(b"220 2.0.0")
        await turned_away(listener, "421 4.7.0 Too many connections from your address\r\n")


@both_loops
async def test_client_limits_hold():
    small = client(max_size=30, max_recipients=1, messages_per_minute=2)
    async with listening(clients=[small]) as listener, connected(listener) as (reader, writer):
        writer.write(b"EHLO x\r\nMAIL FROM:<ehr@clinic.example>\r\nRCPT TO:<a@x.example>\r\nRCPT TO:<b@x.example>\r\n")
        said = await lines(reader, 11)
        assert "250-SIZE 30" in said
        assert said[-1].startswith("452 4.5.3")
        writer.write(b"DATA\r\n" + b"x" * 30 + b"\r\n.\r\nMAIL FROM:<ehr@clinic.example>\r\nRSET\r\n")
        said = await lines(reader, 4)
        assert said[1].startswith("552 5.3.4")
        writer.write(b"MAIL FROM:<ehr@clinic.example>\r\n")
        assert (await lines(reader, 1))[0].startswith("450 4.7.1")


# --- bytes in flight ---


@both_loops
async def test_bytes_in_flight_are_bounded_and_given_back():
    taker = Taker()
    shared = rooms(taker, budget=ByteBudget(1000))
    async with listening(accept=taker, shared=shared) as listener, connected(listener) as (reader, writer):
        writer.write(GROUP)
        await lines(reader, 5)
        writer.write(b"x" * 2000)
        await writer.drain()
        writer.write(b"\r\n.\r\n")
        assert (await lines(reader, 1))[0].startswith("452 4.3.1")
        writer.write(GROUP + b"x\r\n.\r\n")
        assert (await lines(reader, 5))[4].startswith("250 2.0.0")
        assert shared.budget.used == 0
    assert len(taker.taken) == 1


@both_loops
async def test_no_message_is_begun_when_much_is_in_flight():
    shared = rooms(Taker(), budget=ByteBudget(100))
    shared.budget.take(90)
    async with listening(shared=shared) as listener, connected(listener) as (reader, writer):
        writer.write(GROUP)
        assert (await lines(reader, 3))[2].startswith("452 4.3.1")


# --- deadlines ---


@pytest.mark.parametrize(
    ("changes", "sent"),
    [
        ({"idle_timeout": 0.05}, b""),
        ({"command_timeout": 0.05}, b"NOO"),
        ({"data_timeout": 0.05}, GROUP + b"x"),
        ({"data_idle_timeout": 0.05}, GROUP + b"x"),
    ],
)
@both_loops
async def test_a_silent_peer_is_told_and_left(changes, sent):
    async with listening(options(**changes)) as listener, connected(listener) as (reader, writer):
        writer.write(sent)
        said = await rest(reader)
        assert said.endswith("421 4.4.2 Timed out waiting for you\r\n")
        assert listener.metrics.counts["intake_timeouts"] == 1


@both_loops
async def test_a_peer_that_never_reads_is_cut_off():
    limits = SessionLimits(hostname=HOSTNAME, max_idle_commands=10**6, max_commands=10**6)
    slow = options(limits=limits, command_timeout=0.2)
    async with listening(slow) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, limit=1)
        writer.transport.pause_reading()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(flood(writer), 60)
        assert reader is not None
        writer.transport.abort()


async def flood(writer):
    while True:
        writer.write(b"HELP\r\n" * 1000)
        await writer.drain()


# --- drain and faults ---


@both_loops
async def test_a_drain_says_421_to_the_idle_and_answers_the_message_in_hand():
    taker = Taker()
    taker.gate = asyncio.Event()
    async with (
        listening(accept=taker) as listener,
        connected(listener) as (idle, _),
        connected(listener) as (busy, writer),
    ):
        await lines(idle, 1)
        writer.write(GROUP + b"x\r\n.\r\n")
        await asyncio.wait_for(taker.arrived.wait(), 60)
        draining = asyncio.ensure_future(listener.drain(60))
        assert await rest(idle) == "421 4.3.2 Going down for maintenance; try again soon\r\n"
        assert not draining.done()
        taker.gate.set()
        said = (await rest(busy)).splitlines()
        assert said[-2:] == ["250 2.0.0 Ok: queued as TEST", "421 4.3.2 Going down for maintenance; try again soon"]
        await asyncio.wait_for(draining, 60)


@both_loops
async def test_a_lost_connection_does_not_stop_a_message_from_being_kept():
    taker = Taker()
    taker.gate = asyncio.Event()
    shared = rooms(taker)
    async with listening(accept=taker, shared=shared) as listener:
        async with connected(listener) as (_, writer):
            writer.write(GROUP + b"x\r\n.\r\n")
            await asyncio.wait_for(taker.arrived.wait(), 60)
            writer.transport.abort()
        draining = asyncio.ensure_future(listener.drain(60))
        done, _ = await asyncio.wait([draining], timeout=0.05)
        assert not done, "the message is waited for"
        taker.gate.set()
        await asyncio.wait_for(draining, 60)
    assert shared.budget.used == 0


@both_loops
async def test_octets_in_flight_are_shown_until_there_are_none(monkeypatch):
    monkeypatch.setattr("relay.intake.listener._SHOWN_AFTER", 0.0)
    taker, seen = Taker(), []
    taker.gate = asyncio.Event()
    async with listening(accept=taker) as listener, connected(listener) as (_, writer):
        tell = listener.metrics.set
        monkeypatch.setattr(
            listener.metrics, "set", lambda name, *rest: (tell(name, *rest), seen.append((name, rest[0])))
        )
        writer.write(GROUP + b"x\r\n.\r\n")
        await until(lambda: ("in_flight_bytes", 3) in seen)
        taker.gate.set()
        await until(lambda: ("in_flight_bytes", 0) in seen)  # the connection is still there, and says no more


@both_loops
async def test_each_message_comes_from_who_its_sender_said_it_is():
    taker = Taker()
    again = GROUP.partition(b"\r\n")[2]
    async with listening(accept=taker) as listener, connected(listener) as (reader, writer):
        writer.write(GROUP + b"one\r\n.\r\n" + again + b"two\r\n.\r\nEHLO lab\r\n" + again + b"three\r\n.\r\n")
        writer.write_eof()
        await rest(reader)
    sessions = [session for session, *_ in taker.taken]
    assert [(session.helo, session.esmtp) for session in sessions] == [("ehr", False)] * 2 + [("lab", True)]


@both_loops
async def test_half_closed_peers_get_all_their_answers():
    taker = Taker()
    async with listening(accept=taker) as listener, connected(listener) as (reader, writer):
        again = GROUP.partition(b"\r\n")[2]
        writer.write(GROUP + b"one\r\n.\r\n" + again + b"two\r\n.\r\n")
        writer.write_eof()
        assert (await rest(reader)).count("250 2.0.0 Ok: queued as TEST") == 2
    assert len(taker.taken) == 2


@both_loops
async def test_recipients_by_the_thousand_let_others_have_their_turn():
    many = 1500
    flood = b"".join(b"RCPT TO:<box%d@mail.example>\r\n" % number for number in range(many))
    async with listening() as listener, connected(listener) as (reader, writer), connected(listener) as (other, say):
        await lines(reader, 1)
        await lines(other, 1)
        writer.write(b"HELO ehr\r\nMAIL FROM:<ehr@clinic.example>\r\n")
        await lines(reader, 2)
        writer.write(flood)
        heard = await lines(reader, 1)
        say.write(b"NOOP\r\n")
        assert (await lines(other, 1))[0].startswith("250")
        heard += reader._buffer.decode().splitlines()  # what had come of the others when the second peer was served
        assert len(heard) < many // 2
        assert len(await lines(reader, many - 1)) == many - 1


async def test_recipients_without_end_end_the_session_and_are_told_of_once():
    shared = rooms(Taker())
    async with listening(shared=shared) as listener, connected(listener) as (reader, writer):
        writer.write(b"HELO ehr\r\nMAIL FROM:<ehr@clinic.example>\r\n" + b"RCPT TO:<a@mail.example>\r\n" * 3000)
        said = (await rest(reader)).splitlines()
    assert sum(line.startswith("452 4.5.3") for line in said) in range(1000, 1012)
    assert said[-1].startswith("421 4.7.0 Too many errors")


@both_loops
async def test_a_peer_that_leaves_in_the_middle_of_its_turn_gets_what_it_is_owed():
    many = 300
    flood = b"".join(b"RCPT TO:<box%d@mail.example>\r\n" % number for number in range(many))
    async with listening() as listener:
        async with connected(listener) as (reader, writer):
            writer.write(b"HELO ehr\r\nMAIL FROM:<ehr@clinic.example>\r\n" + flood)
            writer.write_eof()
            assert (await rest(reader)).count("250 2.1.5") == many
        async with connected(listener) as (reader, writer):
            writer.write(b"HELO ehr\r\nMAIL FROM:<ehr@clinic.example>\r\n" + flood)
            await lines(reader, 4)
            writer.transport.abort()
        async with connected(listener) as (reader, _):
            assert (await lines(reader, 1))[0].startswith("220")


@both_loops
async def test_a_fault_shows_nothing_of_itself(capsys):
    taker = Taker(RuntimeError("Jane Roe"))
    async with listening(accept=taker) as listener, connected(listener) as (reader, writer):
        writer.write(GROUP + b"x\r\n.\r\nQUIT\r\n")
        assert "451 4.3.0 Something failed here; try again later\r\n221" in await rest(reader)
    assert "Jane" not in capsys.readouterr().out


@both_loops
async def test_a_taken_port_is_one_clear_error():
    import socket

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        with pytest.raises(ProblemsError, match="cannot listen on"):
            async with listening(options(port=held.getsockname()[1])):
                pass


# --- peers ---


@pytest.mark.peers
@pytest.mark.parametrize("auth", ["PLAIN", "LOGIN"])
@both_loops
async def test_swaks(context, authority, auth):
    swaks = require("swaks")
    taker = Taker()
    async with listening(options(limits=AUTH), taker, tls=context) as listener:
        done = await asyncio.to_thread(
            subprocess.run,
            [
                swaks, "--server", "127.0.0.1", "--port", str(listener.port), "--tls", "--tls-verify",
                "--tls-ca-path", str(authority.root), "--auth", auth,
                "--auth-user", "ehr", "--auth-password", SECRET, "--from", "ehr@clinic.example",
                "--to", "a@mail.example,b@mail.example", "--helo", "ehr", "--pipeline", "--body", "..dots\n.\nend",
            ],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    ((session, envelope, content, _),) = taker.taken
    assert session.identity == "ehr"
    assert len(envelope.recipients) == 2
    assert b"..dots\r\n.\r\nend\r\n" in content


@pytest.mark.peers
@both_loops
async def test_smtp_source():
    source = require("smtp-source")
    taker = Taker()
    async with listening(accept=taker) as listener:
        done = await asyncio.to_thread(
            subprocess.run,
            [
                source, "-s", "4", "-m", "40", "-l", "4096", "-f", "ehr@clinic.example", "-t", "a@mail.example",
                f"inet:127.0.0.1:{listener.port}",
            ],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(taker.taken) == 40
