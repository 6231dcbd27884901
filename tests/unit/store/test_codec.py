"""Whatever core types hold comes back from the store equal, and nothing of it is readable on the way."""

import dataclasses
import json
import os
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.address import Address, ReversePath
from relay.core.change import AuditEvent
from relay.core.decision import HeaderEdit, MethodName, Treatment
from relay.core.entry import QueueEntry, RecipientState
from relay.core.envelope import Attachment, ClientSession, Envelope, Message, Recipient
from relay.core.errors import CorruptError
from relay.core.level import Level
from relay.core.phi import Finding, PhiVerdict
from relay.protect.keyring import KeyRing
from relay.protect.sealing import RingVault
from relay.store.codec import _USUAL_ENTRY, _USUAL_FACTS, Codec, _default, dump, load
from tests.support.queue import NOW, a_message, an_entry, an_event
from tests.support.vault import FakeVault

# Lone surrogates included: a broken client's bytes reach us as such.
TEXT = st.text(st.characters(exclude_categories=()), max_size=12)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.integers(0, 2**63 - 1)  # what a JSON reader gives back as a whole number
IDS = st.text(string.ascii_letters + string.digits, min_size=1, max_size=20)
DOMAINS = st.sampled_from(["example.org", "xn--bcher-kva.example", "[192.0.2.1]", "[IPv6:2001:db8::1]"])
ADDRESSES = st.builds(Address, st.sampled_from(["a", '"a b@c"', "J.Ö", "A+b", "x\udc80"]) | TEXT, DOMAINS)
RECIPIENTS = st.builds(Recipient, address=ADDRESSES, original=TEXT, notify=st.frozensets(TEXT, max_size=3))
SESSIONS = st.builds(ClientSession, **{field.name: TEXT for field in dataclasses.fields(ClientSession)})
ENVELOPES = st.builds(
    Envelope,
    reverse_path=st.builds(ReversePath, st.none() | ADDRESSES),
    recipients=st.lists(RECIPIENTS, max_size=3).map(tuple),
    body_8bit=st.booleans(),
    smtputf8=st.booleans(),
    require_tls=st.booleans(),
    envelope_id=TEXT,
    ret=TEXT,
)
FINDINGS = st.builds(
    Finding, kind=TEXT, start=COUNTS, end=COUNTS, part=TEXT, digest=TEXT, weight=FINITE, sensitive=TEXT
)
VERDICTS = st.builds(PhiVerdict, findings=st.lists(FINDINGS, max_size=3).map(tuple), engine=TEXT)
MESSAGES = st.builds(
    Message,
    id=IDS,
    size=COUNTS,
    received_at=FINITE,
    session=SESSIONS,
    envelope=ENVELOPES,
    verdict=VERDICTS,
    message_id=TEXT,
    attachments=st.lists(
        st.builds(Attachment, type=TEXT, size=COUNTS, name=st.just(""), unreadable=TEXT), max_size=2
    ).map(tuple),
    stream=TEXT,
)
MAYBE = st.none() | FINITE
TEXTS = st.lists(TEXT, max_size=2).map(tuple)
TREATMENTS = st.builds(
    Treatment,
    methods=st.lists(st.sampled_from(MethodName), max_size=4).map(tuple),
    rule=TEXT,
    floors=TEXTS,
    overridden=TEXTS,
    override_reason=TEXT,
    policy_version=TEXT,
    within=MAYBE,
    expire_after=MAYBE,
    warn_after=MAYBE,
    priority=st.integers(-1, 1),
    reason=TEXT,
    headers=st.lists(st.builds(HeaderEdit, name=TEXT, value=st.none() | TEXT), max_size=2).map(tuple),
    strip_subject_tags=TEXTS,
    route=TEXT,
    sign_as=TEXT,
    notify=TEXTS,
)
ENTRIES = st.builds(
    QueueEntry,
    id=IDS,
    message_id=IDS,
    destination=TEXT,
    treatment=TREATMENTS,
    recipients=st.lists(
        st.builds(RecipientState, number=COUNTS, recipient=RECIPIENTS, fate=st.none()), min_size=1, max_size=3
    ).map(tuple),
    created_at=FINITE,
    due_at=FINITE,
    expires_at=FINITE,
    warn_at=MAYBE,
    attempts=COUNTS,
    tls_failures=COUNTS,
    reason=TEXT,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | FINITE | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
EVENTS = st.builds(AuditEvent, kind=TEXT, at=FINITE, message_id=TEXT, facts=st.dictionaries(TEXT, JSON, max_size=3))


@pytest.fixture(scope="module", params=["fake", "ring"])
def codec(request):
    ring = KeyRing.create(now=0.0, random=os.urandom)
    return Codec(FakeVault() if request.param == "fake" else RingVault(ring, os.urandom))


@given(message=MESSAGES)
def test_messages_come_back_equal(codec, message):
    assert codec.open_message(message.id, codec.seal_message(message)) == message


@given(entry=ENTRIES)
def test_entries_come_back_equal(codec, entry):
    assert codec.open_entry(entry.id, codec.seal_entry(entry)) == entry


def test_an_entry_is_stored_as_it_is_whoever_had_its_treatment_before():
    vault = FakeVault()
    codec = Codec(vault)
    treatments = [Treatment(rule=f"rule-{number}", floor=Level.VERIFIED) for number in range(600)]
    for treatment in (*treatments, *treatments[-3:], *treatments[:3]):
        entry = an_entry(a_message(), treatment=treatment)
        stored = vault.open("entry", entry.id, codec.seal_entry(entry))
        assert stored == vault.open("entry", entry.id, Codec(vault).seal_entry(entry))
        assert load(QueueEntry, stored, entry.id) == entry


ODD = st.sampled_from(["", *(run.decode() for run, _ in (*_USUAL_FACTS, *_USUAL_ENTRY))])
"""Nothing, or a text that reads like what is left out."""


@given(
    texts=st.lists(ODD, min_size=14, max_size=14), flags=st.lists(st.booleans(), min_size=5, max_size=5), more=COUNTS
)
def test_what_is_usual_is_left_out_where_it_stands_and_nowhere_else(codec, texts, flags, more):
    notify = frozenset(texts[:1] if flags[0] else ())
    recipient = Recipient(address=Address(texts[1], "example.org"), original=texts[2], notify=notify)
    names = [field.name for field in dataclasses.fields(ClientSession) if field.name != "esmtp"]
    finding = Finding(kind=texts[3], group="health", part="1", start=0, end=1, sensitive=texts[4], more=more)
    message = a_message(
        session=ClientSession(**dict(zip(names, texts, strict=False)), esmtp=flags[1]),
        envelope=Envelope(
            reverse_path=ReversePath(None),
            recipients=(recipient,),
            body_8bit=flags[2],
            envelope_id=texts[9],
            ret=texts[10],
        ),
        verdict=PhiVerdict(findings=(finding,), truncated=flags[3], engine=texts[11]),
        stream=texts[12] if flags[4] else "transactional",
    )
    entry = an_entry(message, attempts=more, tls_failures=int(flags[0]), reason=texts[13], fallback=texts[0])
    assert codec.open_message("m1", codec.seal_message(message)) == message
    assert codec.open_entry("m1.0", codec.seal_entry(entry)) == entry


@given(message=MESSAGES, entry=ENTRIES)
def test_what_was_written_whole_is_read_too(message, entry):
    vault = FakeVault()
    codec = Codec(vault)
    assert codec.open_message(message.id, vault.seal("facts", message.id, dump(message))) == message
    assert codec.open_entry(entry.id, vault.seal("entry", entry.id, dump(entry))) == entry


def test_what_left_out_fields_mean_stays_what_it_is():
    """They are not on the disk: another default would change what older entries say. Only add to this list."""
    kinds = (Message, ClientSession, Envelope, Recipient, PhiVerdict, Finding, QueueEntry, RecipientState, Treatment)
    defaults = {
        f"{kind.__name__}.{field.name}": json.loads(dump(_default(field)))
        for kind in kinds
        for field in dataclasses.fields(kind)
        if _default(field) is not dataclasses.MISSING
    }
    terms = {"reply": True, "forward": False, "secret": "", "receipts": False, "expire_after": None}
    verdict = {"phi": 0, "subject_phi": 0, "findings": [], "truncated": False, "engine": ""}
    expected = {
        **{f"Message.{name}": "" for name in ("message_id",)},
        "Message.verdict": verdict, "Message.attachments": [], "Message.stream": "transactional",
        **{f"ClientSession.{name}": "" for name in ("client", "tenant", "listener", "network", "identity", "helo")},
        "ClientSession.tls_version": "", "ClientSession.tls_cipher": "", "ClientSession.esmtp": True,
        "Envelope.body_8bit": False, "Envelope.smtputf8": False, "Envelope.require_tls": False,
        "Envelope.envelope_id": "", "Envelope.ret": "",
        "Recipient.original": "", "Recipient.notify": [],
        **{f"PhiVerdict.{name}": value for name, value in verdict.items()},
        "Finding.digest": "", "Finding.weight": 0.0, "Finding.sensitive": "", "Finding.more": 0,
        "QueueEntry.warn_at": None, "QueueEntry.attempts": 0, "QueueEntry.tls_failures": 0,
        "QueueEntry.reason": "", "QueueEntry.fallback": "",
        "RecipientState.fate": None,
        "Treatment.action": "deliver", "Treatment.methods": ["tls"], "Treatment.tls": 0, "Treatment.floor": 0,
        **{f"Treatment.{name}": "" for name in ("rule", "override_reason", "policy_version", "reason")},
        "Treatment.route": "", "Treatment.sign_as": "",
        **{f"Treatment.{name}": [] for name in ("floors", "overridden", "headers", "strip_subject_tags", "notify")},
        **{f"Treatment.{name}": None for name in ("within", "expire_after", "warn_after")},
        "Treatment.otherwise": "bounce", "Treatment.priority": 0, "Treatment.mask_subject": False,
        "Treatment.passes_over": False, "Treatment.portal": terms,
    }  # fmt: skip
    assert defaults == expected


def test_a_usual_message_needs_no_page_beside_its_tables_leaf(codec):
    session = ClientSession(
        client="ehr", tenant="clinic", listener="inside", network="192.0.2.17", helo="mail.clinic.example"
    )
    finding = Finding(
        kind="procedure", group="health", part="1", start=1000, end=1020, digest="c4d70de6ca6e641e" * 2, weight=0.5
    )
    verdict = PhiVerdict(findings=(finding,) * 3, engine="postern-scan 2026.11-1")
    message = a_message(
        "01M82WT8TPNZGD7R9TJJ", session=session, verdict=verdict, message_id="<20261123.1397@clinic.example>"
    )
    treatment = Treatment(rule="default", policy_version="e41b2b08" * 8, floors=("external-phi",), floor=Level.VERIFIED)
    entry = an_entry(message, treatment=treatment, reason="accepted", warn_at=NOW)
    assert len(codec.seal_message(message)) < 950  # of 1,002 in a leaf, with the row's other columns; findings are most
    assert len(codec.seal_entry(entry)) < 950


@given(events=st.lists(EVENTS, max_size=3).map(tuple))
def test_audit_events_come_back_equal(codec, events):
    assert codec.open_events(1, codec.seal_events(events)) == events


@given(address=ADDRESSES)
def test_a_mailbox_is_found_by_its_token_whatever_its_case(codec, address):
    assert codec.token(address) in codec.tokens(Address(address.local.lower(), address.domain))
    assert codec.token(address) not in codec.tokens(Address("other" + address.local, address.domain))


@pytest.mark.parametrize("cls", [Message, QueueEntry, AuditEvent], ids=lambda cls: cls.__name__)
def test_every_field_is_covered_by_a_strategy_or_an_enumeration(cls):
    """A field added to a core type is stored without further work; this shows that it is encoded by name."""
    sample = {Message: a_message(), QueueEntry: an_entry(a_message()), AuditEvent: an_event()}[cls]
    for field in dataclasses.fields(cls):
        assert f'"{field.name}":'.encode() in dump(sample)


def test_an_attachments_name_is_never_stored(codec):
    message = a_message(attachments=(Attachment(type="pdf", name="planted.pdf", size=3),))
    opened = codec.open_message("m1", codec.seal_message(message))
    assert opened.attachments == (Attachment(type="pdf", name="", size=3),)


def test_nothing_sealed_can_be_read(codec):
    message = a_message()
    sealed = [
        codec.seal_message(message),
        codec.seal_entry(an_entry(message)),
        codec.seal_events((an_event(recipients=["planted-bob@example.org"]),)),
        codec.seal_body("m1", b"planted-body"),
        codec.token(message.envelope.recipients[0].address),
        codec.counter("planted-account").encode(),
    ]
    assert not any(b"planted" in each for each in sealed)


def test_what_was_sealed_for_one_place_does_not_open_in_another(codec):
    message = a_message()
    entry = an_entry(message)
    for attempt in (
        lambda: codec.open_message("m2", codec.seal_message(message)),
        lambda: codec.open_entry("m1.1", codec.seal_entry(entry)),
        lambda: codec.open_body("m1", codec.seal_message(message)),
    ):
        with pytest.raises(CorruptError):
            attempt()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"id":"m1"}',
        dump(a_message()).replace(b'"origin":"client"', b'"origin":"x"'),
    ],
)
def test_what_is_not_of_the_form_is_corrupt_and_not_repeated(data):
    with pytest.raises(CorruptError, match="m1") as caught:
        load(Message, data, "m1")
    assert "planted" not in str(caught.value)


def test_a_field_of_a_newer_version_is_refused_rather_than_ignored():
    newer = dump(an_entry(a_message())).replace(b'"reason":', b'"new_floor":3,"reason":', 1)
    with pytest.raises(CorruptError):
        load(QueueEntry, newer, "m1.0")
