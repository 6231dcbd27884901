import pytest

from relay.core.level import Level
from relay.core.outcome import Trouble
from relay.core.ports import ConnectError
from relay.demo.authority import Authority
from relay.demo.behaviour import PeerBehaviour, StartTls
from relay.net.clear import CLEAR_TOTAL
from tests.support.net import contexts, net, transaction


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls(authority):
    return contexts(authority)


@pytest.fixture(scope="module")
def good(authority):
    return authority.issue("mx.good.example")


async def test_a_good_peer_is_verified_and_takes_the_message_byte_for_byte(authority, tls, good):
    content = b"Subject: x\r\n\r\n.\r\n..two\r\nlast"
    async with net(authority, PeerBehaviour(certificate=good), tls=tls) as it:
        session = await it.connector.connect("good.example", floor=Level.VERIFIED)
        result = await session.transact(transaction(content=content, floor=Level.VERIFIED))
        await session.close()
        [message] = await it.peer.wait_messages()
    assert result.results[0].delivered
    assert message.content == content + b"\r\n"
    assert message.tls_version == result.proof.tls_version != ""
    assert result.proof.level is Level.VERIFIED
    assert result.proof.host == "mx.good.example"
    assert len(result.proof.certificate_sha256) == 64
    assert result.proof.issuer == "CN=Postern demo root"
    assert result.proof.not_after > 0
    assert CLEAR_TOTAL not in it.metrics.counts


async def test_a_session_is_reused(authority, tls, good):
    async with net(authority, PeerBehaviour(certificate=good), tls=tls) as it:
        session = await it.connector.connect("good.example", floor=Level.VERIFIED)
        for _ in range(3):
            assert (await session.transact(transaction(floor=Level.VERIFIED))).reusable
        assert session.alive
        await session.close()
        assert it.peer.connections == 1
        assert len(it.peer.messages) == 3


async def test_without_starttls_only_a_clear_floor_is_served_and_counted(authority, tls, good):
    async with net(authority, PeerBehaviour(certificate=good, starttls=StartTls.ABSENT), tls=tls) as it:
        with pytest.raises(ConnectError) as caught:
            await it.connector.connect("good.example", floor=Level.ENCRYPTED)
        assert caught.value.failures[-1].trouble is Trouble.BELOW_FLOOR
        session = await it.connector.connect("good.example", floor=Level.CLEAR)
        refused = await session.transact(transaction(floor=Level.ENCRYPTED))
        assert refused.results[0].failure.trouble is Trouble.BELOW_FLOOR
        assert it.metrics.counts == {}
        assert (await session.transact(transaction())).results[0].delivered
        assert it.metrics.counts == {CLEAR_TOTAL: 1}
        await session.close()
        assert len(it.peer.messages) == 1
