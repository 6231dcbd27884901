"""Attempts under signed senders, of copies whose recipients were suppressed since, and of reports that are read."""

import pytest

from relay.core.address import Address
from relay.core.change import AuditEvent, Note, Remember
from relay.core.envelope import Origin
from relay.core.errors import StoreUnavailableError
from relay.core.reply import Reply
from relay.core.returning import Handled
from relay.delivery.dispatched import read_memo
from relay.protect.keyring import KeyRing
from relay.protect.returnpath import ReturnPaths
from relay.worker.returning import Returning, ReturnOptions
from tests.support.attempting import Attempting, FakeSession, refusal
from tests.support.queue import NOW, a_message

NAME = "01M812TVPXRTDGK76AT9"
RING = KeyRing.create(now=NOW, random=lambda count: bytes(range(count)))
PATHS = ReturnPaths(lambda: RING, 14 * 86_400.0)
THREE = ("ann@example.org", "ben@example.org", "cyd@example.org")
GONE = Reply.of(550, "5.1.1", "This mailbox refused earlier mail for good and is suppressed")


@pytest.fixture
async def it():
    async with Attempting() as attempting:
        suppressed = set()
        attempting.attempter._returning = Returning(
            ReturnOptions(domain="return.clinic.example"), PATHS,
            suppressed=lambda address, tenant, stream: GONE if address.local in suppressed else None,
        )  # fmt: skip
        attempting.suppressed = suppressed
        yield attempting


def a_copy(*recipients, **fields):
    return a_message(NAME, recipients=recipients or THREE, **fields)


async def memos(it):
    return [read_memo(memo) for memo in await it.store.recall("sent/")]


def senders(session):
    return [PATHS.read(Address.parse(one.reverse_path_text), NOW) for one in session.transactions]


async def test_a_delivered_copy_is_remembered_in_the_commit_that_ends_it(it):
    await it.keep(message=a_copy())
    session = FakeSession({1: refusal(550, "5.1.1", "No such user"), 2: refusal(451, "4.3.0", "Later")})
    await it.over(session, entry_id=f"{NAME}.0")
    assert [(one.entry_id, one.number) for one in senders(session)] == [(f"{NAME}.0", None)]
    (sent,) = await memos(it)
    assert [state.number for state in sent.recipients] == [0]
    assert any(isinstance(change, Remember) for change in it.store.units[-1])
    it.clock.now += 3600
    await it.over(FakeSession(), entry_id=f"{NAME}.0")
    assert sorted(state.number for sent in await memos(it) for state in sent.recipients) == [0, 2]


async def test_bulk_mail_leaves_once_a_recipient(it):
    await it.keep(message=a_copy(stream="bulk"))
    session = FakeSession()
    await it.over(session, entry_id=f"{NAME}.0")
    assert [one.number for one in senders(session)] == [0, 1, 2]
    assert [len(one.recipients) for one in session.transactions] == [1, 1, 1]
    assert await it.left() == {}


async def test_a_connection_that_dies_in_bulk_mail_leaves_the_rest_for_later(it):
    await it.keep(message=a_copy(stream="bulk"))
    session = FakeSession(dies=True)
    await it.over(session, entry_id=f"{NAME}.0")
    left = await it.left()
    assert [state.number for state in left[f"{NAME}.0"].recipients] == [1, 2]
    assert len(session.transactions) == 1


async def test_who_was_suppressed_since_is_bounced_and_the_others_are_sent(it):
    it.suppressed.add("ben")
    await it.keep(message=a_copy())
    session = FakeSession()
    await it.over(session, entry_id=f"{NAME}.0")
    assert [number for number, _ in session.transactions[0].recipients] == [0, 2]
    assert await it.fates() == {0: "delivered", 1: "bounced", 2: "delivered"}
    ((_, _, body),) = await it.notices_kept()
    assert b"ben@example.org" in body
    assert b"Status: 5.1.1" in body
    assert b"suppressed" in body


async def test_when_all_are_suppressed_nobody_is_connected_to(it):
    it.suppressed |= {"ann", "ben", "cyd"}
    await it.keep(message=a_copy())
    await it.attempt(f"{NAME}.0")
    assert it.connector.asked == []
    assert set((await it.fates()).values()) == {"bounced"}
    assert it.metrics.counts["postern_bounces_total"] == 3


# --- reports ---------------------------------------------------------------------


async def test_a_report_is_read_and_all_that_follows_is_in_the_commit_that_ends_it(it):
    told = []
    event = AuditEvent(kind="returned", at=NOW, message_id="m0", facts={"outcome": "failed"})

    async def read(claimed):
        assert claimed.content
        changes = (Remember(name="sent/x.1/!0-failed", until=NOW + 60), Note(events=(event,)))
        return Handled(why="about message m0", changes=changes, then=lambda: told.append("told"))

    it.attempter._reports = read
    await it.keep(message=a_copy("r@return.clinic.example", origin=Origin.RETURNED), destination="report:return")
    await it.attempt(f"{NAME}.0")
    assert await it.fates() == {0: "processed"}
    assert await it.left() == {}
    assert len(it.store.units[-1]) == len([change for change in it.store.units[-1] if change])
    assert [memo.name for memo in await it.store.recall("sent/")] == ["sent/x.1/!0-failed"]
    assert [one.message_id for one in await it.events("returned")] == ["m0"]
    assert told == ["told"]
    assert it.connector.asked == []


async def test_a_report_that_cannot_be_read_now_waits_and_tells_nobody(it):
    async def read(_claimed):
        raise StoreUnavailableError("away")

    it.attempter._reports = read
    message = a_copy("r@return.clinic.example", origin=Origin.RETURNED)
    entry = await it.keep(message=message, destination="report:return")
    await it.attempt(f"{NAME}.0")
    left = await it.left()
    assert list(left) == [f"{NAME}.0"]
    assert left[f"{NAME}.0"].attempts == 1
    it.clock.now = entry.expires_at
    await it.attempt(f"{NAME}.0")
    assert await it.fates() == {0: "expired"}
    assert await it.notices_kept() == []
    assert it.metrics.counts["postern_alerts_total"] >= 1


async def test_without_a_reader_reports_wait(it):
    message = a_copy("r@return.clinic.example", origin=Origin.RETURNED)
    await it.keep(message=message, destination="report:return")
    await it.attempt(f"{NAME}.0")
    assert "nobody here reads reports" in (await it.left())[f"{NAME}.0"].reason
