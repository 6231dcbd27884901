"""The audit trail on disk: resumed after any crash, and no tampering goes unseen."""

import asyncio
import os
import shutil
from dataclasses import replace

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.core.change import AuditEvent
from relay.core.errors import CorruptError, PosternError, ProblemsError, SealError, StoreError
from relay.core.ports import OutboxRow
from relay.observe import holds, trail
from relay.observe.archiver import Archiver, ArchiverOptions, heads_to_file
from relay.observe.holds import Hold, load_holds, place_hold, release_hold
from relay.observe.segment_files import load_state, read_places, segment_days, segment_path
from relay.observe.segments import SegmentLog, SyncError
from relay.protect import chain
from tests.unit.protect.test_sealing import make_ring, make_vault

DAY = 86_400.0
NOON = 1_700_049_600.0  # 2023-11-15 12:00 UTC
PATIENT = "jane.roe@patients.example"


class Clock:
    def __init__(self, now=NOON):
        self.now = now

    def __call__(self):
        return self.now


def events(seq: int, count: int = 2):
    facts = {"sender": "ehr@clinic.example", "recipients": [PATIENT, "bob@x.example"], "n": seq, "rule": "phi"}
    return tuple(
        AuditEvent(kind="decided", at=NOON + seq, message_id=f"m{seq}", facts={**facts, "part": part})
        for part in range(count)
    )


def rows(first: int, last: int):
    return [OutboxRow(seq=seq, events=events(seq)) for seq in range(first, last + 1)]


class Outbox:
    """The store's outbox, in memory."""

    def __init__(self, content=()):
        self.rows = list(content)
        self.fail_forget = 0

    async def outbox(self, *, limit):
        return self.rows[:limit]

    async def forget_outbox(self, upto_seq):
        if self.fail_forget:
            self.fail_forget -= 1
            raise StoreError("away")
        self.rows = [row for row in self.rows if row.seq > upto_seq]


def make_log(directory, clock=None, ring=None) -> SegmentLog:
    ring = ring or make_ring()
    log = SegmentLog(directory, vault=make_vault(), ring=lambda: ring, clock=clock or Clock())
    log.open()
    return log


def written(directory, days=3, per_day=4):
    """A trail over some days, signed each day."""
    clock = Clock()
    log = make_log(directory, clock)
    for day in range(days):
        clock.now = NOON + day * DAY
        for batch in range(per_day):
            seq = 1 + 2 * (day * per_day + batch)
            log.append(rows(seq, seq + 1))
        log.sign()
    log.close()
    return days * per_day * 4


def verify(directory):
    return trail.verify(directory, vault=make_vault(), keys=chain.public_keys(make_ring()))


def archived(directory):
    """(seq, n) of every record that came from an outbox row, in order."""
    found = []
    for day in segment_days(directory):
        for place in read_places(segment_path(directory, day), make_vault()):
            for record in place.frame.records:
                item = orjson.loads(record)
                if item["seq"]:
                    found.append((item["seq"], item["facts"]["part"]))
    return found


def expected(last):
    return [(seq, part) for seq in range(1, last + 1) for part in (0, 1)]


def test_a_whole_trail_verifies(tmp_path):
    count = written(tmp_path)
    report = verify(tmp_path)
    assert report.faults == ()
    assert report.records == count
    assert report.heads == 3
    assert archived(tmp_path) == expected(24)


def test_no_mailbox_stands_in_the_files_or_in_the_records(tmp_path):
    written(tmp_path)
    for path in tmp_path.iterdir():
        assert b"clinic.example" not in path.read_bytes()
    for day in segment_days(tmp_path):
        for place in read_places(segment_path(tmp_path, day), make_vault()):
            assert not any(b"jane" in record or b"ehr@" in record for record in place.frame.records)


def test_mailboxes_are_shown_only_on_request(tmp_path):
    written(tmp_path, days=1)
    hidden = next(trail.show(tmp_path, vault=make_vault()))
    assert hidden["facts"]["recipients"] == ["patients.example", "x.example"]
    opened = next(trail.show(tmp_path, vault=make_vault(), mailboxes=True))
    assert opened["facts"]["recipients"] == [PATIENT, "bob@x.example"]


def test_selection_by_message_and_time(tmp_path):
    written(tmp_path)
    assert [item["number"] for item in trail.show(tmp_path, vault=make_vault(), message_id="m3")] == [5, 6]
    assert [item["message_id"] for item in trail.show(tmp_path, vault=make_vault(), since=NOON + 24)] == ["m24", "m24"]


def test_a_frame_that_is_being_written_keeps_nobody_from_reading(tmp_path):
    count = written(tmp_path, days=2)
    days = segment_days(tmp_path)
    with segment_path(tmp_path, days[-1]).open("ab") as segment:
        segment.write((500).to_bytes(4, "big") + b"the first octets of it")
    assert len(list(trail.show(tmp_path, vault=make_vault()))) == count
    lines = list(trail.export(tmp_path, vault=make_vault(), ring=make_ring(), first=days[0], last=days[1], now=NOON))
    assert chain.check_export(lines).count == count
    assert verify(tmp_path).faults == ()


def test_an_older_segment_that_ends_within_a_frame_is_damaged(tmp_path):
    written(tmp_path, days=2)
    with segment_path(tmp_path, segment_days(tmp_path)[0]).open("ab") as segment:
        segment.write((500).to_bytes(4, "big") + b"the first octets of it")
    with pytest.raises(CorruptError, match="ends within a frame"):
        list(trail.show(tmp_path, vault=make_vault()))


# --- tampering --------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("audit")
    written(directory)
    return directory


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "audit")


@settings(max_examples=40, deadline=None)
@given(day=st.integers(0, 2), where=st.integers(min_value=0), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(whole, tmp_path_factory, day, where, bit):
    directory = shutil.copytree(whole, tmp_path_factory.mktemp("flip") / "audit")
    path = segment_path(directory, segment_days(directory)[day])
    content = bytearray(path.read_bytes())
    content[where % len(content)] ^= 1 << bit
    path.write_bytes(content)
    report = verify(directory)
    assert any(path.name in str(fault) for fault in report.faults)


@pytest.mark.parametrize("day", range(3))
@pytest.mark.parametrize("frame", range(6))
def test_a_frame_taken_out_is_found(copy, day, frame):
    path = segment_path(copy, segment_days(copy)[day])
    places = list(read_places(path, make_vault()))
    content = path.read_bytes()
    path.write_bytes(content[: places[frame].start] + content[places[frame].end :])
    assert verify(copy).faults


def test_a_trail_that_is_gone_is_not_called_whole(tmp_path):
    for directory in (tmp_path / "nowhere", tmp_path):
        report = verify(directory)
        assert [fault.where for fault in report.faults] == [str(directory)]


@pytest.fixture
def grown(tmp_path):
    """A trail, its copy of the day before, and the heads that were sent off meanwhile."""
    sent = []
    written(tmp_path / "audit", days=1)
    earlier = shutil.copytree(tmp_path / "audit", tmp_path / "earlier")
    log = make_log(tmp_path / "audit", Clock(NOON + DAY))
    log.append(rows(9, 10))
    sent.append(log.sign())
    log.append(rows(11, 12))
    sent.append(log.sign())
    log.close()
    heads = tmp_path / "heads"
    heads.write_bytes(b"".join(orjson.dumps(head) + b"\n" for head in sent))
    return tmp_path / "audit", earlier, heads


def compare(directory, heads):
    return trail.verify(directory, vault=make_vault(), keys=chain.public_keys(make_ring()), heads=heads).faults


def test_a_trail_put_back_to_an_earlier_day_is_found_by_the_heads_kept_elsewhere(grown):
    audit, earlier, heads = grown
    assert compare(audit, heads) == ()
    assert verify(earlier).faults == ()
    (fault,) = compare(earlier, heads)
    assert fault.where == f"{heads}:1"
    assert "removed or replaced" in fault.what


def test_heads_kept_elsewhere_must_be_ours_and_readable(grown, tmp_path):
    audit, _, heads = grown
    first, second = heads.read_bytes().splitlines()
    heads.write_bytes(b"nonsense\n" + first.replace(b'"count":', b'"count":1') + b"\n[]\n" + second + b"\n" + first[:9])
    assert [fault.where for fault in compare(audit, heads)] == [f"{heads}:{line}" for line in (1, 2, 3)]
    (fault,) = compare(audit, tmp_path / "none")
    assert "cannot be read" in fault.what


def test_heads_of_records_that_have_expired_are_passed_over(grown):
    audit, _, heads = grown
    *_, old = read_places(segment_path(audit, segment_days(audit)[0]), make_vault())
    assert old.frame.kind == "head"
    heads.write_bytes(orjson.dumps(old.frame.facts) + b"\n" + heads.read_bytes())
    assert compare(audit, heads) == ()
    log = make_log(audit, Clock(NOON + DAY))
    assert log.expire("2023-11-16", lambda day: False) == ("2023-11-15",)
    log.close()
    assert compare(audit, heads) == ()


def test_frames_in_another_order_are_found(copy):
    path = segment_path(copy, segment_days(copy)[1])
    one, two = list(read_places(path, make_vault()))[1:3]
    content = path.read_bytes()
    swapped = content[: one.start] + content[two.start : two.end] + content[one.start : one.end] + content[two.end :]
    path.write_bytes(swapped)
    assert verify(copy).faults


@pytest.mark.parametrize("day", range(3))
@pytest.mark.parametrize("cut", ["in a frame", "between frames", "before the head", "all but the magic", "all"])
def test_a_cut_segment_is_found(copy, day, cut):
    path = segment_path(copy, segment_days(copy)[day])
    places = list(read_places(path, make_vault()))
    end = {
        "in a frame": places[2].start + 9,
        "between frames": places[3].start,
        "before the head": places[-1].start,
        "all but the magic": 6,
        "all": 0,
    }[cut]
    os.truncate(path, end)
    assert verify(copy).faults


@pytest.mark.parametrize("day", range(3))
def test_a_segment_taken_away_is_found(copy, day):
    segment_path(copy, segment_days(copy)[day]).unlink()
    assert verify(copy).faults


def test_swapped_segments_are_found(copy):
    one, two = (segment_path(copy, day) for day in segment_days(copy)[:2])
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert verify(copy).faults


def test_a_state_taken_away_or_changed_is_found(copy):
    state = copy / "state"
    content = bytearray(state.read_bytes())
    content[-1] ^= 1
    state.write_bytes(content)
    assert any("state" in str(fault) for fault in verify(copy).faults)
    state.unlink()
    assert any("state" in str(fault) for fault in verify(copy).faults)


def test_a_trail_signed_by_another_ring_is_found(tmp_path):
    log = make_log(tmp_path, ring=make_ring(seed="thief"))
    log.append(rows(1, 2))
    log.sign()
    log.close()
    assert any("not known" in str(fault) for fault in verify(tmp_path).faults)


@pytest.mark.parametrize("how", ["cut", "gone"])
def test_a_writer_refuses_to_go_on_from_less_than_was_signed(copy, how):
    path = segment_path(copy, segment_days(copy)[-1])
    if how == "cut":
        os.truncate(path, path.stat().st_size - 1)
    else:
        path.unlink()
    with pytest.raises(CorruptError, match="postern audit verify"):
        make_log(copy)


def test_every_fault_names_its_place(copy):
    path = segment_path(copy, segment_days(copy)[1])
    place = list(read_places(path, make_vault()))[2]
    content = bytearray(path.read_bytes())
    content[place.start + 50] ^= 1
    path.write_bytes(content)
    fault = verify(copy).faults[0]
    assert fault.where == f"{path}, octet {place.start}"
    assert "frame 2" in fault.what


# --- resuming ---------------------------------------------------------------


def tear(directory, log, cut: int):
    """A power cut: the last segment loses some octets of its last frame, which was never synced."""
    log.close()
    path = segment_path(directory, segment_days(directory)[-1])
    os.truncate(path, log.state.size - cut)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 4)),
        st.tuples(st.just("forget"), st.just(0)),
        st.tuples(st.just("sign"), st.just(0)),
        st.tuples(st.just("kill"), st.just(0)),
        st.tuples(st.just("tear"), st.integers(1, 200)),
        st.tuples(st.just("day"), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_no_crash_leaves_a_gap_or_a_repetition(tmp_path_factory, steps):
    """Rows are forgotten only after an append; whatever dies in between, each row is archived once, in order."""
    directory = tmp_path_factory.mktemp("crash")
    clock = Clock()
    log = make_log(directory, clock)
    outbox, last = [], 0
    for step, amount in steps:
        if step == "append":
            outbox += rows(last + 1, last + amount)
            last += amount
            log.append(outbox)
        elif step == "forget" and outbox:
            log.append(outbox)
            log.forgotten(outbox[-1].seq)
            outbox = []
        elif step == "sign":
            log.sign()
        elif step == "day":
            clock.now += DAY
        elif step == "kill":
            log.close()
            log = make_log(directory, clock)
        elif step == "tear":
            log.append(outbox)
            before = log.state.size
            last += 1
            outbox += rows(last, last)
            log.append(outbox)
            if log.state.size > before > 0:
                tear(directory, log, min(amount, log.state.size - before))
            log.close()
            log = make_log(directory, clock)
    log.append(outbox)
    log.sign()
    log.close()
    assert archived(directory) == expected(last)
    faults = verify(directory).faults
    assert faults == () if segment_days(directory) else "nothing was recorded yet" in faults[0].what


def test_a_torn_new_segment_is_begun_again(tmp_path):
    for keep in (0, 3, 6, 20):
        directory = tmp_path / str(keep)
        log = make_log(directory)
        log.append(rows(1, 1))
        log.sign()
        log.close()
        segment_path(directory, "2023-11-16").write_bytes(
            b"PSEG1\n\0\0\1\0" + bytes(keep) if keep > 6 else b"PSEG1\n"[:keep]
        )
        log = make_log(directory, Clock(NOON + DAY))
        log.append(rows(2, 2))
        log.sign()
        log.close()
        assert verify(directory).faults == ()
        assert archived(directory) == expected(2)


def test_rows_that_vanished_from_the_outbox_are_noted(tmp_path):
    log = make_log(tmp_path)
    log.append(rows(1, 2))
    log.forgotten(2)
    log.append(rows(5, 6))
    log.sign()
    log.close()
    assert [str(fault) for fault in verify(tmp_path).faults if "3 to 4" in str(fault)]


def test_a_queue_made_anew_is_archived_from_its_first_row(tmp_path):
    log = make_log(tmp_path)
    log.append(rows(1, 5))
    log.forgotten(5)
    log.append([OutboxRow(seq=1, events=events(1))])
    log.close()
    assert archived(tmp_path) == expected(5) + expected(1)
    alerts = [item for item in trail.show(tmp_path, vault=make_vault()) if item["kind"] == "alert"]
    assert [item["facts"]["alert"] for item in alerts] == ["the outbox is numbered anew"]


def digested(first, last):
    """Rows as a store gives them now: told apart by how they are kept."""
    return [replace(row, digest=f"{row.seq:032x}") for row in rows(first, last)]


@pytest.mark.parametrize(
    ("before", "after"), [(rows, digested), (digested, digested)], ids=["an-earlier-version", "now"]
)
def test_rows_that_a_crash_left_in_the_outbox_are_known_by_either_digest(tmp_path, before, after):
    log = make_log(tmp_path)
    log.append(before(1, 3))
    log.close()
    log = make_log(tmp_path)
    assert log.append(after(1, 5)) == 2
    log.close()
    assert archived(tmp_path) == expected(5)


def test_a_row_of_a_queue_made_anew_is_told_from_the_one_of_that_number_by_how_it_is_kept(tmp_path):
    log = make_log(tmp_path)
    log.append(digested(1, 2))
    assert log.append([OutboxRow(seq=1, events=events(7), digest="f" * 32)]) == 1
    log.close()


def test_rows_too_long_for_one_frame_become_several_that_are_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr(chain, "MAX_FRAME", 8000)
    monkeypatch.setattr(chain, "LONG_FRAME", 2000)
    log = make_log(tmp_path)
    assert log.append(digested(1, 20)) == 20
    log.close()
    log = make_log(tmp_path)
    assert log.append(digested(15, 21)) == 1
    log.sign()
    log.close()
    assert archived(tmp_path) == expected(21)
    assert verify(tmp_path).faults == ()


def test_a_clock_set_back_does_not_go_back_to_an_older_segment(tmp_path):
    clock = Clock()
    log = make_log(tmp_path, clock)
    log.append(rows(1, 1))
    clock.now -= 3 * DAY
    log.append(rows(2, 2))
    log.close()
    assert segment_days(tmp_path) == ("2023-11-15",)


def test_only_one_writer(tmp_path):
    log = make_log(tmp_path)
    with pytest.raises(ProblemsError, match="another process"):
        make_log(tmp_path)
    log.close()
    make_log(tmp_path).close()


def test_a_failed_sync_leaves_nothing_behind(tmp_path, monkeypatch):
    log = make_log(tmp_path)
    log.append(rows(1, 1))
    size = segment_path(tmp_path, "2023-11-15").stat().st_size

    def fails(descriptor):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fails)
        with pytest.raises(SyncError):
            log.append(rows(2, 2))
    assert segment_path(tmp_path, "2023-11-15").stat().st_size == size
    log.close()


def test_a_full_disk_is_tried_again(tmp_path, monkeypatch):
    log = make_log(tmp_path)

    def full(*args):
        raise OSError(28, "No space left on device")

    log.append(rows(1, 1))
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(StoreError, match="No space left"):
            log.append(rows(2, 2))
    log.append(rows(2, 3))
    log.sign()
    log.close()
    assert archived(tmp_path) == expected(3)
    assert verify(tmp_path).faults == ()


# --- expiry and holds -------------------------------------------------------


def test_old_segments_expire_and_the_rest_still_verifies(tmp_path):
    written(tmp_path)
    log = make_log(tmp_path, Clock(NOON + 3 * DAY))
    assert log.expire("2023-11-17", lambda day: False) == ("2023-11-15", "2023-11-16")
    log.sign()
    log.close()
    assert verify(tmp_path).faults == ()
    segment_path(tmp_path, segment_days(tmp_path)[0]).unlink()
    assert verify(tmp_path).faults


def test_a_hold_keeps_its_days_and_all_after(tmp_path):
    written(tmp_path)
    log = make_log(tmp_path, Clock(NOON + 9 * DAY))
    assert log.expire("2024-01-01", lambda day: day == "2023-11-16") == ("2023-11-15",)
    log.close()


def a_hold(name="case-7", first="2023-11-16", last="2023-11-16", **fields):
    return Hold(**{"name": name, "first": first, "last": last, "reason": "inquiry", "by": "ann", "at": 0.0, **fields})


def release(directory, name="case-7", noted=None, **fields):
    said = {"by": "bob", "reason": "the inquiry is closed", "at": NOON, **fields}
    return release_hold(directory, name, noted=noted or {}, vault=make_vault(), **said)


def stands(directory, noted=None):
    return holds.standing(noted or {}, load_holds(directory), make_vault())


def test_holds_are_placed_and_released(tmp_path):
    place_hold(tmp_path, a_hold(), {})
    assert stands(tmp_path).holds == load_holds(tmp_path) == (a_hold(),)
    with pytest.raises(ProblemsError, match="of this name"):
        place_hold(tmp_path, a_hold(), {})
    with pytest.raises(ProblemsError, match="reason"):
        release(tmp_path, reason=" ")
    released = release(tmp_path)
    assert (released.released_by, released.release_reason, released.released_at) == (
        "bob", "the inquiry is closed", NOON,
    )  # fmt: skip
    assert (stands(tmp_path).holds, stands(tmp_path).faults) == ((), ())
    for wrong in ("case-7", "case-8"):
        with pytest.raises(ProblemsError):
            release(tmp_path, wrong)
    with pytest.raises(ProblemsError, match="of this name"):
        place_hold(tmp_path, a_hold(), {})
    with pytest.raises(ProblemsError, match="of this name"):
        place_hold(tmp_path / "elsewhere", a_hold(), {"case-7": a_hold()})


def rewrite(directory, change):
    path = directory / "holds.json"
    items = orjson.loads(path.read_bytes())
    path.write_bytes(orjson.dumps(change(items)))


def called_released(items):
    return [{**item, "released_at": NOON, "released_by": "ann", "release_reason": "so"} for item in items]


def of_another(items):
    """The seal of another hold's release."""
    [seal] = [item["seal"] for item in items if item["seal"]]
    return [{**item, "released_at": NOON, "seal": seal} for item in items if item["name"] == "case-7"]


@pytest.mark.parametrize(("change", "what"), [
    (lambda _: [], "is missing"),
    (called_released, "not under our key ring"),
    (of_another, "not under our key ring"),
    (lambda items: [{**item, "first": "2023-11-17", "last": "2023-11-17"} for item in items], "was changed"),
])  # fmt: skip
async def test_a_hold_is_not_taken_off_by_editing_the_file_and_the_trail_says_so(tmp_path, change, what):
    written(tmp_path)
    archiver = make_archiver(tmp_path, Outbox(), Clock(NOON + 102 * DAY), retention=30 * DAY)
    place_hold(tmp_path, a_hold(), {})
    place_hold(tmp_path, a_hold("other"), {})
    release(tmp_path, "other")
    await archiver.open()
    assert await archiver.expire() == ("2023-11-15",)
    assert verify(tmp_path).faults == ()
    rewrite(tmp_path, change)
    for _ in range(2):
        assert await archiver.expire() == ()
    faults = verify(tmp_path).faults
    assert faults
    assert all(fault.where.endswith("holds.json") for fault in faults)
    assert any(what in fault.what for fault in faults)
    await archiver.close()
    again = make_archiver(tmp_path, Outbox(), Clock(NOON + 103 * DAY), retention=30 * DAY)
    await again.open()
    assert await again.expire() == (), "a start forgets nothing"
    await again.close()
    told = [item["facts"]["why"] for item in trail.show(tmp_path, vault=make_vault()) if item["kind"] == "alert"]
    assert any(what in why for why in told)


async def test_the_trail_tells_of_a_hold_and_its_release_once_with_who_and_why(tmp_path):
    written(tmp_path)
    clock = Clock(NOON + 3 * DAY)
    archiver = make_archiver(tmp_path, Outbox(), clock)
    await archiver.open()
    place_hold(tmp_path, a_hold(), {})
    await archiver.expire()
    await archiver.close()
    (tmp_path / "holds.json").unlink()  # the trail knows it all the same
    release(tmp_path, noted=load_state(tmp_path, make_vault()).holds)
    archiver = make_archiver(tmp_path, Outbox(), clock)
    await archiver.open()
    for _ in range(2):
        await archiver.expire()
    await archiver.close()
    acts = [item["facts"] for item in trail.show(tmp_path, vault=make_vault()) if item["kind"] == "operator"]
    assert [(act["action"], act["hold"]["name"]) for act in acts] == [
        ("legal hold placed", "case-7"), ("legal hold released", "case-7"),
    ]  # fmt: skip
    assert (acts[0]["hold"]["by"], acts[0]["hold"]["reason"]) == ("ann", "inquiry")
    assert (acts[1]["hold"]["released_by"], acts[1]["hold"]["release_reason"]) == ("bob", "the inquiry is closed")
    assert verify(tmp_path).faults == ()


async def test_holds_are_known_from_the_trail_where_its_state_was_lost(tmp_path):
    written(tmp_path)
    archiver = make_archiver(tmp_path, Outbox(), Clock(NOON + 102 * DAY), retention=30 * DAY)
    place_hold(tmp_path, a_hold(first="2023-11-01"), {})
    await archiver.open()
    assert await archiver.expire() == ()
    await archiver.close()
    (tmp_path / "state").unlink()
    (tmp_path / "holds.json").unlink()
    archiver = make_archiver(tmp_path, Outbox(), Clock(NOON + 102 * DAY), retention=30 * DAY)
    await archiver.open()
    assert await archiver.expire() == ()
    await archiver.close()
    assert any("is missing, and was never released" in fault.what for fault in verify(tmp_path).faults)


def test_unreadable_holds_expire_nothing(tmp_path):
    (tmp_path / "holds.json").write_bytes(b"[{")
    with pytest.raises(CorruptError, match="nothing is expired"):
        load_holds(tmp_path)


# --- the archiver -----------------------------------------------------------


def make_archiver(directory, outbox, clock=None, sinks=(), **options):
    chosen = ArchiverOptions(directory=directory, idle=0.01, linger=0.0, **options)
    return Archiver(
        store=outbox, vault=make_vault(), ring=make_ring, clock=clock or Clock(), options=chosen, sinks=sinks
    )


async def test_the_outbox_empties_into_the_trail(tmp_path):
    outbox, heads = Outbox(rows(1, 25)), []
    archiver = make_archiver(tmp_path / "audit", outbox, sinks=[heads.append], batch=10, heads_file=tmp_path / "heads")
    await archiver.open()
    assert [await archiver.step() for _ in range(4)] == [10, 10, 5, 0]
    await archiver.close()
    assert outbox.rows == []
    assert archived(tmp_path / "audit") == expected(25)
    assert verify(tmp_path / "audit").faults == ()
    assert [head["count"] for head in heads] == [50]
    assert orjson.loads((tmp_path / "heads").read_bytes()) == heads[0]
    chain.check_head(heads[0], chain.public_keys(make_ring()))


def test_a_head_that_the_disk_takes_in_part_leaves_nothing(tmp_path, monkeypatch):
    path, write = tmp_path / "heads", os.write
    send = heads_to_file(path)
    send({"count": 1})
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:5]))
        with pytest.raises(OSError, match="No space left"):
            send({"count": 2})
    send({"count": 3})
    assert [orjson.loads(line) for line in path.read_bytes().splitlines()] == [{"count": 1}, {"count": 3}]


async def test_rows_that_could_not_be_forgotten_are_not_archived_twice(tmp_path):
    outbox = Outbox(rows(1, 3))
    outbox.fail_forget = 1
    archiver = make_archiver(tmp_path, outbox)
    await archiver.open()
    with pytest.raises(StoreError):
        await archiver.step()
    outbox.rows += rows(4, 5)
    await archiver.step()
    await archiver.close()
    assert archived(tmp_path) == expected(5)


async def test_a_full_batch_is_followed_by_the_next_at_once(tmp_path):
    outbox, emptied = Outbox(rows(1, 6)), asyncio.Event()
    forget = outbox.forget_outbox

    async def forget_outbox(upto):
        await forget(upto)
        if not outbox.rows:
            emptied.set()

    outbox.forget_outbox = forget_outbox
    options = ArchiverOptions(directory=tmp_path, batch=2, idle=3600.0, linger=3600.0)
    await runs_until(
        emptied, Archiver(store=outbox, vault=make_vault(), ring=make_ring, clock=Clock(), options=options)
    )
    assert archived(tmp_path) == expected(6)


async def runs_until(event, archiver):
    """Let an archiver run until something happened, and stop it."""
    await archiver.open()
    stop = asyncio.Event()
    running = asyncio.create_task(archiver.run(stop))
    await asyncio.wait_for(event.wait(), 60)
    stop.set()
    await running
    await archiver.close()


async def runs_until_signed(tmp_path, outbox):
    """Let an archiver run until it has signed a head, and stop it."""
    signed, loop = asyncio.Event(), asyncio.get_running_loop()
    sinks = [lambda head: loop.call_soon_threadsafe(signed.set)]
    await runs_until(signed, make_archiver(tmp_path, outbox, sinks=sinks, sign_interval=0.0))


async def test_it_runs_until_it_is_stopped(tmp_path):
    outbox = Outbox(rows(1, 5))
    await runs_until_signed(tmp_path, outbox)
    assert archived(tmp_path) == expected(5)


async def test_heads_are_signed_on_when_the_clock_was_set_back(tmp_path):
    clock, signed, loop = Clock(NOON + DAY), asyncio.Event(), asyncio.get_running_loop()
    outbox, sinks = Outbox(rows(1, 5)), [lambda head: loop.call_soon_threadsafe(signed.set)]
    read = outbox.outbox

    async def outbox_read(*, limit):
        clock.now = NOON
        return await read(limit=limit)

    outbox.outbox = outbox_read
    await runs_until(signed, make_archiver(tmp_path, outbox, clock, sinks=sinks, sign_interval=60.0))
    assert verify(tmp_path).faults == ()


async def test_a_fault_of_ours_does_not_end_the_trail(tmp_path):
    outbox = Outbox(rows(1, 5))
    read, faults = outbox.outbox, [OSError(24, "Too many open files"), KeyError("x")]

    async def outbox_read(*, limit):
        if faults:
            raise faults.pop()
        return await read(limit=limit)

    outbox.outbox = outbox_read
    await runs_until_signed(tmp_path, outbox)
    assert archived(tmp_path) == expected(5)


async def test_a_head_that_cannot_be_sent_stops_nothing(tmp_path):
    def away(head):
        raise OSError(101, "Network is unreachable")

    archiver = make_archiver(tmp_path, Outbox(rows(1, 1)), sinks=[away])
    await archiver.open()
    await archiver.step()
    assert (await archiver.sign())["count"] == 2
    await archiver.close()


async def test_retention_respects_holds(tmp_path):
    written(tmp_path)
    clock = Clock(NOON + 2 * DAY + 100 * DAY)
    archiver = make_archiver(tmp_path, Outbox(), clock, retention=30 * DAY)
    place_hold(tmp_path, a_hold("h"), {})
    await archiver.open()
    assert await archiver.expire() == ("2023-11-15",)
    release(tmp_path, "h")
    assert await archiver.expire() == ("2023-11-16", "2023-11-17")
    await archiver.close()
    assert verify(tmp_path).faults == ()


# --- exports ----------------------------------------------------------------


def exported(directory, days=("2023-11-15", "2023-11-17")):
    return list(trail.export(directory, vault=make_vault(), ring=make_ring(), first=days[0], last=days[1], now=NOON))


@pytest.mark.parametrize(
    "days", [("2023-11-15", "2023-11-17"), ("2023-11-16", "2023-11-16"), ("2023-01-01", "2024-01-01")]
)
def test_an_export_is_checked_without_any_secret(whole, days):
    lines = exported(whole, days)
    assert chain.check_export(lines).count == (32 if days[0] == days[1] else 48)
    assert not any(b"jane" in line for line in lines)


@pytest.mark.parametrize("change", ["drop", "swap", "edit", "cut", "add", "head"])
def test_a_changed_export_is_found(whole, change):
    lines = exported(whole)
    if change == "drop":
        del lines[5]
    elif change == "swap":
        lines[5], lines[6] = lines[6], lines[5]
    elif change == "edit":
        lines[5] = lines[5].replace(b"phi", b"psi")
    elif change == "cut":
        lines = lines[:-1]
    elif change == "add":
        lines.append(lines[5])
    else:
        lines[-1] = lines[-1].replace(b'"count":48', b'"count":47')
    with pytest.raises(PosternError):
        chain.check_export(lines)


def test_an_export_without_its_first_records_is_found(whole):
    lines = exported(whole)
    opening, hidden = orjson.loads(lines[0]), lines[1:6]
    at = bytes.fromhex(opening["hash"])
    for record in hidden:
        at = chain.link(at, record)
    start = {**opening, "count": opening["count"] + len(hidden), "hash": at.hex()}
    with pytest.raises(SealError, match="removed at its beginning"):
        chain.check_export([orjson.dumps(start), *lines[6:]])


def test_an_export_that_ends_with_another_head_of_the_trail_is_found(whole):
    lines = exported(whole)
    heads = [
        place.frame.facts
        for day in segment_days(whole)
        for place in read_places(segment_path(whole, day), make_vault())
        if place.frame.kind == "head"
    ]
    assert heads[0]["count"] < 48
    closing = orjson.dumps({**orjson.loads(lines[-1]), "head": heads[0]})
    with pytest.raises(SealError, match="or its end"):
        chain.check_export([*lines[: heads[0]["count"] + 1], closing])


def test_the_days_of_an_export_are_signed(whole):
    lines = exported(whole)
    lines[0] = lines[0].replace(b'"from":"2023-11-15"', b'"from":"2023-11-01"')
    with pytest.raises(SealError, match="not this export's"):
        chain.check_export(lines)


def test_nothing_is_exported_of_a_damaged_trail(copy):
    path = segment_path(copy, segment_days(copy)[1])
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptError):
        exported(copy)


# --- records ----------------------------------------------------------------


def test_text_no_encoding_can_carry_is_still_recorded():
    event = AuditEvent(kind="x", at=1.0, facts={"helo": "a\udc80b", "sender": "j\udc80@x.example"})
    record = orjson.loads(chain.encode_record(1, 1, event, make_vault()))
    assert record["facts"]["sender"]["domain"] == "x.example"
    assert chain.row_digest([event]) == chain.row_digest([event])


NESTED = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**50), 2**50), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["sender", "recipients", "rule", "x"]), inner, max_size=3),
    ),
    max_leaves=8,
)


@given(facts=st.dictionaries(st.sampled_from(["sender", "recipients", "rule", "x"]), NESTED, max_size=4))
def test_mailboxes_open_again_at_any_depth(facts):
    vault = make_vault()
    assert chain.open_mailboxes(chain.seal_mailboxes(facts, vault), vault) == facts


@pytest.mark.parametrize("octets", [0, 3, 20])
def test_a_first_segment_torn_at_its_birth_is_begun_again(tmp_path, octets):
    log = make_log(tmp_path)
    log.append(rows(1, 1))
    log.close()
    (segment,) = tmp_path.glob("*.seg")
    for file in tmp_path.iterdir():
        if file != segment and file.name != ".lock":
            file.unlink()  # the crash came before the state was saved
    segment.write_bytes(segment.read_bytes()[:octets])
    again = make_log(tmp_path)
    again.append(rows(1, 1))
    again.close()
    assert verify(tmp_path).faults == ()
    assert archived(tmp_path) == expected(1)
