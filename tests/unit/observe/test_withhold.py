"""Law 4 in the log: nothing that may name a patient or a mailbox gets through, whatever is passed."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.address import NULL_SENDER, Address, ReversePath
from relay.core.entry import EntryState
from relay.core.envelope import Recipient
from relay.core.errors import StoreError
from relay.core.level import Level
from relay.observe.withhold import FORBIDDEN, describe, scrub, scrub_fields, scrub_text

JANE = Address("jane.doe", "clinic.example")


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("sent to jane.doe@clinic.example now", "sent to …@clinic.example now"),
        ("<jane@clinic.example>,<bob@x.example>", "<…@clinic.example>,<…@x.example>"),
        ('"jane doe"@clinic.example', "…@clinic.example"),
        ("o'brien+tag@x.example", "…@x.example"),
        ("bounce+jane=clinic.example@x.example", "…@x.example"),
        ("mailto:jane@x.example", "mailto:…@x.example"),
        ("https://x.example/?u=jane%40x.example", "https:…@x.example"),
        ("жанна@пример.example", "…@пример.example"),
        ("jane@[192.0.2.1]", "…@[192.0.2.1]"),
        ("nothing here", "nothing here"),
    ],
)
def test_local_parts_leave_text(text, scrubbed):
    assert scrub_text(text) == scrubbed


@given(st.from_regex(r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~.-]{4,20}", fullmatch=True), st.text(max_size=20))
def test_no_local_part_survives(local, around):
    text = f"{around} {local}@planted.example {around.replace('@', '')}"
    assert f"{local}@" not in scrub_text(text)


def test_mailbox_fields_become_domains():
    fields = {"recipient": str(JANE), "sender": ReversePath(JANE), "recipients": [JANE, "bob@x.example"], "n": 2}
    assert scrub_fields(fields) == {
        "recipient": "…@clinic.example",
        "sender": "…@clinic.example",
        "recipients": ["…@clinic.example", "…@x.example"],
        "n": 2,
    }
    assert scrub_fields({"sender": NULL_SENDER, "to": "jane"}) == {"sender": "<>", "to": "<withheld>"}


@pytest.mark.parametrize("key", sorted(FORBIDDEN))
def test_forbidden_fields_are_withheld_by_name(key):
    assert scrub_fields({key: "HIV result for Jane", "size": 1}) == {"size": 1, "withheld": [key]}


def test_forbidden_fields_are_found_inside_others():
    assert scrub({"inner": {"subject": "Jane"}}) == {"inner": {"withheld": ["subject"]}}


def test_values_of_all_kinds_are_fit_for_a_line():
    assert scrub(Level.VERIFIED) == 2
    assert scrub(EntryState.HELD) == "held"
    assert scrub(b"secret") == "<6 octets>"
    assert scrub(JANE) == "…@clinic.example"
    assert scrub(Recipient(address=JANE)) == "<Recipient>"
    assert scrub([1, "a@x.example", object()]) == [1, "…@x.example", "<object>"]
    assert len(scrub("x" * 5000)) < 700
    deep = [[[[[["jane"]]]]]]
    assert "jane" not in str(scrub(deep))


@given(st.recursive(st.none() | st.integers() | st.floats() | st.text() | st.binary() | st.just(JANE),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_anything_can_be_encoded_afterwards(value):
    orjson.dumps(scrub(value))
    orjson.dumps(scrub_fields({"recipient": value, "other": value}))


def raised(error):
    try:
        raise error
    except type(error) as caught:
        return caught


def test_exceptions_say_type_and_place_and_only_safe_text():
    ours = describe(raised(StoreError("no room for jane@x.example")))
    assert (ours["type"], ours["text"]) == ("StoreError", "no room for …@x.example")
    assert ours["at"][-1].startswith("test_withhold.py:")
    foreign = describe(raised(ValueError("invalid literal 'Jane Doe 123-45-6789'")))
    assert "text" not in foreign
    assert "Jane" not in str(foreign)
    assert describe(raised(OSError(28, "No space left on device")))["text"] == "[Errno 28] No space left on device"


def test_causes_are_listed_and_bounded():
    def nest(depth):
        try:
            nest(depth - 1) if depth else {}["jane"]
        except (KeyError, StoreError) as error:
            raise StoreError("above") from error

    with pytest.raises(StoreError) as caught:
        nest(2)
    told = describe(caught.value)
    assert [cause["type"] for cause in told["causes"]] == ["StoreError", "StoreError", "KeyError"]
    assert "jane" not in str(told)
    with pytest.raises(StoreError) as caught:
        nest(10)
    assert len(describe(caught.value)["causes"]) == 4
