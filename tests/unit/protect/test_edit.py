"""Header edits move nothing else."""

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.decision import HeaderEdit
from relay.mail import edit

MESSAGE = (
    b"Received: by one\r\nFROM: Lab <lab@clinic.example>\r\nSubject: one\r\n\ttwo\r\nX-A:1\r\nno colon here\r\n"
    b"x-a: 2\r\n\r\nX-A: body\r\n\r\nend"
)


def test_headers_are_found_whatever_their_case_and_unfolded():
    assert edit.get(MESSAGE, "subject") == b"one\ttwo"
    assert edit.get_all(MESSAGE, "X-A") == (b"1", b"2")
    assert edit.get(MESSAGE, "Cc") is None


def test_removal_takes_every_one_and_leaves_the_rest():
    assert edit.remove(MESSAGE, "x-A") == MESSAGE.replace(b"X-A:1\r\n", b"").replace(b"x-a: 2\r\n", b"")
    assert edit.remove(MESSAGE, "subject", "received") == (
        MESSAGE.replace(b"Subject: one\r\n\ttwo\r\n", b"").replace(b"Received: by one\r\n", b"")
    )
    assert edit.remove(MESSAGE, "Cc") is MESSAGE


def test_adding_at_either_end():
    assert edit.add(MESSAGE, "X-New", "v", top=True) == b"X-New: v\r\n" + MESSAGE
    assert edit.add(MESSAGE, "X-New", "v") == MESSAGE.replace(b"x-a: 2\r\n", b"x-a: 2\r\nX-New: v\r\n")


def test_replacing_leaves_one_in_the_place_of_the_first():
    assert edit.replace(MESSAGE, "X-A", "3") == MESSAGE.replace(b"X-A:1", b"X-A: 3").replace(b"x-a: 2\r\n", b"")
    assert edit.replace(MESSAGE, "Cc", "x") == edit.add(MESSAGE, "Cc", "x")


@pytest.mark.parametrize(
    "content", [b"", b"\r\n", b"\r\nbody", b"A: b\r\n", b"A: b", b"A: b\r\n\r\n", b"A: b\r\n\r\nbody"]
)
def test_messages_without_header_or_body(content):
    added = edit.add(content, "X-New", "v")
    assert edit.get(added, "X-New") == b"v"
    assert edit.get(added, "A") == (b"b" if content.startswith(b"A") else None)
    assert added[edit.body_start(added) :] == content[edit.body_start(content) :]
    assert edit.get(edit.add(content, "X-New", "v", top=True), "X-New") == b"v"


def test_policy_edits_are_applied_in_order():
    edits = (HeaderEdit(name="X-A"), HeaderEdit(name="X-B", value="new"), HeaderEdit(name="Received"))
    changed = edit.apply(MESSAGE, edits)
    assert edit.get(changed, "X-B") == b"new"
    assert edit.get_all(changed, "X-A") == edit.get_all(changed, "Received") == ()


@pytest.mark.parametrize(
    ("name", "value"), [("X-A", "a\r\nBcc: x"), ("X-A", "a\nb"), ("X-A", "\0"), ("X:A", "a"), ("", "a"), ("Ä", "a")]
)
def test_nothing_can_be_injected(name, value):
    with pytest.raises(ValueError, match="header"):
        edit.encode_field(name, value)


@given(value=st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs"]), min_size=1, max_size=300))
def test_any_text_is_read_back(value):
    line = edit.encode_field("X-Note", "a " + value)
    assert line.isascii()
    assert max(map(len, line.split(b"\r\n"))) <= 998
    assert email.message_from_bytes(line + b"\r\n", policy=email.policy.default)["X-Note"] == "a " + value


def test_long_values_are_folded_at_white_space():
    value = " ".join(["word"] * 100)
    line = edit.encode_field("X-Note", value)
    assert max(map(len, line.split(b"\r\n"))) <= 78
    assert edit.get(line + b"\r\n", "X-Note") == value.encode()


@given(
    head=st.lists(st.sampled_from([b"A: 1", b"B:\t2", b"a: 3\r\n fold", b"junk", b"C:"])), body=st.binary(max_size=50)
)
def test_fields_cover_the_header_and_nothing_else(head, body):
    content = b"".join(line + b"\r\n" for line in head) + b"\r\n" + body
    spans = [(field.start, field.end) for field in edit.fields(content)]
    assert spans == sorted(spans)
    assert len(spans) == sum(b":" in line for line in head)
    for start, end in spans:
        assert content[start:end].endswith(b"\r\n")
        assert end <= edit.header_end(content)
    assert content[edit.body_start(content) :] == body
    assert edit.remove(content, "a", "b", "c") == b"junk\r\n" * head.count(b"junk") + b"\r\n" + body


# --- subject tags -----------------------------------------------------------


def with_subject(raw: str) -> bytes:
    return b"From: a@b\r\nSubject: " + raw.encode() + b"\r\nX: y\r\n\r\nbody [secure]\r\n"


@pytest.mark.parametrize(
    ("raw", "tags", "left"),
    [
        ("[secure] Your result", ["[secure]"], "Your result"),
        ("Your result [SECURE]", ["[secure]"], "Your result"),
        ("Re: [Secure] a [secure] b", ["[secure]"], "Re: a b"),
        ("+encrypt+ x", ["[secure]", "+encrypt+"], "x"),
        ("secure your bike", ["secure"], "your bike"),
        ("insecure securely", ["secure"], "insecure securely"),
        ("[secure]", ["[secure]"], ""),
        ("nothing", ["[secure]"], "nothing"),
        ("=?utf-8?q?=5Bsecure=5D_Gr=C3=BC=C3=9Fe?=", ["[secure]"], "Grüße"),
        ("=?utf-8?b?W3NlY3VyZV0gUmVzdWx0?=", ["[secure]"], "Result"),
        ("=?utf-8?q?=5Bsec?= =?utf-8?q?ure=5D_x?=", ["[secure]"], "x"),
        ("[secure]\r\n =?iso-8859-1?q?=DCber?=", ["[secure]"], "Über"),
    ],
)
def test_tags_leave_the_subject(raw, tags, left):
    content = with_subject(raw)
    changed = edit.strip_subject_tags(content, tags)
    assert email.message_from_bytes(changed, policy=email.policy.default)["Subject"] == left
    assert changed.endswith(b"X: y\r\n\r\nbody [secure]\r\n")
    assert changed.startswith(b"From: a@b\r\nSubject:")
    assert (changed is content) == (raw == left)


def test_a_message_without_subject_or_tags_stays():
    assert edit.strip_subject_tags(MESSAGE, []) is MESSAGE
    assert edit.strip_subject_tags(b"A: b\r\n\r\n", ["[secure]"]) == b"A: b\r\n\r\n"


# --- the author ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "domain"),
    [
        ("lab@clinic.example", "clinic.example"),
        ("Lab <lab@Clinic.Example>", "clinic.example"),
        ('"Lab, <x@evil.example>" <lab@clinic.example>', "clinic.example"),
        ("Lab (x@evil.example) <lab@clinic.example>", "clinic.example"),
        ("One <a@one.example>, Two <b@two.example>", "one.example"),
        ("\r\n Lab\r\n <lab@clinic.example>", "clinic.example"),
        ("Jörg <j@bücher.example>", "xn--bcher-kva.example"),
        ("nobody", ""),
        ("", ""),
        ("a@-bad-.example", ""),
    ],
)
def test_the_authors_domain(raw, domain):
    assert edit.author_domain(b"X: y\r\nFrom: " + raw.encode() + b"\r\n\r\n") == domain


def test_no_author_no_domain():
    assert edit.author_domain(b"To: x@y\r\n\r\nFrom: a@b.example\r\n") == ""


def test_long_runs_of_white_space_around_a_tag_are_closed_in_one_go():
    gap = " \t" * 200_000
    assert edit.remove_tags(f"a{gap}b{gap}[secure]{gap}c[SECURE]", ("[secure]",)) == f"a{gap}b c"


def test_many_fields_of_one_name_are_replaced_in_one_go():
    content = b"Subject: a\r\n" * 10_000 + b"X-A: b\r\nsubject: c\r\n\r\nSubject: body\r\n" + b"x" * 5_000_000
    masked = edit.mask_subject(content, "Protected")
    assert edit.get_all(masked, "Subject") == (b"Protected",) * 10_001
    assert masked.endswith(content[-5_000_016:])
    single = edit.replace(content, "Subject", "one")
    assert edit.get_all(single, "Subject") == (b"one",)
    assert single == b"Subject: one\r\nX-A: b\r\n" + content[content.index(b"\r\n\r\n") + 2 :]
