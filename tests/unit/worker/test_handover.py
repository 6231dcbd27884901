"""What the portal hands out comes into the queue once, with the floor that its kind needs."""

import dataclasses

import pytest

from relay.core.address import Address
from relay.core.change import AuditEvent, Settle
from relay.core.envelope import Origin
from relay.core.errors import StoreUnavailableError
from relay.core.fate import Fate, FateKind
from relay.core.level import Level
from relay.core.portal import Post, PostKind
from relay.core.ports import QueueFilter
from relay.delivery.routing import Route, RouteTable
from relay.delivery.schedule import RetryOptions
from relay.store.memory import MemoryData, MemoryStore
from relay.worker.handover import Handover, HandoverOptions
from tests.support.portal import MemoryDeposits, a_deposit
from tests.support.queue import NOW, ManualClock
from tests.support.vault import FakeVault

PAT = Address.parse("pat@mail.example")
DOCTOR = Address.parse("doctor@clinic.example")


class Counts:
    def __init__(self):
        self.counted = []

    def count(self, name, labels=None, amount=1):
        self.counted.append((name, dict(labels or {})))


def a_post(number=0, kind=PostKind.CODE, to=PAT, **more):
    post = Post(
        id=f"01M8000000000000000{number}", kind=kind, recipients=(to,), content=b"Subject: x\r\n\r\nx\r\n", at=NOW
    )
    return dataclasses.replace(post, **more)


@pytest.fixture
async def queue():
    store = MemoryStore(FakeVault(), ManualClock(), data=MemoryData())
    await store.open("w1")
    return store


@pytest.fixture
def deposits():
    return MemoryDeposits(now=lambda: NOW)


@pytest.fixture
def handover(make):
    return make()


@pytest.fixture
def make(queue, deposits):
    """A worker's hand-over: each call is another process."""
    return lambda owner="w1": handing(queue, deposits, owner)


def handing(queue, deposits, owner):
    routes = RouteTable((Route(name="clinic", domains=("clinic.example",), internal=True),))
    options = HandoverOptions(owner=owner, floor=Level.CLEAR, special_floor=Level.ENCRYPTED)
    return Handover(
        deposits=deposits, queue=queue, routes=lambda: routes, retry=RetryOptions(), options=options,
        clock=lambda: NOW, metrics=Counts(),
    )  # fmt: skip


async def entries(queue):
    return [entry async for entry in queue.entries(QueueFilter())]


async def test_posts_and_events_come_into_the_queue_in_one_go_and_leave_the_outbox(handover, queue, deposits):
    event = AuditEvent(kind="portal", at=NOW, message_id="m", facts={"event": "opened"})
    await deposits.hand_out(posts=(a_post(0), a_post(1, PostKind.REMINDER)), events=(event,))
    await deposits.hand_out(events=(event,))
    assert await handover.once() == 2
    assert deposits.outbox == ()
    assert [entry.message_id for entry in await entries(queue)] == [a_post(0).id, a_post(1).id]
    message = await queue.message(a_post(0).id)
    assert (message.origin, message.envelope.reverse_path.is_null) == (Origin.PORTAL, True)
    assert await queue.content(a_post(0).id) == a_post().content
    told = [event.kind for row in await queue.outbox(limit=9) for event in row.events]
    assert sorted(told) == ["notice", "notice", "portal", "portal"]
    assert await handover.once() == 0


@pytest.mark.parametrize(
    ("kind", "to", "special", "floor", "origin"),
    [
        (PostKind.CODE, PAT, False, Level.CLEAR, Origin.PORTAL),
        (PostKind.CODE, PAT, True, Level.ENCRYPTED, Origin.PORTAL),
        (PostKind.NOTICE, PAT, True, Level.ENCRYPTED, Origin.PORTAL),
        (PostKind.ENROLLED, PAT, False, Level.CLEAR, Origin.PORTAL),
        (PostKind.SENDER_CODE, PAT, False, Level.VERIFIED, Origin.RECEIPT),
        (PostKind.SENDER_CODE, DOCTOR, False, Level.CLEAR, Origin.RECEIPT),
        (PostKind.RECEIPT, PAT, False, Level.VERIFIED, Origin.RECEIPT),
        (PostKind.RECEIPT, DOCTOR, False, Level.CLEAR, Origin.RECEIPT),
        (PostKind.REPLY, DOCTOR, True, Level.CLEAR, Origin.REPLY),
        (PostKind.REPLY, PAT, False, Level.VERIFIED, Origin.REPLY),
        (PostKind.FORWARD, PAT, False, Level.VERIFIED, Origin.REPLY),
    ],
)
async def test_each_kind_has_its_floor(handover, queue, deposits, kind, to, special, floor, origin):
    made = await deposits.deposit(a_deposit(special=special), b"x")
    await deposits.hand_out(posts=(a_post(0, kind, to, deposit_id=made.id),))
    await handover.once()
    (entry,) = await entries(queue)
    assert entry.treatment.floor is floor
    assert (await queue.message(entry.message_id)).origin is origin


async def test_a_code_is_urgent_and_does_not_outlive_its_use(handover, queue, deposits):
    await deposits.hand_out(posts=(a_post(),))
    await handover.once()
    (entry,) = await entries(queue)
    assert entry.treatment.priority == 1
    assert entry.expires_at == NOW + 600


async def test_what_is_handed_on_a_second_time_is_recognised(handover, queue, deposits):
    await deposits.hand_out(posts=(a_post(),))
    (item,) = deposits.outbox
    await handover.once()
    await deposits.hand_out(posts=item.posts, events=item.events)  # as if nobody had deleted it
    assert await handover.once() == 1
    assert deposits.outbox == ()
    assert len(await entries(queue)) == 1


class KilledError(BaseException):
    """The process ends here."""


@pytest.mark.law
@pytest.mark.parametrize("kind", [PostKind.CODE, PostKind.REPLY])
async def test_a_worker_killed_between_the_two_stores_leaves_nothing_to_be_sent_twice(make, queue, deposits, kind):
    """The message has even been delivered and left the queue before the item is taken again."""
    event = AuditEvent(kind="portal", at=NOW, message_id="m", facts={"event": "replied"})
    await deposits.hand_out(posts=(a_post(0, kind),), events=(event,))
    await deposits.hand_out(events=(event,))
    real, killed = deposits.forget_outbox, []

    async def kill(seqs):
        killed.append(seqs)
        raise KilledError

    deposits.forget_outbox = kill
    for _ in range(2):
        with pytest.raises(KilledError):
            await make(owner="w1").once()
    [entry] = await entries(queue)
    gone = dataclasses.replace(entry, recipients=())
    await queue.commit((Settle(entry=gone, fates={0: Fate(kind=FateKind.DELIVERED, at=NOW)}, fence=False),))
    assert await queue.message(a_post(0).id) is None
    deposits.forget_outbox = real
    assert len(deposits.outbox) == 2, "nothing was deleted"
    assert await make(owner="w1").once() == 2
    assert deposits.outbox == ()
    assert await entries(queue) == []
    told = [event.kind for row in await queue.outbox(limit=9) for event in row.events]
    assert sorted(told) == ["notice", "portal", "portal"], "each event once"


async def test_an_answer_that_was_handed_out_twice_is_sent_once(make, queue, deposits):
    """By two presses of its button at once: two items, one message, which has left the queue before the second."""
    event = AuditEvent(kind="portal", at=NOW, message_id="m", facts={"event": "replied"})
    await deposits.hand_out(posts=(a_post(0, PostKind.REPLY),), events=(event,))
    assert await make().once() == 1
    [entry] = await entries(queue)
    gone = dataclasses.replace(entry, recipients=())
    await queue.commit((Settle(entry=gone, fates={0: Fate(kind=FateKind.DELIVERED, at=NOW)}, fence=False),))
    await deposits.hand_out(posts=(a_post(0, PostKind.REPLY), a_post(1)), events=(event,))
    assert await make().once() == 1
    assert [entry.message_id for entry in await entries(queue)] == [a_post(1).id], "what was with it goes on"


async def test_another_item_with_the_place_of_one_before_is_handed_on(make, queue, deposits):
    """As after a backup of the portal was restored: its places begin again."""
    await deposits.hand_out(posts=(a_post(0),))
    assert await make().once() == 1
    deposits._seq = 0
    await deposits.hand_out(posts=(a_post(1),))
    assert deposits.outbox[0].seq == 1
    assert await make().once() == 1
    assert len(await entries(queue)) == 2


async def test_nothing_is_lost_while_the_queue_is_away(handover, queue, deposits, monkeypatch):
    await deposits.hand_out(posts=(a_post(),))

    async def away(_unit):
        raise StoreUnavailableError("away")

    monkeypatch.setattr(queue, "commit", away)
    with pytest.raises(StoreUnavailableError):
        await handover.once()
    assert len(deposits.outbox) == 1
    monkeypatch.undo()
    assert await handover.once() == 1
    assert len(await entries(queue)) == 1


async def test_several_recipients_have_an_entry_each(handover, queue, deposits):
    await deposits.hand_out(posts=(a_post(0, PostKind.REPLY, recipients=(DOCTOR, PAT)),))
    await handover.once()
    found = await entries(queue)
    assert [(entry.destination, entry.treatment.floor) for entry in found] == [
        ("route:clinic", Level.CLEAR),
        ("mail.example", Level.VERIFIED),
    ]
    assert [entry.recipients[0].number for entry in found] == [0, 1]


async def test_an_item_that_cannot_be_handed_on_holds_up_none_behind_it(make, queue, deposits):
    await deposits.hand_out(posts=(a_post(0), a_post(1)))
    await deposits.hand_out(posts=(a_post(2),))
    handover = make()
    real = handover._kept

    async def fails(post):
        if post.id == a_post(0).id:
            raise RuntimeError("a fault of ours")
        return await real(post)

    handover._kept = fails
    assert await handover.once() == 1
    assert [entry.message_id for entry in await entries(queue)] == [a_post(2).id]
    assert [item.seq for item in deposits.outbox] == [1], "it is not lost"
    assert await handover.once() == 0, "and does not spin"
    handover._kept = real
    assert await handover.once() == 1
    assert deposits.outbox == ()


async def test_what_tells_of_a_deposit_that_is_gone_has_the_floor_of_special_ones(handover, queue, deposits):
    await deposits.hand_out(posts=(a_post(0, PostKind.REMINDER, deposit_id="gone"),))
    await handover.once()
    (entry,) = await entries(queue)
    assert entry.treatment.floor is Level.ENCRYPTED
