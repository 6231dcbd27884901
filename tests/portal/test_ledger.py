"""What happens to a message in the portal: one transaction each, one fate a recipient, and who is told."""

import dataclasses

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relay.core.address import NULL_SENDER, Address
from relay.core.fate import FateKind
from relay.core.portal import FINAL_STATES, DepositState, Post, PostKind
from tests.support.portal_bench import DAY, NOW, Bench


@pytest.fixture
def bench():
    return Bench()


async def test_opening_is_recorded_once_with_its_fate_and_receipt(bench):
    made = await bench.make()
    opened = await bench.ledger.opened(made)
    assert (opened.state, opened.opened_at) == (DepositState.OPENED, NOW)
    bench.now += 60
    assert await bench.ledger.opened(made) == opened
    assert bench.fates() == ["read"]
    (receipt,) = bench.posts
    assert (receipt.kind, receipt.recipients, receipt.deposit_id) == (
        PostKind.RECEIPT, (Address.parse("doctor@clinic.example"),), made.id,
    )  # fmt: skip
    assert b"was opened" in receipt.content
    assert bench.metrics.counted == ["opened"]


async def test_without_a_wish_for_receipts_none_is_written(bench):
    made = await bench.make(receipts=False)
    await bench.ledger.opened(made)
    await bench.ledger.downloaded(made, "pdf")
    await bench.ledger.recalled(made, by="ada", why="wrong patient")
    assert bench.posts == []
    null = await bench.make(1, sender=NULL_SENDER)
    await bench.ledger.opened(null)
    assert bench.posts == []


async def test_every_download_is_in_the_trail_and_the_first_is_told(bench):
    made = await bench.ledger.opened(await bench.make())
    for form in ("attachment", "eml"):
        bench.now += 1
        await bench.ledger.downloaded(made, form)
    assert [event.facts["form"] for event in bench.events if event.facts.get("event") == "downloaded"] == [
        "attachment", "eml",
    ]  # fmt: skip
    assert [b"was first downloaded" in post.content for post in bench.posts] == [False, True]
    assert (await bench.deposits.find(made.id)).downloaded_at == NOW + 1


async def test_a_reply_goes_out_with_its_event(bench):
    made = await bench.make()
    post = Post(id="01M8", kind=PostKind.REPLY, recipients=(made.sender.address,), content=b"x", at=NOW)
    await bench.ledger.answered(made, post)
    await bench.ledger.answered(made, dataclasses.replace(post, id="01M9", kind=PostKind.FORWARD))
    assert [one.id for one in bench.posts] == ["01M8", "01M9"]
    assert bench.happened() == ["replied", "forwarded"]


async def test_not_me_recalls_and_hands_out_what_tells_the_sender(bench):
    made = await bench.make()
    post = Post(id="01M8", kind=PostKind.RECEIPT, recipients=(made.sender.address,), content=b"not me", at=NOW)
    assert await bench.ledger.not_me(made, (post,))
    assert not await bench.ledger.not_me(made, (post,))
    assert bench.posts == [post]
    assert bench.fates() == ["recalled"]


async def test_an_operator_s_recall_names_them_and_keeps_the_fate_of_what_was_read(bench):
    waiting, read = await bench.make(0), await bench.ledger.opened(await bench.make(1))
    assert await bench.ledger.recalled(waiting, by="ada", why="wrong patient")
    assert await bench.ledger.recalled(read, by="ada", why="wrong patient")
    assert not await bench.ledger.recalled(read, by="ada", why="again")
    assert (bench.fates(0), bench.fates(1)) == (["recalled"], ["read"])
    named = [event.facts for event in bench.events if event.facts.get("operator") == "ada"]
    assert [facts["why"] for facts in named] == ["wrong patient"] * 2
    assert await bench.ledger.opened(read) is None


async def test_extending_begins_the_reminder_anew_and_resending_writes_the_notice_again(bench):
    made = await bench.make(expires_at=NOW + DAY)
    assert await bench.ledger.reminded(made)
    assert (await bench.deposits.find(made.id)).reminded_at is not None
    assert await bench.ledger.extended(made, NOW + 9 * DAY, by="ada", why="on holiday")
    there = await bench.deposits.find(made.id)
    assert (there.expires_at, there.reminded_at) == (NOW + 9 * DAY, None)
    assert await bench.ledger.resent(made, by="ada", why="lost")
    assert [post.kind for post in bench.posts] == [PostKind.REMINDER, PostKind.NOTICE]
    assert all(made.id.encode() in post.content.replace(b"=\r\n", b"") for post in bench.posts)
    await bench.ledger.recalled(made, by="ada", why="over")
    assert not await bench.ledger.extended(made, NOW + 90 * DAY, by="ada", why="too late")
    assert not await bench.ledger.resent(made, by="ada", why="too late")


async def test_a_notice_that_cannot_be_delivered_withdraws_the_message_unread(bench):
    made, read = await bench.make(0), await bench.make(1)
    await bench.ledger.opened(read)
    assert await bench.ledger.withdrawn(made.message_id, 0)
    assert not await bench.ledger.withdrawn(made.message_id, 0)
    assert not await bench.ledger.withdrawn(made.message_id, 1), "what was read was not lost"
    assert not await bench.ledger.withdrawn(made.message_id, 7)
    assert (await bench.deposits.find(made.id)).state is DepositState.WITHDRAWN
    assert bench.fates(0) == [], "the queue tells the fate, and sends the DSN"


async def test_a_notice_that_comes_back_later_changes_the_fate_and_leaves_the_telling_to_the_dsn(bench):
    made = await bench.make()
    assert await bench.ledger.came_back(made.message_id, 0)
    assert not await bench.ledger.came_back(made.message_id, 0)
    assert bench.fates() == ["bounced"]
    assert bench.posts == []


async def test_a_taken_notice_is_told_to_who_asked(bench):
    made = await bench.make()
    await bench.ledger.notified(made.message_id, 0)
    await bench.ledger.notified(made.message_id, 9)
    (post,) = bench.posts
    assert b"A notice of your secure message was sent" in post.content


async def test_a_taken_notice_that_a_dsn_tells_of_has_no_receipt_and_what_follows_has(bench):
    made = await bench.make()
    await bench.ledger.notified(made.message_id, 0, told=True)
    await bench.ledger.notified(made.message_id, 0, told=True)
    assert bench.posts == []
    there = await bench.deposits.find(made.id)
    assert there.notified_at is not None
    await bench.ledger.opened(there)
    assert len(bench.posts) == 1


# --- the clock


async def test_a_reminder_takes_back_no_extension_and_comes_once(bench):
    listed = await bench.make(expires_at=NOW + DAY)
    assert await bench.ledger.extended(listed, NOW + 9 * DAY, by="ada", why="on holiday")
    assert not await bench.ledger.reminded(listed)
    there = await bench.deposits.find(listed.id)
    assert (there.expires_at, bench.posts) == (NOW + 9 * DAY, [])
    assert [await bench.ledger.reminded(there) for _ in range(2)] == [True, False]


async def test_the_sweeper_expires_reminds_forgets_and_measures(bench):
    due = await bench.make(0, expires_at=NOW + 2 * DAY)
    later = await bench.make(1, expires_at=NOW + 30 * DAY)
    read = await bench.ledger.opened(await bench.make(2, expires_at=NOW + 2 * DAY))
    sweeper = bench.sweeper(remind_before=3 * DAY, keep_records=10 * DAY)
    await sweeper.sweep()
    assert [post.deposit_id for post in bench.posts if post.kind is PostKind.REMINDER] == [due.id]
    await sweeper.sweep()
    assert len([post for post in bench.posts if post.kind is PostKind.REMINDER]) == 1
    bench.now += 2 * DAY
    await sweeper.sweep()
    assert (bench.fates(0), bench.fates(1), bench.fates(2)) == (["portal-expired"], [], ["read"])
    states = {one.id: one.state for one in await bench.deposits.of_message(due.message_id)}
    assert states == {due.id: DepositState.EXPIRED, later.id: DepositState.WAITING, read.id: DepositState.EXPIRED}
    receipts = [post.deposit_id for post in bench.posts if b"not read in time" in post.content]
    assert receipts == [due.id], "who read it in time is not said to have missed it"
    bench.now += 11 * DAY
    await sweeper.sweep()
    assert [one.id for one in await bench.deposits.of_message(due.message_id)] == [later.id]
    assert bench.forgotten == 4


async def test_a_flood_of_due_messages_is_swept_in_one_round(bench):
    for number in range(450):
        await bench.make(number, expires_at=NOW - 1, receipts=False)
    await bench.sweeper().sweep()
    assert dict((await bench.deposits.figures()).by_state) == {DepositState.EXPIRED: 450}


async def test_reminders_can_be_turned_off(bench):
    await bench.make(expires_at=NOW + 60)
    await bench.sweeper(remind_before=0).sweep()
    assert bench.posts == []


# --- one fate, whatever comes in whatever order (law 5)


class Lives(RuleBasedStateMachine):
    """A message that everybody acts on."""

    @initialize()
    def begin(self):
        import asyncio

        self.loop = asyncio.new_event_loop()
        self.bench = Bench()
        self.made = self.do(self.bench.make(expires_at=NOW + 5 * DAY))

    def do(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    def teardown(self):
        if hasattr(self, "loop"):
            self.loop.close()

    @rule(days=st.integers(0, 3))
    def time(self, days):
        self.bench.now += days * DAY

    @rule()
    def opened(self):
        self.do(self.bench.ledger.opened(self.made))

    @rule()
    def downloaded(self):
        self.do(self.bench.ledger.downloaded(self.made, "eml"))

    @rule()
    def not_me(self):
        self.do(self.bench.ledger.not_me(self.made, ()))

    @rule()
    def recalled(self):
        self.do(self.bench.ledger.recalled(self.made, by="ada", why="test"))

    @rule(days=st.integers(1, 5))
    def extended(self, days):
        self.do(self.bench.ledger.extended(self.made, self.bench.now + days * DAY, by="ada", why="test"))

    @rule()
    def swept(self):
        self.do(self.bench.sweeper(keep_records=1e9).sweep())

    @rule()
    def bounced(self):
        self.do(self.bench.ledger.came_back(self.made.message_id, 0))

    @precondition(lambda self: hasattr(self, "bench"))
    @invariant()
    def one_fate(self):
        there = self.do(self.bench.deposits.find(self.made.id))
        fates = self.bench.fates()
        assert len(fates) <= 1, fates
        assert bool(fates) == (there.state is not DepositState.WAITING)
        if there.opened_at is not None:
            assert fates == [FateKind.READ.value]
        if there.state in FINAL_STATES:
            assert there.subject == ""


Lives.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
test_whatever_happens_a_recipient_has_one_fate = Lives.TestCase
