import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.trust.mta_sts import MAX_AGE, KeptPolicy, Mode, Policy, PolicyError, record_id

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=2, max_size=4).map(".".join)
PATTERN = st.one_of(NAME, NAME.map(lambda name: f"*.{name}"))
POLICY = st.builds(
    Policy,
    mode=st.sampled_from(Mode),
    max_age=st.integers(0, MAX_AGE),
    mx=st.lists(PATTERN, min_size=1, max_size=5, unique=True).map(tuple),
)


@pytest.mark.parametrize(
    ("records", "found"),
    [
        (["v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
        (["v=STSv1;id=1"], "1"),
        (["v=STSv1 ; id=1 ; new=value"], "1"),
        (["v=STSv1; new=value; id=abc; id=def;"], "abc"),
        (["some other text", "v=STSv1; id=1"], "1"),
        (["v=STSv2; id=2", "v=STSv1; id=1"], "1"),
        ([], None),
        (["v=STSv1; id=1", "v=STSv1; id=1"], None),
        (["v=STSv1;"], None),
        (["v=STSv1; id="], None),
        (["v=STSv1; id=a-b"], None),
        ([f"v=STSv1; id={'1' * 33}"], None),
        (["v=STSv1; id=1;; x=y"], None),
        (["v=STSv1; id=1; broken"], None),
        (["v=STSv1x; id=1"], None),
        (["V=STSv1; id=1"], None),
        ([" v=STSv1; id=1"], None),
        (["id=1; v=STSv1"], None),
    ],
)
def test_the_record_is_read_as_the_grammar_says(records, found):
    assert record_id(records) == found


@given(st.lists(st.text(max_size=60), max_size=3))
def test_no_text_breaks_the_reader_of_records(records):
    found = record_id(records)
    assert found is None or (found.isalnum() and len(found) <= 32)


def lines(*more, end="\r\n"):
    return (end.join(more) + end).encode()


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_a_policy_is_read_with_either_line_end_and_unknown_keys(end):
    text = lines(
        "version: STSv1", "mode: enforce", "mx: mail.example.com", "mx:*.example.net  ", "mx: mail.example.com",
        "future-key: whatever: it says", "max_age: 604800", end=end,
    )  # fmt: skip
    policy = Policy.parse(text)
    assert policy == Policy(mode=Mode.ENFORCE, max_age=604800, mx=("mail.example.com", "*.example.net"))
    assert Policy.parse(text.rstrip()) == policy


def test_of_a_repeated_key_the_first_counts_and_a_year_is_the_most():
    policy = Policy.parse(
        lines("version: STSv1", "mode: testing", "mode: none", "mx: a.example", "max_age: 9999999999")
    )
    assert (policy.mode, policy.max_age) == (Mode.TESTING, MAX_AGE)


def test_a_policy_of_mode_none_needs_no_mx():
    assert Policy.parse(lines("version: STSv1", "mode: none", "max_age: 60")).mx == ()


GOOD = ("version: STSv1", "mode: enforce", "mx: a.example", "max_age: 60")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "version"),
        (lines(*GOOD[1:]), "version"),
        (lines("version: STSv2", *GOOD[1:]), "version"),
        (lines(GOOD[0], *GOOD[2:]), "mode"),
        (lines(GOOD[0], "mode: Enforce", *GOOD[2:]), "mode"),
        (lines(*GOOD[:2], GOOD[3]), "no mx"),
        (lines(*GOOD[:3]), "max_age"),
        (lines(*GOOD[:3], "max_age: -1"), "max_age"),
        (lines(*GOOD[:3], "max_age: 12345678901"), "max_age"),
        (lines(*GOOD, "mx: *"), "host name"),
        (lines(*GOOD, "mx: mail.*.example"), "host name"),
        (lines(*GOOD, "mx: [192.0.2.1]"), "address"),
        (lines(*GOOD, "no colon"), "key and a value"),
        (lines(*GOOD, "empty:"), "key and a value"),
        (lines(GOOD[0], "", *GOOD[1:]), "key and a value"),
        (lines(*GOOD).replace(b"a.ex", b"\xff.ex"), "UTF-8"),
        (lines(*GOOD, *(f"mx: m{number}.example" for number in range(1001))), "1000"),
        (lines(*GOOD, "filler: " + "x" * 65536), "64 KiB"),
        (b"<!DOCTYPE html><html>policy</html>", "key and a value"),
    ],
)
def test_what_the_grammar_does_not_allow_is_refused(text, why):
    with pytest.raises(PolicyError, match=why):
        Policy.parse(text)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader_of_policies(content):
    with contextlib.suppress(PolicyError):
        Policy.parse(content)


@given(POLICY)
def test_a_policy_comes_back_from_its_file(policy):
    assert Policy.parse(policy.text().encode()) == policy


@given(POLICY, st.text(max_size=32), st.floats(0, 2e9))
def test_a_kept_policy_comes_back_from_the_store(policy, identity, at):
    kept = KeptPolicy(policy=policy, id=identity, fetched_at=at)
    assert KeptPolicy.decode(kept.encode()) == kept


@pytest.mark.parametrize("junk", [b"", b"{}", b"[]", b"null", b'{"id":"1","at":0,"mode":"odd","age":1,"mx":[]}'])
def test_a_kept_policy_that_is_damaged_says_so(junk):
    with pytest.raises(PolicyError):
        KeptPolicy.decode(junk)


@pytest.mark.parametrize(
    ("pattern", "host", "admitted"),
    [
        ("mx.example.com", "mx.example.com", True),
        ("mx.example.com", "MX.Example.com.", True),
        ("mx.example.com", "a.mx.example.com", False),
        ("*.example.com", "mx.example.com", True),
        ("*.example.com", "a.b.example.com", False),
        ("*.example.com", "example.com", False),
        ("*.example.com", ".example.com", False),
        ("*.com", "example.com", True),
    ],
)
def test_a_wildcard_stands_for_exactly_one_label(pattern, host, admitted):
    assert Policy(mode=Mode.ENFORCE, max_age=1, mx=(pattern,)).admits(host) is admitted


@given(NAME, LABEL, NAME)
def test_only_what_is_named_is_admitted(base, label, other):
    policy = Policy(mode=Mode.ENFORCE, max_age=1, mx=(f"*.{base}",))
    assert policy.admits(f"{label}.{base}")
    assert not policy.admits(f"{label}.{label}.{base}")
    assert policy.admits(other) == (other.partition(".")[2] == base)
