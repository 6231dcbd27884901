"""A listing through an index shows what a walk through the queue shows, page by page."""

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.core.entry import EntryState
from relay.core.ports import QueueFilter
from relay.store.sqlite import listing
from relay.store.sqlite.schema import migrate

ENTRY = st.tuples(
    st.integers(0, 1),  # held
    st.sampled_from([None, None, None, 1, 2]),  # lease
    st.sampled_from([-1, 0, 0, 5]),  # priority
    st.sampled_from(["a.example", "b.example", "c.example"]),
    st.integers(0, 9),  # due_at
    st.integers(0, 9),  # expires
)
FILTER = st.builds(
    QueueFilter,
    state=st.sampled_from([None, EntryState.HELD, EntryState.READY]),
    destination=st.sampled_from(["", "a.example", "z.example"]),
    message_id=st.sampled_from(["", "", "m3"]),
    due_before=st.sampled_from([None, 0.0, 4.0, 20.0]),
)


def filled(entries):
    connection = apsw.Connection(":memory:")
    migrate(connection)
    for number, (held, lease, priority, destination, due, expires) in enumerate(entries):
        wake = expires if held else min(due, expires)
        name = f"m{number % 7}.{number}"
        row = (name, name.partition(".")[0], destination, priority, held, due, wake, lease, b"")
        connection.execute("INSERT INTO entries VALUES(?,?,?,?,?,?,?,?,?)", row)
        connection.execute("INSERT INTO details VALUES(?, ?)", (name, b"sealed"))
    return connection


def matches(where, name, entry):
    held, _, _, destination, due, _ = entry
    return (
        (where.state is None or (where.state is EntryState.HELD) == bool(held))
        and where.destination in ("", destination)
        and where.message_id in ("", name.partition(".")[0])
        and (where.due_before is None or due < where.due_before)
    )


@settings(max_examples=150, deadline=None)
@given(entries=st.lists(ENTRY, max_size=25), where=FILTER, few=st.sampled_from([0, 3, 5_000]), size=st.integers(1, 6))
def test_every_page_is_what_a_walk_would_show(entries, where, few, size):
    connection = filled(entries)

    def rows(sql, *bindings):
        return connection.execute(sql, bindings).fetchall()

    wanted = sorted(
        name
        for name, entry in ((f"m{number % 7}.{number}", entry) for number, entry in enumerate(entries))
        if matches(where, name, entry)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "FEW", few)
        shown, after = [], ""
        while page := listing.page(rows, where, None, after, size):
            shown += [row.entry_id for row in page]
            after = shown[-1]
    assert shown == wanted
    connection.close()


@pytest.mark.parametrize(
    ("where", "index"),
    [
        (QueueFilter(state=EntryState.HELD), "entries_held"),
        (QueueFilter(destination="a.example"), "entries_by_destination"),
        (QueueFilter(due_before=5.0), "entries_free"),
    ],
)
def test_what_is_rare_is_found_by_an_index(where, index):
    connection = filled([(0, None, 0, "b.example", 9, 9)] * 20)
    plans = []

    def rows(sql, *bindings):
        plans.extend(step[3] for step in connection.execute(f"EXPLAIN QUERY PLAN {sql}", bindings))
        return connection.execute(sql, bindings).fetchall()

    listing.page(rows, where, None, "", 10)
    assert any(index in step for step in plans)
    assert "SEARCH e USING PRIMARY KEY (id=?)" in plans
    walks = [step for step in plans if "PRIMARY KEY (id>?)" in step]
    assert walks == []
    connection.close()
