import asyncio
from dataclasses import replace

import pytest
import structlog.testing

from relay.core.address import Address, ReversePath
from relay.core.change import AuditEvent, Keep, Note
from relay.core.decision import Action, MethodName, PolicyDecision, Treatment
from relay.core.entry import EntryState
from relay.core.envelope import Attachment, ClientSession, Envelope, Origin, Recipient
from relay.core.errors import StoreFullError, StoreUnavailableError
from relay.core.level import Level
from relay.core.phi import Finding, FindingGroup, Phi, PhiVerdict
from relay.core.ports import ScanReport
from relay.intake.accept import AcceptOptions, Acceptor, Parts
from relay.intake.entries import QueueTimes
from tests.support.intake import Tally, client

NOW = 1_700_000_000.0
CONTENT = b"From: ehr@clinic.example\r\nSubject: Jane Roe, DOB 03/04/1961\r\nBcc: x@y.example\r\n\r\nHbA1c 8.1 %\r\n"
SESSION = ClientSession(client="ehr", tenant="clinic", listener="test", network="192.0.2.1", helo="ehr")
VERDICT = PhiVerdict(
    phi=Phi.LIKELY, findings=(Finding(kind="dob", group=FindingGroup.IDENTIFIER, part="subject", start=1, end=2),)
)


class Scan:
    error = None

    async def scan(self, content, client=""):
        self.content, self.client = content, client
        if self.error:
            raise self.error
        return ScanReport(verdict=VERDICT, subject="Jane Roe", headers=(("from", "ehr@clinic.example"),))


class Policy:
    """Decides by the recipient's local part."""

    version = "v1"
    error = None

    def decide(self, facts, recipient):
        self.facts = facts
        if self.error:
            raise self.error
        treatment = {
            "reject": Treatment(action=Action.REJECT, rule="no", reason="Not \r\n\0 allowed"),
            "hold": Treatment(action=Action.HOLD, rule="mistyped", reason="looks mistyped"),
            "portal": Treatment(rule="portal", methods=(MethodName.PORTAL, MethodName.TLS), tls=Level.VERIFIED),
        }.get(recipient.local, Treatment(rule="rest", floor=Level.VERIFIED, policy_version="v1"))
        broken = recipient.local == "broken"
        return PolicyDecision(recipient=recipient, treatment=treatment, error="boom" if broken else "")


class Store:
    def __init__(self):
        self.units = []
        self.error = None

    async def commit(self, unit):
        if self.error:
            raise self.error
        self.units.append(unit)


class Hand:
    def __init__(self, room=100):
        self.room = room
        self.handed = []

    def reserve(self, destination):
        self.room -= 1
        if self.room < 0:
            self.room = 0
            return False
        return True

    def give_up(self, count):
        self.room += count

    def hand_over(self, claimed):
        self.handed += claimed


class World:
    def __init__(self, **options):
        self.scan, self.policy, self.store, self.hand, self.metrics = Scan(), Policy(), Store(), Hand(), Tally()
        self.bounced = []
        self.acceptor = Acceptor(
            AcceptOptions(hostname="relay.example", **options),
            Parts(
                scanner=self.scan, policy=self.policy, store=self.store, hand=self.hand, metrics=self.metrics,
                route_for=lambda address, treatment: treatment.route or address.domain,
                bounce=self.bounce, clock=lambda: NOW, entropy=bytes,
            ),
        )  # fmt: skip

    def bounce(self, message, content, told):
        self.bounced.append((message, told))
        return (Note(events=()),)

    async def accept(self, *recipients, content=CONTENT, **known):
        envelope = Envelope(
            reverse_path=ReversePath(Address.parse("ehr@clinic.example")),
            recipients=tuple(Recipient(address=Address.parse(text)) for text in recipients),
        )
        return await self.acceptor.accept(SESSION, envelope, content, **known)

    @property
    def keep(self):
        (unit,) = self.store.units
        return next(change for change in unit if isinstance(change, Keep))

    def events(self, kind):
        return [e for unit in self.store.units for c in unit if isinstance(c, Note) for e in c.events if e.kind == kind]


async def test_the_scan_is_told_whose_mail_it_is():
    world = World()
    await world.accept("pat@mail.example")
    assert world.scan.client == "ehr"


async def test_policy_and_queue_are_given_all_that_was_found():
    world, letter = World(), Attachment(type="pdf", name="a.pdf", size=7)
    scan = world.scan.scan

    async def with_a_letter(content, client=""):
        return replace(await scan(content, client), attachments=(letter,))

    world.scan.scan = with_a_letter
    await world.accept("pat@mail.example", client=client(stream="bulk"))
    message, facts = world.keep.message, world.policy.facts
    for known in (message, facts):
        assert (known.received_at, known.attachments, known.stream) == (NOW, (letter,), "bulk")
        assert (known.verdict, known.size, known.session) == (VERDICT, len(world.scan.content), SESSION)
    assert (facts.subject, facts.headers) == ("Jane Roe", (("from", "ehr@clinic.example"),))


@pytest.mark.parametrize(("local", "code", "enhanced"), [("ann", 250, "2.0.0"), ("reject", 550, "5.7.1")])
async def test_how_a_message_ended_is_counted_and_logged_once(local, code, enhanced):
    world, at = World(), ("listener", "test")
    with structlog.testing.capture_logs() as lines:
        reply = await world.accept(f"{local}@x.example")
    (line,) = (line for line in lines if line["event"] in {"accepted", "refused"})
    message_id, taken = line.pop("message_id"), code == 250
    assert line.pop("event") == ("accepted" if taken else "refused")
    assert line.pop("why", None) == (None if taken else reply.text)
    assert line == {
        "log_level": "info", "client": "ehr", "listener": "test", "sender_domain": "clinic.example", "recipients": 1,
        "size": len(CONTENT), "code": code, "enhanced": enhanced, "phi": "likely",
        "rules": ["rest" if taken else "no"],
    }  # fmt: skip
    assert (message_id in reply.text) is taken
    counted = {
        key: n for key, n in world.metrics.labelled.items() if key[0] in {"messages_received", "messages_refused"}
    }
    mine = ("messages_received", (("client", "ehr"), at)) if taken else ("messages_refused", (("code", "550"), at))
    assert counted == {mine: 1}
    assert world.metrics.counts["message_size_bytes"] == taken


async def test_require_tls_raises_every_copy_to_the_highest_level():
    world = World()
    envelope = Envelope(
        reverse_path=ReversePath(Address.parse("ehr@clinic.example")),
        recipients=tuple(Recipient(address=Address.parse(text)) for text in ("a@x.example", "b@y.example")),
        require_tls=True,
    )
    await world.acceptor.accept(SESSION, envelope, CONTENT)
    assert [entry.treatment.floor for entry in world.keep.entries] == [Level.AUTHENTICATED] * 2
    assert world.keep.message.envelope.require_tls


@pytest.mark.parametrize("local", ["ann", "hold", "reject"])
async def test_who_a_rule_names_is_told_in_the_same_unit_of_work(local):
    world, asked = World(), []
    notice = Note(events=(AuditEvent(kind="notice", at=NOW),))

    def tell(message, decisions):
        asked.append((message.origin, [decision.recipient.local for decision in decisions]))
        return (notice,)

    world.acceptor._parts = replace(world.acceptor._parts, tell=tell)
    await world.accept(f"{local}@x.example")
    (unit,) = world.store.units
    assert notice in unit
    assert asked == [(Origin.CLIENT, [local])]


async def test_messages_that_came_together_go_through_each_stage_together(monkeypatch):
    world = World()
    stages = []
    scan, decide = world.scan.scan, world.policy.decide

    def scanning(content, client=""):
        stages.append("scan")
        return scan(content, client)

    def deciding(facts, recipient):
        stages.append("decide")
        return decide(facts, recipient)

    monkeypatch.setattr(world.scan, "scan", scanning)
    monkeypatch.setattr(world.policy, "decide", deciding)
    replies = await asyncio.gather(*(world.accept(f"{name}@example.org") for name in ("ann", "ben", "cyd")))
    assert [reply.code for reply in replies] == [250] * 3
    assert stages == ["scan"] * 3 + ["decide"] * 3


async def test_one_recipient_is_kept_in_hand_and_handed_over():
    world = World()
    reply = await world.accept("a@x.example", client=client(stream="bulk"))
    keep = world.keep
    assert str(reply) == f"250 2.0.0 Ok: queued as {keep.message.id}"
    (entry,) = keep.entries
    assert keep.leased == {entry.id} == {f"{keep.message.id}.1"}
    assert (entry.destination, entry.state, entry.method, entry.due_at) == ("x.example", EntryState.READY, "tls", NOW)
    assert [claimed.content for claimed in world.hand.handed] == [keep.content]
    assert keep.message.stream == world.policy.facts.stream == "bulk"
    assert keep.message.size == len(keep.content)


async def test_what_is_scanned_is_what_is_kept():
    world = World()
    await world.accept("a@x.example")
    assert world.scan.content == world.keep.content
    assert world.keep.content.startswith(b"Received: from ehr ([192.0.2.1])\r\n")
    assert b"Bcc" not in world.keep.content
    assert world.keep.message.message_id == f"<{world.keep.message.id}@relay.example>"


async def test_recipients_share_an_entry_by_treatment_and_destination():
    world = World()
    await world.accept("a@x.example", "b@y.example", "c@x.example", "portal@x.example", "hold@x.example", "a@x.example")
    shape = [
        (entry.destination, entry.treatment.rule, entry.state.value, [state.number for state in entry.recipients])
        for entry in world.keep.entries
    ]
    assert shape == [
        ("x.example", "rest", "ready", [0, 2]),
        ("y.example", "rest", "ready", [1]),
        ("x.example", "portal", "ready", [3]),
        ("x.example", "mistyped", "held", [4]),
    ]
    assert len(world.keep.message.envelope.recipients) == 5, "one copy of each mailbox"
    assert len(world.keep.leased) == 3, "what is held is nobody's"
    assert len(world.events("decided")) == 4


async def test_a_method_that_is_not_configured_is_passed_over_at_once():
    world = World(methods=frozenset({MethodName.TLS}))
    await world.accept("portal@x.example")
    assert world.keep.entries[0].method is MethodName.TLS


async def test_a_full_hand_leaves_entries_to_others():
    world = World()
    world.hand.room = 1
    await world.accept("a@x.example", "b@y.example")
    assert len(world.keep.leased) == len(world.hand.handed) == 1


async def test_refused_for_all():
    world = World()
    reply = await world.accept("reject@x.example", "reject@y.example")
    assert str(reply) == "550 5.7.1 Not     allowed"
    ((note,),) = world.store.units
    assert [event.kind for event in note.events] == ["refused", "decided", "fate", "decided", "fate"]
    assert world.bounced == world.hand.handed == []


async def test_refused_for_some_is_accepted_and_told_in_the_same_commit():
    world = World()
    reply = await world.accept("reject@x.example", "a@x.example")
    assert reply.code == 250
    ((message, ((recipient, refusal, why),)),) = world.bounced
    assert (str(recipient.address), refusal.code, why) == ("reject@x.example", 550, "refused by the rule no")
    assert [state.number for state in world.keep.entries[0].recipients] == [1]
    assert len(world.store.units) == 1
    assert [event.facts["numbers"] for event in world.events("fate")] == [[0]]
    assert message == world.keep.message


@pytest.mark.parametrize("error", [RuntimeError("Jane Roe"), TimeoutError(), MemoryError()])
async def test_a_scan_that_fails_holds(error):
    world = World()
    world.scan.error = error
    assert (await world.accept("a@x.example")).code == 250
    (entry,) = world.keep.entries
    assert (entry.state, entry.reason) == (EntryState.HELD, "the scan failed")
    assert entry.treatment.floor is Level.VERIFIED
    assert world.keep.message.verdict.is_unreadable
    assert [event.facts["alert"] for event in world.events("alert")] == ["scan-failed"]


async def test_a_policy_error_holds_that_copy_and_alerts():
    world = World()
    await world.accept("broken@x.example", "a@x.example")
    assert [entry.state for entry in world.keep.entries] == [EntryState.HELD, EntryState.READY]
    assert [event.facts for event in world.events("alert")] == [{"alert": "policy-error", "numbers": [0]}]


async def test_a_policy_that_raises_holds_at_the_highest_floor():
    world = World()
    world.policy.error = RuntimeError("Jane Roe")
    assert (await world.accept("a@x.example")).code == 250
    (entry,) = world.keep.entries
    assert (entry.state, entry.treatment.floor) == (EntryState.HELD, Level.AUTHENTICATED)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (StoreFullError("full"), "452 4.3.1"),
        (StoreUnavailableError("gone"), "451 4.3.0"),
        (RuntimeError("Jane Roe"), "451 4.3.0"),
    ],
)
async def test_what_is_not_kept_is_not_promised(error, expected, capsys):
    world = World()
    world.store.error = error
    with structlog.testing.capture_logs() as lines:
        reply = await world.accept("a@x.example", "b@y.example")
    assert str(reply).startswith(expected)
    told = next(line for line in lines if line["event"] == "refused")
    assert (f"{told['code']} {told['enhanced']}", told["why"]) == (expected, reply.text)
    assert "Jane" not in f"{reply} {lines} {capsys.readouterr().out}"
    assert world.hand.handed == []
    assert world.hand.room == 100, "the room is given back"


async def test_loops_end():
    world = World(max_hops=3)
    hop = b"Received: from a by b; Tue, 14 Nov 2023 22:13:20 +0000\r\n"
    assert (await world.accept("a@x.example", content=hop * 2 + CONTENT)).code == 250
    assert str(await world.accept("a@x.example", content=hop * 3 + CONTENT)).startswith("554 5.4.6")


async def test_a_header_without_end_is_refused():
    world = World(max_header=1000)
    assert str(await world.accept("a@x.example", content=b"X: y\r\n" * 300)).startswith("552 5.3.4")


@pytest.mark.parametrize(
    ("author", "code"),
    [
        (b"ehr@clinic.example", 250),
        (b"ceo@other.example", 550),
        (b"ehr@clinic.example, ceo@other.example", 550),
        (b"", 550),
    ],
)
async def test_a_client_may_be_held_to_its_own_name_in_from(author, code):
    content = b"From: " + author + b"\r\n\r\nx\r\n"
    assert (await World().accept("a@x.example", content=content, client=client(check_from=True))).code == code
    assert (await World().accept("a@x.example", content=content, client=client())).code == 250


@pytest.mark.parametrize("header", [b"", b"From: \r\n", b"From: undisclosed:;\r\n"])
async def test_a_client_that_is_held_to_its_own_name_is_told_that_it_gives_none(header):
    answer = await World().accept("a@x.example", content=header + b"X: y\r\n\r\nx\r\n", client=client(check_from=True))
    assert str(answer).startswith("550 5.7.1 There is no From field with a mailbox")


async def test_times_of_rules_come_before_the_defaults():
    world = World(times=QueueTimes(expire_after=100, warn_after=10))
    decide = world.policy.decide
    world.policy.decide = lambda facts, recipient: replace(
        (decision := decide(facts, recipient)),
        treatment=replace(
            decision.treatment,
            expire_after=5 if recipient.local == "soon" else None,
            warn_after=0.0 if recipient.local == "quiet" else None,
        ),
    )
    await world.accept("a@x.example", "soon@x.example", "quiet@x.example")
    assert [(e.expires_at - NOW, e.warn_at) for e in world.keep.entries] == [(100, NOW + 10), (5, None), (100, None)]


async def test_nothing_of_the_patient_is_logged_or_audited(monkeypatch):
    lines = structlog.testing.LogCapture()
    monkeypatch.setattr("relay.intake.accept.log", structlog.wrap_logger(None, processors=[lines]))
    world = World()
    await world.accept("a@x.example", "hold@x.example", "reject@x.example")
    logged = repr(lines.entries)
    notes = [change for unit in world.store.units for change in unit if isinstance(change, Note)]
    seen = logged + repr([event.facts for note in notes for event in note.events])
    assert "accepted" in seen
    for secret in ("Jane", "Roe", "HbA1c", "03/04/1961"):
        assert secret not in seen
    (accepted,) = world.events("accepted")
    assert accepted.facts["findings"] == {"dob": 1}
    assert "@x.example" not in logged


async def test_what_is_accepted_is_in_a_real_store_with_its_trail():
    from relay.store.memory import MemoryStore
    from tests.support.vault import FakeVault

    world = World()
    store = MemoryStore(FakeVault(), lambda: NOW)
    await store.open("one")
    world.acceptor = Acceptor(world.acceptor._options, replace(world.acceptor._parts, store=store))
    reply = await world.accept("a@x.example", "hold@x.example")
    message_id = reply.lines[0].split()[-1]
    assert (await store.content(message_id)) == world.scan.content
    message = await store.message(message_id)
    assert message is not None
    assert message.session == SESSION
    assert (await store.entry(f"{message_id}.2")).state is EntryState.HELD
    (row,) = await store.outbox(limit=10)
    assert [event.kind for event in row.events] == ["accepted", "decided", "decided"]
    await store.close()
