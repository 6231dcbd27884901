"""Law 7: what is kept is sealed on disk; what was changed there is never delivered; keys rotate while running."""

import asyncio
import signal
import smtplib
from base64 import b64encode
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from relay.app.admin import AdminService
from relay.app.base import Life, Site
from relay.config.keyfiles import load_ring, ring_path
from relay.config.store import is_postgres
from tests.support.composed import composed
from tests.support.plants import Patient, Plants
from tests.support.postgres import shared
from tests.support.system import audit, domain, log_lines, system, until
from tests.support.tables import Tables

pytestmark = pytest.mark.law

MX = "mail.example"
LATER = "421 4.3.2 Later"
FRAME = 65_536 + 16  # octets of a sealed frame (relay/protect/sealing.py)
HEAD = 28  # octets before the first
LARGE = 6_000  # lines: more than what is kept inside the database


@dataclass
class Letter:
    """A message in the queue, by what it was planted with."""

    patient: Patient
    content: bytes
    id: str = ""


async def keep(it, plants, *, lines=0):
    """Send one message that its peer puts off."""
    patient = Patient.of(plants)
    sender, recipient = patient.addresses(MX)
    letter = Letter(patient, patient.message(MX, lines=lines))
    code, text = await it.send(recipient, letter.content, sender=sender)
    assert code == 250
    letter.id = text.rpartition(" ")[2]
    return letter


async def all_tried(it, count):
    async with asyncio.timeout(60):
        while True:
            entries = await it.entries()
            if len(entries) == count and all(entry.attempts for entry in entries):
                return
            await asyncio.sleep(0.05)


def bodies(it):
    return it.site.directory / "data" / "queue" / "bodies"


def take_mail(it):
    open_up(it.internet.peers[MX])


def open_up(peer):
    peer.behaviour = replace(peer.behaviour, banner="")


def put_off():
    return domain(MX, banner=LATER)


# --- nothing can be read ---


def places_of(tmp_path, store):
    """Where data may lie; what the database has in memory is written there first."""
    places = [tmp_path / "data", tmp_path / "run"]
    if is_postgres(store):
        shared().sql("CHECKPOINT")
        places += [shared().files_of(store), shared().data / "pg_wal"]
    return places


async def test_no_file_holds_anything_readable(tmp_path, store):
    plants = Plants()
    async with composed(tmp_path, put_off(), store=store) as it:
        for lines in (0, 0, LARGE):
            await keep(it, plants, lines=lines)
        await all_tried(it, 3)
        wanted = plants.kinds()
        octets, found = wanted.search_files(*places_of(tmp_path, store))
        assert is_postgres(store) or list(bodies(it).rglob("*"))
        await it.stop()
        more, found_later = wanted.search_files(*places_of(tmp_path, store))
        assert octets > 400_000
        assert more > 400_000
        assert found + found_later == []
        names = b"".join(path.name.encode() for path in (tmp_path / "data").rglob("*"))
        assert wanted.search("names", names) == []


# --- what was changed is not delivered ---

PLACES = (0, 2, 3, 6, 7, 9, 20, 27, 28, 40, -40, -17, -16, -1)
"""Of a sealed object: magic, key version, salt, first and last octets of text, tag."""
COLUMNS = (("bodies", "message_id", "sealed"), ("messages", "id", "facts"), ("details", "entry_id", "sealed"))


def flip(tables, table, key, column, identity, place):
    changed = bytearray(tables.value(f"SELECT {column} FROM {table} WHERE {key} = ?", identity))
    changed[place] ^= 0x01
    tables.run(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", bytes(changed), identity)


def swap(tables, table, key, column, first, second):
    one, other = (tables.value(f"SELECT {column} FROM {table} WHERE {key} = ?", each) for each in (first, second))
    for identity, sealed in ((first, other), (second, one)):
        tables.run(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", sealed, identity)


async def delivered_after(it, store, damaged, whole):
    """Start again with a peer that takes mail; what was damaged must stay, what was not must go.

    Every damaged message is then held or set aside, and an alert in the audit trail names it.
    """
    take_mail(it)
    await it.start()
    peer = it.internet.peers[MX]
    await peer.wait_messages(len(whole), timeout=60)
    async with asyncio.timeout(60):
        while not await told_of(it) >= {letter.id for letter in damaged}:  # noqa: ASYNC110  the store tells nobody
            await asyncio.sleep(0.05)
    assert await told_of(it) == {letter.id for letter in damaged}
    sent = {message.recipients[0].partition("@")[0]: message.content for message in peer.messages}
    assert sent.keys() == {letter.patient.recipient for letter in whole}
    for letter in whole:
        text = letter.content.partition(b"\r\n\r\n")[2]
        assert sent[letter.patient.recipient].endswith(text), "what was not damaged arrives as it was sent"
    await it.stop()
    with Tables(it.site.directory, store) as tables:
        kept = {name for (name,) in tables.run("SELECT id FROM messages")}
    assert kept == {letter.id for letter in damaged}, "nothing damaged was dropped"


async def told_of(it):
    """Messages that an event of the audit trail says were set aside or held."""
    found = set()
    for event in await it.events():
        if event.kind == "alert" and event.facts["alert"] == "entry-damaged":
            found.add(event.facts["entry"].partition(".")[0])
        if event.facts.get("state") == "held" and "set aside" in event.facts.get("reason", ""):
            found.add(event.message_id)
    return found


async def test_no_changed_octet_of_body_message_or_entry_goes_unnoticed(tmp_path, store):
    plants = Plants()
    async with composed(tmp_path, put_off(), store=store) as it:
        letters = [await keep(it, plants) for _ in range(len(PLACES) * len(COLUMNS) + 2)]
        await all_tried(it, len(letters))
        await it.stop()
        *damaged, first, last = letters
        cases = [(column, place) for column in COLUMNS for place in PLACES]
        with Tables(tmp_path, store) as tables:
            for letter, ((table, key, column), place) in zip(damaged, cases, strict=True):
                flip(tables, table, key, column, letter.id + (".1" if table == "details" else ""), place)
        await delivered_after(it, store, damaged, [first, last])


async def test_sealed_parts_of_two_messages_cannot_be_exchanged(tmp_path, store):
    plants = Plants()
    async with composed(tmp_path, put_off(), store=store) as it:
        letters = [await keep(it, plants) for _ in range(7)]
        await all_tried(it, len(letters))
        await it.stop()
        ids = [letter.id for letter in letters]
        with Tables(tmp_path, store) as tables:
            swap(tables, "bodies", "message_id", "sealed", ids[0], ids[1])
            swap(tables, "messages", "id", "facts", ids[2], ids[3])
            swap(tables, "details", "entry_id", "sealed", f"{ids[4]}.1", f"{ids[5]}.1")
        await delivered_after(it, store, letters[:6], letters[6:])


async def test_a_changed_row_of_the_outbox_is_alerted_kept_and_holds_nobody_up(tmp_path, store):
    plants = Plants()
    place = "place" if is_postgres(store) else "seq"
    async with composed(tmp_path, put_off(), store=store) as it:
        letters = [await keep(it, plants) for _ in range(3)]
        await all_tried(it, len(letters))
        await it.stop()
        with Tables(tmp_path, store) as tables:
            rows = [seq for (seq,) in tables.run(f"SELECT {place} FROM outbox ORDER BY {place}")]
            flip(tables, "outbox", place, "sealed", rows[1], -20)
            sealed = tables.value(f"SELECT sealed FROM outbox WHERE {place} = ?", rows[1])
        admin = AdminService(Life(site=Site.of(snapshot=None, config=it.site.config), name="admin-1"))
        await admin.start()
        await admin.stop()
        records = audit(it.site)
        with Tables(tmp_path, store) as tables:
            assert tables.value("SELECT count(*) FROM outbox") == 0
    (alert,) = [one["facts"] for one in records if one["facts"].get("alert") == "outbox-row-damaged"]
    assert alert == {"alert": "outbox-row-damaged", "row": 2, "sealed": b64encode(sealed).decode()}
    assert len({one["message_id"] for one in records if one["message_id"]}) >= 2, "the rows around it are archived"


class LargeBodies:
    """Sealed bodies too large for what is read often: files beside SQLite's database, rows in PostgreSQL's."""

    def __init__(self, it, tables, store):
        self._tables = tables
        self._files = None
        if not is_postgres(store):
            places = {path.name: path for path in bodies(it).rglob("*") if path.is_file()}
            names = tables.run("SELECT id, file FROM messages")
            self._files = {message_id: places[Path(name).name] for message_id, name in names}

    def read(self, message_id):
        if self._files is not None:
            return self._files[message_id].read_bytes()
        return self._tables.value("SELECT sealed FROM bodies WHERE message_id = ?", message_id)

    def write(self, message_id, whole):
        if self._files is not None:
            self._files[message_id].write_bytes(whole)
        else:
            self._tables.run("UPDATE bodies SET sealed = ? WHERE message_id = ?", whole, message_id)

    def lose(self, message_id):
        if self._files is not None:
            self._files[message_id].unlink()
        else:
            self._tables.run("DELETE FROM bodies WHERE message_id = ?", message_id)


def frames(whole):
    """The head and the frames of a sealed body."""
    return [whole[:HEAD], *(whole[start : start + FRAME] for start in range(HEAD, len(whole), FRAME))]


def with_frame_of(whole, other):
    """The second frame of another goes in: same place, same size, authentic."""
    mine = frames(whole)
    mine[2] = frames(other)[2]
    return b"".join(mine)


def reordered(whole):
    head, first, second, *rest = frames(whole)
    return b"".join((head, second, first, *rest))


def cut(whole):
    return b"".join(frames(whole)[:-1])


def doubled(whole):
    head, first, *rest = frames(whole)
    return b"".join((head, first, first, *rest))


def flipped_in_last_frame(whole):
    return whole[:-100] + bytes([whole[-100] ^ 0x80]) + whole[-99:]


async def test_frames_of_large_bodies_cannot_be_exchanged_moved_cut_doubled_or_lost(tmp_path, store):
    plants = Plants()
    async with composed(tmp_path, put_off(), settings={"scan": {"timeout": "200ms"}}, store=store) as it:
        letters = [await keep(it, plants, lines=LARGE) for _ in range(9)]
        await all_tried(it, len(letters))
        await it.stop()
        ids = [letter.id for letter in letters]
        with Tables(tmp_path, store) as tables:
            kept = LargeBodies(it, tables, store)
            one, other = kept.read(ids[0]), kept.read(ids[1])
            kept.write(ids[0], with_frame_of(one, other))
            kept.write(ids[1], with_frame_of(other, one))
            for message_id, change in zip(ids[2:6], (reordered, cut, doubled, flipped_in_last_frame), strict=True):
                kept.write(message_id, change(kept.read(message_id)))
            kept.lose(ids[6])
            kept.write(ids[7], b"")
        await delivered_after(it, store, letters[:8], letters[8:])


# --- keys ---


def versions(site, store):
    """Message to the key version that its body is sealed under."""
    with Tables(site.directory, store) as tables:
        return {
            name: int.from_bytes(sealed[3:7]) for name, sealed in tables.run("SELECT message_id, sealed FROM bodies")
        }


LETTER = b"From: ehr@clinic.example\r\nSubject: Parking\r\n\r\nThe car park is closed.\r\n"


async def send_to(site, recipient):
    """Send over SMTP; the message's id."""

    def speak():
        with smtplib.SMTP(*site.relay, timeout=60) as client:
            client.ehlo("ehr")
            client.mail("ehr@clinic.example")
            client.rcpt(recipient)
            return client.data(LETTER)

    code, text = await asyncio.to_thread(speak)
    assert code == 250
    return text.decode().rpartition(" ")[2]


async def test_keys_rotate_while_the_system_runs(tmp_path, usual_store):
    late = domain("never.example", banner=LATER)
    async with system(tmp_path, put_off(), late, workers=2, store=usual_store) as (site, internet):
        old = await send_to(site, f"old@{MX}")
        assert versions(site, usual_store)[old] == 1
        await asyncio.to_thread(site.postern, "keys", "rotate")
        site.process.send_signal(signal.SIGHUP)
        await until(lambda: sum(line["event"] == "reloaded" for line in log_lines(site)) >= 2)
        new = await send_to(site, "new@never.example")
        await until(lambda: versions(site, usual_store).get(new) == 2)
        assert versions(site, usual_store)[old] == 1
        peer = internet.peers[MX]
        open_up(peer)
        (message,) = await peer.wait_messages(1, timeout=60)
        assert message.recipients == (f"old@{MX}",)
        await until(lambda: old not in versions(site, usual_store))
        await site.stop()
        assert load_ring(tmp_path / "keys").newest.number == 2
        ends = [one["message_id"] for one in audit(site) if one["kind"] == "fate"]
        assert ends == [old], "records sealed before and after the rotation can be read"
        await asyncio.to_thread(site.postern, "audit", "verify")


async def test_a_ring_that_others_can_read_is_refused(tmp_path):
    async with system(tmp_path, put_off(), start=False) as (site, _):
        ring = ring_path(tmp_path / "keys")
        for mode in (0o640, 0o604):
            ring.chmod(mode)
            with pytest.raises(RuntimeError, match=f"(?s){ring.name}.*others"):
                await site.start()
        assert not (tmp_path / "data" / "queue" / "queue.db").exists()


async def test_the_ring_is_not_among_the_data(tmp_path):
    async with composed(tmp_path, put_off()) as it:
        await keep(it, Plants())
        await all_tried(it, 1)
    secrets = [version.secret for version in load_ring(tmp_path / "keys").versions]
    data = [path.read_bytes() for root in ("data", "run") for path in (tmp_path / root).rglob("*") if path.is_file()]
    assert data
    assert not any(secret in content or secret.hex().encode() in content for secret in secrets for content in data)
