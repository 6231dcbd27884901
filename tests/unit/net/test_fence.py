"""The final dot is not sent once the sender may no longer be the only one who has the copy."""

import pytest

from relay.core.level import Level
from relay.core.outcome import PeerFeatures, Trouble
from relay.demo.authority import Authority
from relay.demo.behaviour import PeerBehaviour
from relay.smtp.client import FENCED, ClientTransaction
from tests.support.net import net, transaction

PIPELINING = PeerFeatures(pipelining=True, eight_bit_mime=True)


@pytest.mark.parametrize("features", [PIPELINING, PeerFeatures()], ids=["pipelined", "one by one"])
def test_a_copy_whose_lease_ended_by_354_is_not_sent_at_all(features):
    machine = ClientTransaction(transaction(fence=lambda: False), features)
    machine.start()
    sent = b"".join(machine.receive(reply) for reply in (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"))
    assert b"hello" not in sent
    assert machine.done
    assert not machine.reusable
    (result,) = machine.results
    assert (result.failure.trouble, result.failure.detail) == (Trouble.LOCAL, FENCED)


def test_a_copy_whose_lease_holds_is_sent():
    machine = ClientTransaction(transaction(fence=lambda: True), PIPELINING)
    machine.start()
    assert machine.receive(b"250 ok\r\n250 ok\r\n354 go\r\n").endswith(b"\r\n.\r\n")


async def test_a_lease_that_ends_while_a_large_message_is_on_its_way_keeps_back_its_end(tmp_path):
    authority = Authority(tmp_path)
    asked = []

    def fence():
        asked.append(None)
        return len(asked) == 1  # as the peer said 354 it held; before the last piece it did not

    content = b"Subject: x\r\n\r\n" + b"0123456789abcdef\r\n" * 100_000
    async with net(authority, PeerBehaviour(hostname="mx.good.example")) as it:
        session = await it.connector.connect("good.example", floor=Level.CLEAR)
        result = await session.transact(transaction(content=content, fence=fence))
        assert result.results[0].failure.trouble is Trouble.AMBIGUOUS
        assert len(asked) == 2
        assert not session.alive
        await session.close()
        assert it.peer.messages == []
