"""What units of one commit tell: few rows, each event once, in order."""

from hypothesis import given
from hypothesis import strategies as st

from relay.core.change import Note
from relay.store.codec import Codec
from relay.store.units import PreparedUnit, outbox_rows, prepare
from tests.support.queue import an_event
from tests.support.vault import FakeVault

CODEC = Codec(FakeVault())
TEXT = st.text(st.characters(exclude_categories=()), max_size=12)  # lone surrogates included
COUNTS = st.integers(-(2**63), 2**64 - 1)  # beyond, a number comes back as one of floating point
EVENTS = st.lists(st.builds(an_event, TEXT, facts=TEXT | COUNTS), max_size=3).map(tuple)


def told(rows):
    return [event for number, row in enumerate(rows, 1) for event in CODEC.open_events(number, row)]


def carried(events):
    """A unit that brings a row as it was sealed elsewhere."""
    return PreparedUnit(steps=(), outbox=CODEC.seal_events(events), wakes_at=0.0, size=0, is_new_mail=False)


@given(units=st.lists(st.tuples(EVENTS, st.booleans()), max_size=6))
def test_every_event_is_in_the_rows_once_and_in_order(units):
    prepared = [
        carried(events) if is_carried else prepare((Note(events=events),), CODEC) for events, is_carried in units
    ]
    assert told(outbox_rows(prepared)) == [event for events, _ in units for event in events]


def test_units_of_one_commit_share_a_row():
    prepared = [prepare((Note(events=(an_event(message_id=f"m{number}"),)),), CODEC) for number in range(9)]
    assert len(outbox_rows(prepared)) == 1


def test_a_row_that_was_sealed_before_stays_as_it_is_and_in_its_place():
    between = carried((an_event("carried"),))
    others = [prepare((Note(events=(an_event(kind),)),), CODEC) for kind in ("before", "after")]
    rows = outbox_rows([others[0], between, others[1]])
    assert rows[1] == between.outbox
    assert [event.kind for event in told(rows)] == ["before", "carried", "after"]


def test_no_row_grows_long_unless_one_unit_fills_it_alone():
    sizes = [20_000] * 5 + [200_000] + [20_000] * 2
    prepared = [prepare((Note(events=(an_event(long="x" * size),)),), CODEC) for size in sizes]
    rows = outbox_rows(prepared)
    assert [len(CODEC.open_events(1, row)) for row in rows] == [2, 2, 1, 1, 2]


def test_units_that_tell_nothing_make_no_row():
    assert outbox_rows([prepare((Note(events=()),), CODEC), prepare((), CODEC)]) == []
