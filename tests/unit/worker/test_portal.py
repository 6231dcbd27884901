"""What a worker does for copies that go to the portal: parted, sent as ours, their end told before it is recorded."""

import dataclasses

import pytest

from relay.core.address import Address, ReversePath
from relay.core.decision import MethodName, Treatment
from relay.core.entry import Claimed, EntryState, QueueEntry, RecipientState
from relay.core.envelope import ClientSession, Envelope, Message, Origin, Recipient
from relay.core.errors import StoreError, StoreFullError, StoreUnavailableError
from relay.core.fate import Fate, FateKind
from relay.core.ports import Ended
from relay.delivery.routing import RouteTable
from relay.delivery.schedule import RetryOptions
from relay.mail.dsn import DsnOptions, DsnWriter
from relay.worker.notices import Notices
from relay.worker.portal import Endings, ours
from relay.worker.record import Recorder

NOW = 1_772_442_000.0


class Silent:
    def count(self, *_): ...
    def observe(self, *_): ...


def claimed_of(*numbers, notify=(), method=MethodName.PORTAL, sign_as="lab.example"):
    recipients = tuple(
        RecipientState(
            number=number,
            recipient=Recipient(address=Address.parse(f"p{number}@mail.example"), notify=frozenset(notify)),
        )
        for number in numbers
    )
    entry = QueueEntry(
        id="m1.1", message_id="m1", destination="mail.example",
        treatment=Treatment(methods=(MethodName.TLS, MethodName.PORTAL), sign_as=sign_as), method=method,
        recipients=recipients, state=EntryState.READY, created_at=NOW, due_at=NOW, expires_at=NOW + 86400,
        warn_at=NOW + 3600,
    )  # fmt: skip
    message = Message(
        id="m1", origin=Origin.CLIENT, received_at=NOW, session=ClientSession(),
        envelope=Envelope(
            reverse_path=ReversePath(Address.parse("doctor@clinic.example")),
            recipients=tuple(state.recipient for state in recipients),
        ),
        size=3,
    )  # fmt: skip
    return Claimed(entry=entry, message=message, content=b"From: a@clinic.example\r\n\r\nx\r\n")


@pytest.fixture
def recorder():
    writer = DsnWriter(DsnOptions(reporting_mta="relay.example", postmaster=Address.parse("postmaster@clinic.example")))
    notices = Notices(writer, RouteTable(()), RetryOptions(), lambda _now: "own1")
    return Recorder(notices, RetryOptions(), lambda: 0.5, Silent())


# --- recording


def test_an_entry_of_several_is_parted_in_one_commit(recorder):
    settlement = recorder.part(claimed_of(1, 4), now=NOW + 5)
    settle, note = settlement.unit
    parts = (settle.entry, *settle.split)
    assert [part.id for part in parts] == ["m1.1", "m1.500004"]
    assert [[state.number for state in part.recipients] for part in parts] == [[1], [4]]
    assert {(part.due_at, part.warn_at, part.attempts) for part in parts} == {(NOW + 5, NOW + 3600, 0)}
    (event,) = note.events
    assert (event.kind, event.facts["parts"]) == ("parted", {"m1.1": [1], "m1.500004": [4]})
    assert settlement.fates == {}


def test_what_ended_in_the_portal_has_that_fate_and_no_notice(recorder):
    settlement = recorder.ended(claimed_of(0), Ended(FateKind.RECALLED, "recalled"), now=NOW)
    assert [fate.kind for fate in settlement.fates.values()] == [FateKind.RECALLED]
    assert [type(change).__name__ for change in settlement.unit] == ["Settle", "Note"]


# --- sent as ours


def test_a_notice_is_signed_for_its_author_and_reports_no_success():
    sent = ours(claimed_of(0, notify=("SUCCESS", "FAILURE")))
    assert sent.entry.treatment.sign_as == ""
    assert sent.entry.recipients[0].recipient.notify == {"FAILURE"}
    assert ours(claimed_of(0, notify=("SUCCESS",))).entry.recipients[0].recipient.notify == {"NEVER"}
    assert ours(claimed_of(0)).entry.recipients == claimed_of(0).entry.recipients


# --- telling the portal


class Book:
    def __init__(self, *errors):
        self.errors, self.told = list(errors), []

    async def notified(self, message_id, number, *, told=False):
        self._take("notified", message_id, number, *(["told"] if told else []))

    async def withdrawn(self, message_id, number):
        self._take("withdrawn", message_id, number)
        return True

    def _take(self, *what):
        if self.errors:
            raise self.errors.pop(0)
        self.told.append(what)


@pytest.mark.parametrize(("notify", "told"), [(("SUCCESS",), True), (("FAILURE", "SUCCESS"), True), ((), False)])
async def test_the_portal_learns_that_a_dsn_tells_the_sender_of_its_notice(notify, told):
    book = Book()
    await Endings(book, Pauses()).tell(claimed_of(0, 1, notify=notify), fates(n0=FateKind.NOTIFIED))
    assert book.told == [("notified", "m1", 0, *(["told"] if told else []))]


async def test_each_recipient_is_told_of_by_its_own_fate_and_its_own_wish():
    claimed = claimed_of(0, 1, 2)
    first, *others = claimed.entry.recipients
    asking = dataclasses.replace(first.recipient, notify=frozenset({"SUCCESS"}))
    recipients = (dataclasses.replace(first, recipient=asking), *others)
    claimed = dataclasses.replace(claimed, entry=dataclasses.replace(claimed.entry, recipients=recipients))
    book, pauses = Book(*[StoreFullError("full")] * 8), Pauses()
    ends = fates(n0=FateKind.NOTIFIED, n1=FateKind.NOTIFIED, n2=FateKind.BOUNCED)
    assert await Endings(book, pauses).tell(claimed, ends), "one that a server took is waited for, whatever the others"
    assert book.told == [("notified", "m1", 0, "told"), ("notified", "m1", 1), ("withdrawn", "m1", 2)]


class Pauses:
    def __init__(self):
        self.paused = []

    async def __call__(self, seconds):
        self.paused.append(seconds)


def fates(**kinds):
    return {int(number[1:]): Fate(kind=kind, at=NOW) for number, kind in kinds.items()}


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (FateKind.NOTIFIED, [("notified", "m1", 0)]),
        (FateKind.BOUNCED, [("withdrawn", "m1", 0)]),
        (FateKind.EXPIRED, [("withdrawn", "m1", 0)]),
        (FateKind.REMOVED, [("withdrawn", "m1", 0)]),
        (FateKind.RECALLED, []),
        (FateKind.PORTAL_EXPIRED, []),
    ],
)
async def test_the_portal_is_told_of_every_end_that_is_not_its_own(kind, told):
    book = Book()
    await Endings(book, Pauses()).tell(claimed_of(0), fates(n0=kind))
    assert book.told == told


async def test_other_methods_and_no_portal_are_no_affair_of_it():
    book = Book()
    await Endings(book, Pauses()).tell(claimed_of(0, method=MethodName.TLS), fates(n0=FateKind.BOUNCED))
    await Endings(None, Pauses()).tell(claimed_of(0), fates(n0=FateKind.BOUNCED))
    assert book.told == []


async def test_while_the_portal_s_store_is_away_the_end_waits():
    book, pauses = Book(StoreUnavailableError("away"), StoreFullError("full"), StoreUnavailableError("away")), Pauses()
    assert await Endings(book, pauses).tell(claimed_of(0), fates(n0=FateKind.BOUNCED))
    assert book.told == [("withdrawn", "m1", 0)]
    assert pauses.paused == [0.1, 0.5, 1.0]
    with pytest.raises(StoreError, match="broken"):
        await Endings(Book(StoreError("broken")), pauses).tell(claimed_of(0), fates(n0=FateKind.BOUNCED))


async def test_an_end_that_the_portal_cannot_be_told_of_for_long_is_left_for_later():
    book, pauses = Book(*[StoreUnavailableError("away")] * 100), Pauses()
    assert not await Endings(book, pauses).tell(claimed_of(0, 1), fates(n0=FateKind.EXPIRED, n1=FateKind.EXPIRED))
    assert pauses.paused == [0.1, 0.5, 1.0, 2.0, 5.0]
    assert book.told == []


async def test_a_notice_that_was_taken_waits_as_long_as_it_takes_rather_than_be_sent_again():
    book, pauses = Book(*[StoreFullError("full")] * 8), Pauses()
    assert await Endings(book, pauses).tell(claimed_of(0), fates(n0=FateKind.NOTIFIED))
    assert book.told == [("notified", "m1", 0)]
    assert pauses.paused == [0.1, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0, 5.0]


def test_numbers_of_parts_cannot_meet_those_of_intake():
    many = claimed_of(*range(200))
    from relay.delivery.plan import parted

    ids = [part.id for part in parted(many.entry)]
    assert len(set(ids)) == 200
    assert all(1 <= int(name.rpartition(".")[2]) <= 999_999 for name in ids), "return addresses hold six digits"
    assert dataclasses.replace(many.entry, recipients=many.entry.recipients[:1]) == parted(many.entry)[0]
