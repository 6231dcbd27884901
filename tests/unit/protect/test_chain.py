"""What one record, one frame and one token of the audit chain hold, apart from the files they lie in."""

import orjson
import pytest

from relay.core.address import Address
from relay.core.change import AuditEvent
from relay.core.errors import SealError
from relay.protect import chain
from relay.protect.chain import Frame, Link
from tests.unit.protect.test_sealing import make_vault

PAT = Address.parse("pat@mail.example")
VAULT = make_vault()


def event(**facts):
    return AuditEvent(kind="decided", at=12.5, message_id="m1", facts=facts)


def test_a_record_is_one_canonical_object_with_all_that_identifies_it():
    record = chain.encode_record(7, 3, event(rule="phi", n=2, method=None), VAULT)
    assert record == (
        b'{"at":12.5,"facts":{"method":null,"n":2,"rule":"phi"},"kind":"decided","message_id":"m1","number":7,"seq":3}'
    )


def test_text_no_encoding_can_carry_leaves_the_record_canonical_too():
    record = orjson.loads(chain.encode_record(1, 1, event(z="a\udc80b", a={"y": 1, "b": 2}, when=PAT), VAULT))
    assert list(record["facts"]) == ["a", "when", "z"]
    assert list(record["facts"]["a"]) == ["b", "y"]
    assert (record["facts"]["z"], record["facts"]["when"]) == ("a?b", str(PAT))


def test_every_mailbox_is_sealed_wherever_it_stands_and_nothing_else_is():
    facts = {
        "sender": "",
        "recipients": ["pat@mail.example", {"to": "sue@other.example", "number": 3}, ("postmaster",), None, 4],
        "waits": [{"recipients": ["bob@third.example"], "why": "over quota", "numbers": (1, 2)}],
        "rule": "phi",
        "note": ["all@is.well"],
    }
    sealed = chain.seal_mailboxes(facts, VAULT)
    shown = orjson.dumps(sealed).decode()
    assert not any(name in shown for name in ("pat", "sue", "bob", "postmaster"))
    assert chain.hide_mailboxes(sealed) == {
        "sender": "",
        "recipients": ["mail.example", {"to": "other.example", "number": 3}, [""], None, 4],
        "waits": [{"recipients": ["third.example"], "why": "over quota", "numbers": [1, 2]}],
        "rule": "phi",
        "note": ["all@is.well"],
    }
    assert chain.open_mailboxes(sealed, VAULT)["recipients"][2] == ["postmaster"]


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ({"recipients": ["sue@other.example", "Pat@mail.example"]}, True),
        ({"waits": [{"recipients": ["pat@mail.example"]}]}, True),
        ({"recipients": ["not an address@mail.example", "pat@mail.example"]}, True),
        ({"recipients": ["not an address@mail.example"]}, False),
        ({"recipients": ["sue@mail.example"]}, False),
        ({"recipients": ["pat@other.example"]}, False),
        ({"sender": "pat@mail.example"}, False),
        ({"rule": "pat@mail.example"}, False),
    ],
)
def test_a_recipient_is_found_by_the_mailbox_and_not_as_a_sender(facts, named):
    assert chain.names_recipient(chain.seal_mailboxes(facts, VAULT), PAT, VAULT) is named


def test_only_tokens_of_the_mailboxs_own_domain_are_opened():
    foreign = {"recipients": [{"domain": "other.example", "sealed": "AAAA"}]}
    assert not chain.names_recipient(foreign, PAT, VAULT)
    with pytest.raises(SealError):
        chain.names_recipient({"recipients": [{"domain": PAT.domain, "sealed": "AAAA"}]}, PAT, VAULT)


def grown(at=Link()):  # noqa: B008 (a frozen value)
    rows = [(0, [event(n=0)], ""), (4, [event(n=1), event(n=2)], ""), (5, [event(n=3)], "of the store")]
    return chain.append(at, rows, VAULT)


def test_a_chain_grows_by_its_rows_and_is_read_back_to_the_same_place():
    at, frame = grown(Link(count=10, hash=b"h" * 32, seq=2))
    assert (at.count, at.seq, frame.facts["first"], frame.facts["count"]) == (14, 5, 11, 4)
    assert frame.facts["rows"] == [(4, chain.row_digest([event(n=1), event(n=2)])), (5, "of the store")]
    assert chain.extend(Link(count=10, hash=b"h" * 32, seq=2), frame) == at
    own, frame = chain.append(at, [(0, [event(n=9)], "")], VAULT)
    assert (own.seq, chain.extend(at, frame)) == (5, own)


@pytest.mark.parametrize("change", [{"first": 2}, {"first": None}, {"count": 3}, {"hash": "00"}])
def test_a_frame_that_says_something_else_of_itself_is_refused(change):
    _, frame = grown()
    with pytest.raises(SealError):
        chain.extend(Link(), Frame(kind="records", facts={**frame.facts, **change}, records=frame.records))


def test_records_numbered_wrong_are_refused_though_their_hashes_are_right():
    records = tuple(chain.encode_record(number, 1, event(), VAULT) for number in (1, 3))
    ended = chain.link(chain.link(chain.GENESIS, records[0]), records[1])
    facts = {"first": 1, "count": 2, "hash": ended.hex(), "rows": [(1, "")]}
    with pytest.raises(SealError, match="record 2"):
        chain.extend(Link(), Frame(kind="records", facts=facts, records=records))
