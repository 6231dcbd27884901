"""What every implementation of ``Drafts`` promises."""

import asyncio
import dataclasses
import os

import pytest

from relay.core.errors import CorruptError
from relay.core.portal import DepositState
from relay.core.portal_drafts import Draft, DraftKind, Upload
from relay.protect.sealing import RingVault
from relay.store.portal.deposits import StoredDeposits
from relay.store.portal.drafts import SCHEMA, StoredDrafts
from tests.support.portal import PORTALS, a_deposit

NOW = 1_772_442_000.0
BOUNDS = {"most": 10, "octets": 5000}


class Portal:
    def __init__(self, kind, directory) -> None:
        self.harness = PORTALS[kind](directory, lambda: NOW)

    async def open(self) -> StoredDrafts:
        self.database = await self.harness.database(SCHEMA)
        vault = RingVault(self.harness.ring, os.urandom)
        self.deposits = StoredDeposits(self.database, vault, lambda: NOW, os.urandom)
        return StoredDrafts(self.database, vault)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.peers)])
async def portal(request, tmp_path):
    portal = Portal(request.param, tmp_path)
    yield portal
    await portal.harness.end()


@pytest.fixture
async def drafts(portal):
    return await portal.open()


def a_draft(**changes) -> Draft:
    values = {
        "id": "draft-1",
        "deposit_id": "deposit-00000000000001",
        "kind": DraftKind.REPLY,
        "post_id": "01J00000000000000001",
        "text": "planted-words",
        "saved_at": NOW,
    }
    return Draft(**(values | changes))


def an_upload(**changes) -> Upload:
    values = {"id": "upload-1", "name": "planted-name.pdf", "content_type": "application/pdf", "size": 10}
    return Upload(**(values | changes))


async def whole(drafts, upload_id) -> bytes:
    return b"".join([piece async for piece in drafts.content(upload_id)])


async def test_what_was_written_is_there_again(drafts):
    assert await drafts.of("deposit-00000000000001", DraftKind.REPLY) is None
    assert await drafts.save(a_draft()) == a_draft()
    assert await drafts.of("deposit-00000000000001", DraftKind.REPLY) == a_draft()
    assert await drafts.of("deposit-00000000000001", DraftKind.FORWARD) is None
    assert await drafts.of("deposit-00000000000002", DraftKind.REPLY) is None


async def test_a_second_draft_takes_the_place_of_the_first_and_keeps_its_ids(drafts):
    await drafts.save(a_draft())
    await drafts.add("draft-1", an_upload(), **BOUNDS)
    later = await drafts.save(a_draft(id="draft-2", post_id="01J00000000000000002", text="more", saved_at=NOW + 9))
    assert (later.id, later.post_id, later.text, later.saved_at) == ("draft-1", "01J00000000000000001", "more", NOW + 9)
    assert [upload.name for upload in later.uploads] == ["planted-name.pdf"]
    assert await drafts.of("deposit-00000000000001", DraftKind.REPLY) == later


async def test_of_saves_at_once_each_sees_what_the_one_before_kept(drafts):
    def adding(number):
        return lambda there: dataclasses.replace(there, text=f"{there.text} {number}")

    saves = [drafts.save(a_draft(id=f"draft-{n}", text=str(n)), onto=adding(n)) for n in range(8)]
    drafts_kept = await asyncio.gather(*saves)
    draft = await drafts.of("deposit-00000000000001", DraftKind.REPLY)
    assert sorted(draft.text.split()) == [str(number) for number in range(8)]
    assert {one.id for one in drafts_kept} == {draft.id}


async def test_a_file_arrives_in_pieces_of_any_size_and_order(drafts):
    await drafts.save(a_draft())
    assert await drafts.add("draft-1", an_upload(), **BOUNDS)
    assert await drafts.append("upload-1", 0, b"0123") == 4
    assert await drafts.append("upload-1", 0, b"0123") == 4  # the answer was lost, and it is sent again
    assert await drafts.append("upload-1", 6, b"67") == 4  # a gap
    assert await drafts.append("upload-1", 2, b"234567") == 8  # it overlaps: what is new is taken
    assert await drafts.append("upload-1", 8, b"89ab") == 8  # it runs over
    assert await drafts.append("upload-1", 8, b"89") == 10
    assert await whole(drafts, "upload-1") == b"0123456789"
    [upload] = (await drafts.of("deposit-00000000000001", DraftKind.REPLY)).uploads
    assert upload == an_upload(received=10)
    assert upload.is_whole


async def test_a_file_whose_size_was_not_known_ends_where_it_ends(drafts):
    await drafts.save(a_draft())
    await drafts.add("draft-1", an_upload(size=1000), **BOUNDS)
    await drafts.append("upload-1", 0, b"0123")
    [upload] = (await drafts.of("deposit-00000000000001", DraftKind.REPLY)).uploads
    assert not upload.is_whole
    await drafts.finish("upload-1")
    [upload] = (await drafts.of("deposit-00000000000001", DraftKind.REPLY)).uploads
    assert (upload.size, upload.received, upload.is_whole) == (4, 4, True)


async def test_nothing_is_added_to_what_is_not_there(drafts):
    assert not await drafts.add("draft-1", an_upload(), **BOUNDS)
    assert await drafts.append("upload-1", 0, b"0123") == 0
    assert await whole(drafts, "upload-1") == b""
    await drafts.remove("draft-1", "upload-1")
    await drafts.discard("draft-1")


async def test_files_that_begin_at_once_stay_within_the_bounds_of_their_draft(drafts):
    await drafts.save(a_draft())
    uploads = [an_upload(id=f"upload-{number}", size=1) for number in range(20)]
    made = await asyncio.gather(*(drafts.add("draft-1", upload, **BOUNDS) for upload in uploads))
    assert sum(made) == 10
    await drafts.discard("draft-1")
    await drafts.save(a_draft())
    large = [an_upload(id=f"large-{number}", size=2000) for number in range(5)]
    assert sum(await asyncio.gather(*(drafts.add("draft-1", upload, **BOUNDS) for upload in large))) == 2


async def test_files_keep_their_order_and_can_be_taken_away(drafts):
    await drafts.save(a_draft())
    for number in range(3):
        await drafts.add("draft-1", an_upload(id=f"upload-{9 - number}", name=f"{number}.pdf"), **BOUNDS)
        await drafts.append(f"upload-{9 - number}", 0, b"x")
    await drafts.remove("draft-2", "upload-9")  # of another draft: nothing happens
    await drafts.remove("draft-1", "upload-8")
    uploads = (await drafts.of("deposit-00000000000001", DraftKind.REPLY)).uploads
    assert [upload.name for upload in uploads] == ["0.pdf", "2.pdf"]
    assert await whole(drafts, "upload-8") == b""


async def test_what_is_discarded_is_gone_with_its_files(portal, drafts):
    await drafts.save(a_draft())
    await drafts.add("draft-1", an_upload(), **BOUNDS)
    await drafts.append("upload-1", 0, b"0123")
    await drafts.discard("draft-1")
    assert await drafts.of("deposit-00000000000001", DraftKind.REPLY) is None
    for table in ("drafts", "uploads", "upload_pieces"):
        rows = await portal.database.read(lambda cursor, table=table: cursor.rows(f"SELECT * FROM {table}"))
        assert rows == []


async def test_what_is_sent_is_gone_and_files_that_came_later_go_on_in_what_takes_its_place(portal, drafts):
    await drafts.save(a_draft())
    await drafts.add("draft-1", an_upload(), **BOUNDS)
    sent = await drafts.of("deposit-00000000000001", DraftKind.REPLY)
    await drafts.add("draft-1", an_upload(id="upload-2"), **BOUNDS)
    await drafts.append("upload-2", 0, b"0123")
    await drafts.sent(dataclasses.replace(sent, id="another"), lambda _: pytest.fail("it is not what is there"))
    seen = []

    def onward(there):
        seen.append([upload.id for upload in there.uploads])
        return a_draft(id="draft-2", text="planted-late", uploads=there.uploads)

    await drafts.sent(sent, onward)
    assert seen == [["upload-2"]]
    there = await drafts.of("deposit-00000000000001", DraftKind.REPLY)
    assert (there.id, there.text, [upload.id for upload in there.uploads]) == ("draft-2", "planted-late", ["upload-2"])
    assert await drafts.append("upload-2", 4, b"456789") == 10  # on its way meanwhile
    assert await whole(drafts, "upload-2") == b"0123456789"
    assert await whole(drafts, "upload-1") == b""
    await drafts.sent(there, lambda _: None)
    for table in ("drafts", "uploads", "upload_pieces"):
        rows = await portal.database.read(lambda cursor, table=table: cursor.rows(f"SELECT * FROM {table}"))
        assert rows == []


async def test_old_drafts_and_those_of_ended_messages_are_swept(portal, drafts):
    for number in (1, 2, 3):
        await portal.deposits.deposit(a_deposit(number), b"x")
        saved = a_draft(id=f"draft-{number}", deposit_id=f"deposit-{number:014d}", saved_at=NOW - 100 * (number == 1))
        await drafts.save(saved)
    ended = dataclasses.replace(await portal.deposits.find("deposit-00000000000002"), state=DepositState.RECALLED)
    await portal.deposits.change(ended, expected=DepositState.WAITING)
    assert await drafts.sweep(before=NOW - 50) == 2
    assert await drafts.of("deposit-00000000000003", DraftKind.REPLY) is not None
    assert await drafts.sweep(before=NOW - 50) == 0


async def test_nothing_of_it_can_be_read_at_rest(portal, drafts):
    await drafts.save(a_draft(to="planted-friend@mail.example"))
    await drafts.add("draft-1", an_upload(size=14), **BOUNDS)
    await drafts.append("upload-1", 0, b"planted-octets")
    assert b"planted" not in portal.harness.at_rest()


async def test_a_piece_that_was_moved_is_not_taken_for_another(portal, drafts):
    await drafts.save(a_draft())
    await drafts.add("draft-1", an_upload(), **BOUNDS)
    await drafts.append("upload-1", 0, b"01234")
    await drafts.append("upload-1", 5, b"56789")
    await portal.database.transact(
        lambda cursor: cursor.run(
            "UPDATE upload_pieces SET sealed = (SELECT sealed FROM upload_pieces WHERE start = 5) WHERE start = 0"
        )
    )
    with pytest.raises(CorruptError):
        await whole(drafts, "upload-1")


@pytest.mark.parametrize("table", ["drafts", "uploads"])
async def test_a_draft_goes_for_being_unreadable_alone(portal, drafts, table):
    await drafts.save(a_draft())
    await drafts.save(a_draft(id="draft-2", kind=DraftKind.FORWARD))
    await drafts.add("draft-1", an_upload(), **BOUNDS)
    await drafts.discard_unreadable("deposit-00000000000001", DraftKind.REPLY)
    await drafts.discard_unreadable("deposit-00000000000009", DraftKind.REPLY)
    assert (await drafts.of("deposit-00000000000001", DraftKind.REPLY)).uploads == (an_upload(),)
    sql = f"UPDATE {table} SET sealed = ? WHERE id IN ('draft-1', 'upload-1')"
    await portal.database.transact(lambda cursor: cursor.run(sql, b"damaged"))
    with pytest.raises(CorruptError):
        await drafts.of("deposit-00000000000001", DraftKind.REPLY)
    await drafts.discard_unreadable("deposit-00000000000001", DraftKind.REPLY)
    assert await drafts.of("deposit-00000000000001", DraftKind.REPLY) is None
    assert await drafts.of("deposit-00000000000001", DraftKind.FORWARD) is not None
