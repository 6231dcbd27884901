import asyncio
import ssl
from dataclasses import replace

import pytest

from relay.core.level import Level, Voucher
from relay.core.outcome import Stage, Trouble
from relay.core.ports import ConnectError
from relay.demo.behaviour import PeerBehaviour, StartTls
from relay.demo.peer import Peer
from relay.net.clear import CLEAR_TOTAL, send_in_the_clear
from relay.net.options import ConnectorOptions, Route, RouteHost
from tests.support.net import PATIENT, contexts, net, transaction

GOOD, MX = "good.example", "mx.good.example"


@pytest.fixture(scope="module")
def good(authority):
    return authority.issue(MX)


@pytest.fixture(scope="module")
def bad(authority):
    return {
        "wrong-name": authority.issue("mx.other.example"),
        "expired": authority.issue(MX, expired=True),
        "not-yet": authority.issue(MX, not_yet=True),
        "self-signed": authority.issue(MX, self_signed=True),
        "untrusted": authority.untrusted.issue(MX),
        "client-only": authority.issue(MX, client=True),
        "common-name": authority.issue(MX, names=()),
    }


async def failure_of(it, **more):
    with pytest.raises(ConnectError) as caught:
        await it.connector.connect(GOOD, **more)
    return caught.value.failures[-1]


def impatient_of(stage):
    """Deadlines under which nothing but this stage is short of time."""
    names = {"banner": "greeting"}
    return replace(PATIENT, **{names.get(stage, stage): 0.4}) if stage else PATIENT


async def deliver(it, *, floor, tls_failures=0):
    session = await it.connector.connect(GOOD, floor=floor, tls_failures=tls_failures)
    result = await session.transact(transaction(floor=floor))
    await session.close()
    assert result.results[0].delivered
    return result


async def test_a_good_peer_is_verified_and_takes_the_message_byte_for_byte(authority, tls, good):
    content = b"Subject: x\r\n\r\n.\r\n..two\r\nlast"
    async with net(authority, PeerBehaviour(certificate=good), tls=tls) as it:
        session = await it.connector.connect(GOOD, floor=Level.VERIFIED)
        result = await session.transact(transaction(content=content, floor=Level.VERIFIED))
        await session.close()
        [message] = await it.peer.wait_messages()
    assert result.results[0].delivered
    assert message.content == content + b"\r\n"
    assert message.tls_version == result.proof.tls_version != ""
    assert message.helo == "relay.clinic.example"
    assert result.proof.level is Level.VERIFIED
    assert result.proof.host == MX
    assert result.proof.address == "127.0.0.1"
    assert len(result.proof.certificate_sha256) == 64
    assert result.proof.issuer == "CN=Postern demo root"
    assert result.proof.not_after > 0
    assert it.metrics.counts == {}


async def test_a_session_is_reused(authority, tls, good):
    async with net(authority, PeerBehaviour(certificate=good), tls=tls) as it:
        session = await it.connector.connect(GOOD, floor=Level.VERIFIED)
        for _ in range(3):
            assert (await session.transact(transaction(floor=Level.VERIFIED))).reusable
        assert session.alive
        assert it.metrics.gauges == {"postern_delivery_connections_open": 1}
        await session.close()
        assert it.metrics.gauges == {"postern_delivery_connections_open": 0}
        assert it.peer.connections == 1
        assert len(it.peer.messages) == 3


async def test_a_large_message_goes_in_pieces(authority, tls, good):
    content = b"Subject: x\r\n\r\n" + b".dots and more\r\n" * 300_000
    async with net(authority, PeerBehaviour(certificate=good), tls=tls) as it:
        session = await it.connector.connect(GOOD, floor=Level.VERIFIED)
        result = await session.transact(transaction(content=content, floor=Level.VERIFIED))
        assert result.results[0].delivered
        assert it.peer.messages[0].content == content
        await session.close()


async def test_nobody_vouches_for_a_plain_mx_so_authenticated_is_not_reached(authority, tls, good):
    async with net(authority, PeerBehaviour(certificate=good), tls=tls) as it:
        failure = await failure_of(it, floor=Level.AUTHENTICATED)
    assert failure.trouble is Trouble.BELOW_FLOOR
    assert "vouches" in failure.detail


async def test_without_starttls_only_a_clear_floor_is_served_and_counted(authority, tls, good):
    async with net(authority, PeerBehaviour(certificate=good, starttls=StartTls.ABSENT), tls=tls) as it:
        assert (await failure_of(it, floor=Level.ENCRYPTED)).trouble is Trouble.BELOW_FLOOR
        session = await it.connector.connect(GOOD, floor=Level.CLEAR)
        refused = await session.transact(transaction(floor=Level.ENCRYPTED))
        assert refused.results[0].failure.trouble is Trouble.BELOW_FLOOR
        assert it.metrics.counts == {}
        result = await session.transact(transaction())
        assert result.results[0].delivered
        assert result.proof.level is Level.CLEAR
        assert not result.proof.downgraded
        assert it.metrics.counts == {CLEAR_TOTAL: 1}
        await session.close()
        assert len(it.peer.messages) == 1


async def test_the_function_that_sends_in_the_clear_refuses_a_higher_floor():
    async def exchange(_):
        raise AssertionError("it was sent")

    with pytest.raises(AssertionError, match="about to be sent in the clear"):
        await send_in_the_clear(exchange, transaction(floor=Level.ENCRYPTED), None)


@pytest.mark.parametrize(
    "kind", ["wrong-name", "expired", "not-yet", "self-signed", "untrusted", "client-only", "common-name"]
)
async def test_a_certificate_that_does_not_verify_is_encrypted_at_the_most(authority, tls, bad, kind):
    async with net(authority, PeerBehaviour(certificate=bad[kind]), tls=tls) as it:
        failure = await failure_of(it, floor=Level.VERIFIED)
        assert (failure.trouble, failure.stage) == (Trouble.BELOW_FLOOR, Stage.TLS)
        assert it.peer.messages == []
        result = await deliver(it, floor=Level.ENCRYPTED)
        assert result.proof.level is Level.ENCRYPTED
        assert result.proof.failure != ""
        assert result.proof.certificate_sha256 != ""
        connections = it.peer.connections
        assert (await deliver(it, floor=Level.CLEAR)).proof.level is Level.ENCRYPTED
        assert it.peer.connections == connections + 1, "the host is remembered: no second reconnection"
        assert (await failure_of(it, floor=Level.VERIFIED)).trouble is Trouble.BELOW_FLOOR
        assert CLEAR_TOTAL not in it.metrics.counts


@pytest.mark.parametrize("broken", [StartTls.REFUSED, StartTls.BROKEN, StartTls.CLOSES, StartTls.STALLS])
async def test_a_failed_handshake_is_deferred_first_and_goes_clear_only_later_and_only_at_floor_clear(
    authority, tls, good, broken
):
    options = ConnectorOptions(helo="relay.clinic.example", deadlines=replace(PATIENT, handshake=0.3))
    async with net(authority, PeerBehaviour(certificate=good, starttls=broken), tls=tls, options=options) as it:
        for floor in (Level.CLEAR, Level.ENCRYPTED, Level.VERIFIED):
            failure = await failure_of(it, floor=floor)
            assert (failure.trouble, failure.stage) == (Trouble.BELOW_FLOOR, Stage.TLS)
        for floor in (Level.ENCRYPTED, Level.VERIFIED, Level.AUTHENTICATED):
            assert (await failure_of(it, floor=floor, tls_failures=9)).trouble is Trouble.BELOW_FLOOR
        assert it.peer.messages == []
        result = await deliver(it, floor=Level.CLEAR, tls_failures=1)
        assert result.proof.level is Level.CLEAR
        assert result.proof.failure != ""
        assert result.proof.downgraded, "no other copy may go this way without a failure of its own"
        assert it.peer.messages[0].clear


async def test_old_tls_is_no_tls(authority, tls, good):
    old = PeerBehaviour(certificate=good, minimum_tls=ssl.TLSVersion.TLSv1_2, maximum_tls=ssl.TLSVersion.TLSv1_2)
    new_only = replace(contexts(authority))
    new_only.verifying.minimum_version = ssl.TLSVersion.TLSv1_3
    new_only.encrypting.minimum_version = ssl.TLSVersion.TLSv1_3
    async with net(authority, old, tls=new_only) as it:
        assert (await failure_of(it, floor=Level.ENCRYPTED)).trouble is Trouble.BELOW_FLOOR
    async with net(authority, old, tls=tls) as it:
        assert (await deliver(it, floor=Level.VERIFIED)).proof.tls_version == "TLSv1.2"


async def test_words_injected_before_the_handshake_are_not_believed(authority, tls, good):
    async with net(authority, PeerBehaviour(certificate=good, starttls=StartTls.INJECTS), tls=tls) as it:
        result = await deliver(it, floor=Level.VERIFIED)
        assert result.proof.level is Level.VERIFIED
        assert not it.peer.messages[0].clear


async def test_a_downgrade_between_two_connections_of_an_attempt_is_not_followed(authority, tls, bad):
    behaviour = PeerBehaviour(
        certificate=bad["self-signed"], connections=1, then=PeerBehaviour(starttls=StartTls.ABSENT)
    )
    for floor in (Level.CLEAR, Level.ENCRYPTED):
        async with net(authority, behaviour, tls=tls) as it:
            assert (await failure_of(it, floor=floor)).trouble is Trouble.BELOW_FLOOR
            assert it.peer.messages == []


@pytest.mark.parametrize(
    ("behaviour", "trouble", "stage", "code"),
    [
        ({"banner": "554 5.3.2 go away"}, Trouble.REPLY, Stage.GREETING, 554),
        ({"banner": "421 4.3.2 busy"}, Trouble.REPLY, Stage.GREETING, 421),
        ({"banner": "hello there"}, Trouble.PROTOCOL, Stage.GREETING, None),
        ({"ehlo": "421 4.3.2 busy"}, Trouble.REPLY, Stage.EHLO, 421),
        ({"drop_at": "banner"}, Trouble.NETWORK, Stage.GREETING, None),
        ({"drop_at": "ehlo"}, Trouble.NETWORK, Stage.EHLO, None),
        ({"stall_at": "banner"}, Trouble.NETWORK, Stage.GREETING, None),
        ({"stall_at": "ehlo"}, Trouble.NETWORK, Stage.EHLO, None),
    ],
)
async def test_what_goes_wrong_before_tls_is_typed(authority, tls, good, behaviour, trouble, stage, code):
    options = ConnectorOptions(
        helo="relay.clinic.example", deadlines=impatient_of(behaviour.get("stall_at")), max_connections=1
    )
    async with net(authority, PeerBehaviour(certificate=good, **behaviour), tls=tls, options=options) as it:
        failure = await failure_of(it, floor=Level.CLEAR)
    assert (failure.trouble, failure.stage) == (trouble, stage)
    assert (failure.reply and failure.reply.code) == code
    assert failure.host == MX


async def test_a_server_that_knows_helo_alone_is_served(authority, tls):
    async with net(authority, PeerBehaviour(ehlo="502 5.5.1 no such command"), tls=tls) as it:
        assert (await deliver(it, floor=Level.CLEAR)).proof.level is Level.CLEAR


async def test_nobody_listens(authority, tls, good):
    async with net(authority, PeerBehaviour(certificate=good), tls=tls) as it:
        await it.peer.close()
        failure = await failure_of(it, floor=Level.CLEAR)
    assert (failure.trouble, failure.stage) == (Trouble.NETWORK, Stage.CONNECT)


@pytest.mark.parametrize(
    ("behaviour", "trouble", "stage"),
    [
        ({"drop_at": "mail"}, Trouble.NETWORK, Stage.MAIL),
        ({"drop_at": "body"}, Trouble.AMBIGUOUS, Stage.FINAL),
        ({"drop_at": "final"}, Trouble.AMBIGUOUS, Stage.FINAL),
        ({"stall_at": "mail"}, Trouble.NETWORK, Stage.MAIL),
        ({"stall_at": "final"}, Trouble.AMBIGUOUS, Stage.FINAL),
        ({"recipients": {"pat@good.example": "550 5.1.1 no"}}, Trouble.REPLY, Stage.RCPT),
        ({"final": "451 4.7.1 greylisted"}, Trouble.REPLY, Stage.FINAL),
        ({"final": "554 5.6.0 no"}, Trouble.REPLY, Stage.FINAL),
        ({"data": "451 4.3.0 no"}, Trouble.REPLY, Stage.DATA),
    ],
)
async def test_what_goes_wrong_in_a_transaction_is_typed(authority, tls, good, behaviour, trouble, stage):
    options = ConnectorOptions(helo="relay.clinic.example", deadlines=impatient_of(behaviour.get("stall_at")))
    async with net(authority, PeerBehaviour(certificate=good, **behaviour), tls=tls, options=options) as it:
        session = await it.connector.connect(GOOD, floor=Level.VERIFIED)
        result = await session.transact(transaction(floor=Level.VERIFIED))
        [one] = result.results
        assert (one.failure.trouble, one.failure.stage) == (trouble, stage)
        assert session.alive is (trouble is Trouble.REPLY)
        if session.alive:
            again = await session.transact(transaction("other@good.example", floor=Level.VERIFIED))
            assert len(again.results) == 1
        await session.close()


async def test_recipients_are_refused_one_by_one(authority, tls, good):
    behaviour = PeerBehaviour(
        certificate=good, recipients={"b@good.example": "550 5.1.1 no", "c@good.example": "452 4.2.2 full"}
    )
    async with net(authority, behaviour, tls=tls) as it:
        session = await it.connector.connect(GOOD, floor=Level.VERIFIED)
        result = await session.transact(
            transaction("a@good.example", "b@good.example", "c@good.example", floor=Level.VERIFIED)
        )
        assert [one.delivered for one in result.results] == [True, False, False]
        assert [one.failure.reply.code for one in result.results[1:]] == [550, 452]
        assert it.peer.messages[0].recipients == ("a@good.example",)
        await session.close()


async def test_a_peer_that_closes_an_idle_connection_is_noticed(authority, tls, good):
    async with net(authority, PeerBehaviour(certificate=good), tls=tls) as it:
        session = await it.connector.connect(GOOD, floor=Level.VERIFIED)
        await it.peer.close()
        result = await session.transact(transaction(floor=Level.VERIFIED))
        assert result.results[0].failure.trouble is Trouble.NETWORK
        assert not session.alive
        await session.close()


async def test_a_cancelled_transaction_ends_its_connection(authority, tls, good):
    async with net(authority, PeerBehaviour(certificate=good, stall_at="final"), tls=tls) as it:
        session = await it.connector.connect(GOOD, floor=Level.VERIFIED)
        task = asyncio.get_running_loop().create_task(session.transact(transaction(floor=Level.VERIFIED)))
        await it.peer.wait_connections(1)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not session.alive
        await session.close()


# --- routes ---


def route(peer_port, **more):
    return ConnectorOptions(
        helo="relay.clinic.example",
        deadlines=PATIENT,
        routes={"smarthost": Route(hosts=(RouteHost(host=MX, port=peer_port),), internal=True, **more)},
    )


@pytest.mark.parametrize("implicit", [False, True])
async def test_a_smarthost_is_authenticated_and_gets_the_password_over_verified_tls(authority, tls, good, implicit):
    behaviour = PeerBehaviour(certificate=good, credentials={"clinic": "secret"}, implicit_tls=implicit)
    async with Peer(behaviour) as smarthost:
        options = route(smarthost.port, username="clinic", password="secret", implicit_tls=implicit)
        async with net(authority, PeerBehaviour(), tls=tls, options=options) as it:
            session = await it.connector.connect("route:smarthost", floor=Level.AUTHENTICATED)
            result = await session.transact(transaction(floor=Level.AUTHENTICATED))
            await session.close()
        assert result.results[0].delivered
        assert result.proof.vouched_by is Voucher.ROUTE
        assert result.proof.level is Level.AUTHENTICATED
        assert smarthost.messages[0].identity == "clinic"


@pytest.mark.parametrize("implicit", [False, True])
async def test_a_password_is_never_sent_over_less_than_verified_tls(authority, tls, bad, implicit):
    behaviour = PeerBehaviour(
        certificate=bad["self-signed"], credentials={"clinic": "secret"}, auth_in_clear=True, implicit_tls=implicit
    )
    async with Peer(behaviour) as smarthost:
        options = route(smarthost.port, username="clinic", password="secret", floor=Level.CLEAR, implicit_tls=implicit)
        async with net(authority, PeerBehaviour(), tls=tls, options=options) as it:
            with pytest.raises(ConnectError) as caught:
                await it.connector.connect("route:smarthost", floor=Level.CLEAR, tls_failures=5)
        assert caught.value.failures[-1].trouble is Trouble.BELOW_FLOOR
        assert smarthost.messages == []


async def test_a_wrong_password_is_a_typed_failure(authority, tls, good):
    async with Peer(PeerBehaviour(certificate=good, credentials={"clinic": "other"})) as smarthost:
        options = route(smarthost.port, username="clinic", password="secret")
        async with net(authority, PeerBehaviour(), tls=tls, options=options) as it:
            with pytest.raises(ConnectError) as caught:
                await it.connector.connect("route:smarthost", floor=Level.CLEAR)
        assert caught.value.failures[-1].stage is Stage.AUTH
        assert "secret" not in repr(options)


async def test_a_routes_own_floor_holds_for_copies_with_a_lower_one(authority, tls):
    async with Peer(PeerBehaviour()) as smarthost:
        async with net(authority, PeerBehaviour(), tls=tls, options=route(smarthost.port)) as it:
            with pytest.raises(ConnectError) as caught:
                await it.connector.connect("route:smarthost", floor=Level.CLEAR)
        assert caught.value.failures[-1].trouble is Trouble.BELOW_FLOOR


async def test_an_unknown_route_is_our_own_fault(authority, tls):
    async with net(authority, PeerBehaviour(), tls=tls) as it:
        with pytest.raises(ConnectError) as caught:
            await it.connector.connect("route:gone", floor=Level.CLEAR)
    assert caught.value.failures[-1].trouble is Trouble.LOCAL


async def test_a_source_address_is_used(authority, tls, good):
    options = ConnectorOptions(helo="relay.clinic.example", deadlines=PATIENT, source_addresses=("::1", "127.0.0.9"))
    async with net(authority, PeerBehaviour(certificate=good), tls=tls, options=options) as it:
        assert (await deliver(it, floor=Level.VERIFIED)).proof.level is Level.VERIFIED
    missing = replace(options, source_addresses=("192.0.2.1",))
    async with net(authority, PeerBehaviour(certificate=good), tls=tls, options=missing) as it:
        assert (await failure_of(it, floor=Level.CLEAR)).stage is Stage.CONNECT


async def test_the_next_host_is_tried_and_the_missed_level_is_what_is_reported(authority, tls, good):
    async with net(authority, PeerBehaviour(certificate=good, connections=1, starttls=StartTls.ABSENT,
                                            then=PeerBehaviour(certificate=good)), tls=tls) as it:  # fmt: skip
        it.dns.set(GOOD, {"MX": ["10 mx.good.example.", "20 mx2.good.example."]})
        it.dns.set("mx2.good.example", {"A": ["127.0.0.254"]})
        failure = await failure_of(it, floor=Level.VERIFIED)
        assert failure.trouble is Trouble.BELOW_FLOOR, "the second refuses connections: the network says less"
        assert (await deliver(it, floor=Level.VERIFIED)).proof.host == MX


async def test_the_whole_attempt_has_a_deadline(authority, tls, good):
    options = ConnectorOptions(helo="relay.clinic.example", deadlines=replace(PATIENT, attempt=0.3))
    async with net(authority, PeerBehaviour(certificate=good, stall_at="banner"), tls=tls, options=options) as it:
        failure = await failure_of(it, floor=Level.CLEAR)
    assert failure.trouble is Trouble.NETWORK
