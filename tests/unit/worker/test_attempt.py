"""What each attempt leads to, seen in the queue, the audit trail and the notices."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.core.address import NULL_SENDER, Address
from relay.core.change import Settle
from relay.core.decision import MethodName, Otherwise, Treatment
from relay.core.entry import EntryState
from relay.core.envelope import Envelope, Origin, Recipient
from relay.core.errors import CorruptError, SealError, StoreError, StoreFullError, StoreUnavailableError
from relay.core.level import Level
from relay.core.outcome import PeerFeatures, RecipientResult, Stage, Trouble
from relay.core.ports import ConnectError, Unavailable
from relay.core.reply import Reply
from relay.delivery.routing import Route
from relay.smtp.commands import look, missing
from tests.support.attempting import POSTMASTER, TAKEN, Attempting, FakeSession, refusal, trouble
from tests.support.queue import BODY, NOW, a_message

THREE = ("ann@example.org", "ben@example.org", "cyd@example.org")


@pytest.fixture
async def it():
    async with Attempting() as attempting:
        yield attempting


def from_null(*recipients, origin=Origin.CLIENT):
    envelope = Envelope(
        reverse_path=NULL_SENDER,
        recipients=tuple(Recipient(address=Address.parse(text)) for text in recipients or ("bob@example.org",)),
    )
    return a_message("m1", envelope=envelope, origin=origin)


# --- what a peer answers ---


async def test_taken_is_delivered_with_its_proof(it):
    await it.keep(*THREE)
    await it.over(TAKEN)
    assert await it.left() == {}
    (event,) = await it.events("fate")
    assert event.facts["fate"] == "delivered"
    assert event.facts["numbers"] == [0, 1, 2]
    assert event.facts["proof"]["level"] == "verified"
    assert it.connector.asked == [("example.org", Level.CLEAR, 0)]


async def test_each_recipient_meets_its_own_answer(it):
    await it.keep(*THREE)
    await it.over({1: refusal(550, "5.1.1", "No such user"), 2: refusal(451, "4.7.1", "Greylisted")})
    assert await it.fates() == {0: "delivered", 1: "bounced"}
    left = await it.left()
    assert [state.number for state in left["m1.0"].recipients] == [2]
    ((origin, notice, body),) = await it.notices_kept()
    assert origin is Origin.DSN
    assert str(notice.recipients[0].recipient.address) == "planted-al@clinic.example"
    assert b"ben@example.org" in body
    assert b"cyd@example.org" not in body


async def test_the_bounce_is_in_the_same_unit_of_work_as_the_fate(it):
    await it.keep()
    await it.over(refusal(550, "5.1.1", "No such user"))
    kinds = [type(change).__name__ for change in it.store.units[-1]]
    assert kinds[0] == "Settle"
    assert "Keep" in kinds


async def test_putting_off_waits_ever_longer(it):
    await it.keep()
    waits = []
    for _ in range(5):
        await it.over(refusal(451, "4.7.1", "Greylisted"))
        entry = (await it.left())["m1.0"]
        waits.append(entry.due_at - it.clock.now)
        it.clock.now = entry.due_at
    assert waits == [60, 120, 240, 480, 600]
    assert entry.attempts == 5
    assert entry.tls_failures == 0
    assert "Greylisted" in entry.reason


@pytest.mark.parametrize("reply", [(452, "4.5.3"), (552, "5.5.3"), (452, "")])
async def test_recipients_too_many_for_one_transaction_go_in_the_next_at_once(it, reply):
    await it.keep(*THREE)
    await it.over({1: refusal(*reply, "Too many recipients"), 2: refusal(*reply, "Too many recipients")})
    entry = (await it.left())["m1.0"]
    assert (entry.due_at, entry.attempts) == (NOW, 0)
    await it.over({2: refusal(*reply, "Too many recipients")})
    await it.over(TAKEN)
    assert await it.fates() == {0: "delivered", 1: "delivered", 2: "delivered"}


@pytest.mark.parametrize("reply", [(452, "4.3.1"), (451, "4.7.1")])
async def test_other_refusals_wait_whatever_was_taken_beside_them(it, reply):
    await it.keep(*THREE)
    await it.over({1: refusal(452, "4.5.3", "Too many recipients"), 2: refusal(*reply, "Not now")})
    entry = (await it.left())["m1.0"]
    assert entry.due_at > NOW
    assert entry.attempts == 1


async def test_when_none_was_taken_too_many_recipients_wait_like_others(it):
    await it.keep(*THREE)
    await it.over(dict.fromkeys(range(3), refusal(452, "4.5.3", "Too many recipients")))
    assert (await it.left())["m1.0"].due_at > NOW


@pytest.mark.parametrize("wrong", [trouble(Trouble.LOCAL, Stage.PLAN), ConnectError((trouble(Trouble.LOCAL),))])
async def test_what_is_set_up_wrongly_is_told_while_mail_waits_for_it(it, wrong):
    await it.keep()
    await it.over(wrong)
    assert (await it.left())["m1.0"].state is EntryState.READY
    assert it.alerts() == 1


async def test_an_ambiguous_end_is_tried_again(it):
    await it.keep()
    await it.over(FakeSession(trouble(Trouble.AMBIGUOUS, Stage.FINAL), dies=True))
    assert (await it.left())["m1.0"].state is EntryState.READY
    await it.over(TAKEN)
    assert await it.fates() == {0: "delivered"}


async def test_a_message_the_peer_cannot_take_bounces(it):
    await it.keep("müller@example.org", message=None, body=BODY)
    await it.over(trouble(Trouble.UNSUPPORTED, Stage.MAIL))
    assert await it.fates() == {0: "bounced"}


async def test_what_cannot_be_protected_waits_for_an_operator(it):
    await it.keep()
    it.connector.next.append(trouble(Trouble.UNAVAILABLE, Stage.CONNECT))
    await it.attempt()
    assert (await it.left())["m1.0"].state is EntryState.HELD


async def test_no_host_and_no_reason_is_tried_again(it):
    await it.keep()
    it.connector.next.append(ConnectError(()))
    await it.attempt()
    assert (await it.left())["m1.0"].attempts == 1


# --- sessions ---


async def test_a_dead_destination_is_waited_for_once_and_not_once_a_copy(it):
    await it.keep()
    await it.keep(message=a_message("m2", recipients=("cyd@example.org",)))

    async def time_out(*_, **__):
        it.connector.asked.append("connect")
        it.clock.now += 30.0
        raise ConnectError((trouble(Trouble.NETWORK, detail="timed out"),))

    it.connector.connect = time_out
    assert await it.attempt("m1.0") is None
    assert await it.attempt("m2.0") is None
    assert it.connector.asked == ["connect"]
    left = await it.left()
    assert {entry.attempts for entry in left.values()} == {1}
    assert {entry.reason for entry in left.values()} == {left["m1.0"].reason}
    it.clock.now += 11.0  # the failure is shared for ten seconds
    await it.attempt("m2.0")
    assert len(it.connector.asked) == 2


async def test_a_stale_kept_session_is_replaced_once(it):
    await it.keep()
    stale, new = FakeSession(trouble(Trouble.NETWORK, Stage.MAIL), dies=True), FakeSession()
    it.connector.next.append(new)
    assert await it.attempt(session=stale) is new
    assert stale.closed == 1
    assert await it.fates() == {0: "delivered"}


async def test_a_new_session_that_dies_is_not_tried_again(it):
    await it.keep()
    it.connector.next.extend(FakeSession(trouble(Trouble.NETWORK, Stage.MAIL), dies=True) for _ in range(3))
    assert await it.attempt() is None
    assert len(it.connector.next) == 2
    assert (await it.left())["m1.0"].attempts == 1


async def test_a_kept_session_that_died_after_taking_something_is_not_tried_again(it):
    await it.keep()
    session = FakeSession(trouble(Trouble.AMBIGUOUS, Stage.FINAL), dies=True)
    assert await it.attempt(session=session) is None
    assert it.connector.asked == []
    assert session.closed == 1


@pytest.mark.parametrize(
    "session",
    [
        FakeSession(level=Level.ENCRYPTED),
        FakeSession(level=Level.CLEAR, failure="the handshake failed"),
    ],
)
async def test_a_kept_session_below_the_floor_is_not_used(it, session):
    await it.keep(treatment=Treatment(floor=Level.VERIFIED))
    await it.attempt(session=session)
    assert session.transactions == []
    assert session.closed == 1
    assert it.connector.asked == [("example.org", Level.VERIFIED, 0)]


async def test_in_the_clear_a_kept_session_serves_only_where_tls_was_never_offered(it):
    clear = Treatment(floor=Level.CLEAR)
    await it.keep(treatment=clear)
    plain = FakeSession(level=Level.CLEAR, failure="the peer does not offer STARTTLS")
    assert await it.attempt(session=plain) is plain
    await it.keep(treatment=clear)
    fallen = FakeSession(level=Level.CLEAR, failure="the handshake failed", downgraded=True)
    it.connector.next.append(new := FakeSession())
    assert await it.attempt(session=fallen) is new
    assert (fallen.transactions, fallen.closed) == ([], 1)


async def test_a_fault_of_ours_leaves_no_session_in_an_unknown_state(it):
    await it.keep()
    session = FakeSession(RuntimeError("a fault of ours"))
    it.connector.next.append(session)
    await it.attempt()
    assert session.closed == 1
    assert (await it.left())["m1.0"].due_at > it.clock.now
    assert it.alerts() >= 1
    kept = FakeSession(RuntimeError("a fault of ours"))
    back = await it.attempt(session=kept)
    assert back is None or not back.alive


# --- floors ---


async def test_a_raised_policy_raises_the_floor_of_what_was_decided_before(it):
    it.policy.version, it.policy.level = "new", Level.AUTHENTICATED
    await it.keep(body=b"Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\nX-One: 1\r\n\r\nhello\r\n")
    await it.over(FakeSession(level=Level.AUTHENTICATED))
    assert it.connector.asked[0][1] is Level.AUTHENTICATED
    assert it.policy.facts[0].subject == "grüße"
    assert ("x-one", "1") in it.policy.facts[0].headers


async def test_a_lowered_policy_lowers_nothing(it):
    it.policy.version, it.policy.level = "new", Level.CLEAR
    await it.keep(treatment=Treatment(floor=Level.VERIFIED, policy_version="old"))
    await it.over(TAKEN)
    assert it.connector.asked[0][1] is Level.VERIFIED


async def test_the_same_policy_is_not_asked_again(it):
    it.policy.version = "same"
    await it.keep(treatment=Treatment(policy_version="same"))
    await it.over(TAKEN)
    assert it.policy.facts == []


async def test_mail_of_our_own_is_not_judged(it):
    it.policy.version, it.policy.level = "new", Level.AUTHENTICATED
    await it.keep(message=from_null(origin=Origin.DSN))
    await it.over(TAKEN)
    assert it.connector.asked[0][1] is Level.VERIFIED  # what our notices always need


async def test_the_route_has_a_floor_of_its_own():
    route = Route(name="partner", domains=("example.org",), floor=Level.AUTHENTICATED)
    async with Attempting(routes=(route,)) as it:
        await it.keep(destination="route:partner")
        await it.over(FakeSession(level=Level.AUTHENTICATED))
        assert it.connector.asked[0][1] is Level.AUTHENTICATED


# --- time ---


@pytest.mark.parametrize("state", list(EntryState))
async def test_time_is_up_in_every_state(it, state):
    await it.keep(state=state, expires_at=NOW + 10, reason="greylisted")
    it.clock.now = NOW + 10
    await it.attempt()
    assert await it.fates() == {0: "expired"}
    ((origin, _, body),) = await it.notices_kept()
    assert origin is Origin.DSN
    assert b"5.4.7" in body
    assert it.connector.asked == []


@pytest.mark.parametrize("error", [CorruptError("damaged"), StoreError("cannot be read")])
async def test_time_is_up_also_for_what_cannot_be_read(it, error):
    await it.keep(expires_at=NOW)
    it.store.content_error = error
    await it.attempt()
    assert await it.fates() == {0: "expired"}
    assert len(await it.events("notice")) == 1


async def test_while_the_store_is_away_nothing_expires_nor_is_due_again_at_once(it):
    await it.keep(expires_at=NOW)
    it.store.content_error = StoreUnavailableError("away")
    await it.attempt()
    assert it.aside == ["m1.0"]
    assert await it.store.acquire("m1.0") is None, "the lease goes on until it is given back"
    assert await it.events() == []
    it.store.content_error = None
    await it.store.release(it.aside)
    await it.attempt()
    assert await it.fates() == {0: "expired"}


class Away:
    """A portal whose store is away, and then is not."""

    def __init__(self):
        self.error = StoreUnavailableError("away")
        self.told = []

    async def withdrawn(self, message_id, number):
        if self.error is not None:
            raise self.error
        self.told.append((message_id, number))
        return True


async def test_what_expires_while_the_portal_s_store_is_away_is_set_aside_and_ends_later():
    portal = Away()
    async with Attempting(methods={MethodName.PORTAL: Portal()}, portal=portal) as it:
        treatment = Treatment(methods=(MethodName.PORTAL,))
        await it.keep(expires_at=NOW, method=MethodName.PORTAL, treatment=treatment)
        await it.attempt()
        assert it.aside == ["m1.0"]
        assert await it.fates() == {}
        portal.error = None
        await it.store.release(it.aside)
        await it.attempt()
        assert await it.fates() == {0: "expired"}
        assert portal.told == [("m1", 0)]


async def test_a_fault_of_ours_past_the_expiry_is_for_the_caller_to_set_aside(it, monkeypatch):
    await it.keep(expires_at=NOW)

    def fails(*_, **__):
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(it.recorder, "expire", fails)
    claimed = await it.store.acquire("m1.0")
    with pytest.raises(RuntimeError):
        await it.attempter(claimed, None)


DEEP = [("(" * 70 + "\r\n ") * 70 + "lab@clinic.example", ("a:" * 70 + "\r\n ") * 70]


@pytest.mark.parametrize("deep", DEEP)
async def test_authors_nested_too_deeply_to_be_read_are_no_reason_to_have_no_fate(it, deep):
    content = b"From: %s\r\n\r\nhi\r\n" % deep.encode()
    await it.keep(body=content)
    await it.over(TAKEN)
    assert await it.fates() == {0: "delivered"}


@pytest.mark.parametrize("deep", DEEP)
async def test_time_is_up_also_where_the_authors_are_nested_too_deeply_to_be_read(it, deep):
    await it.keep(body=b"From: %s\r\nTo: %s\r\n\r\nhi\r\n" % (deep.encode(), deep.encode()), expires_at=NOW)
    await it.attempt()
    assert await it.fates() == {0: "expired"}
    assert len(await it.notices_kept()) == 1


@pytest.mark.parametrize("state", list(EntryState))
async def test_the_sender_is_warned_of_a_delay_once(it, state):
    await it.keep(state=state, warn_at=NOW, expires_at=NOW + 10_000)
    for _ in range(3):
        await it.over(refusal(451, "4.7.1", "Greylisted"))
    entry = (await it.left())["m1.0"]
    assert entry.warn_at is None
    assert entry.state is state
    ((origin, notice, body),) = await it.notices_kept()
    assert origin is Origin.DSN
    assert notice.recipients[0].recipient.address.domain == "clinic.example"
    assert b"Action: delayed" in body
    told = [event.facts["warned"] for event in await it.events() if "warned" in event.facts]
    assert told == [True]


async def test_within_is_spent_by_missing_the_level_alone(it):
    treatment = Treatment(floor=Level.VERIFIED, within=100.0, otherwise=Otherwise.HOLD)
    await it.keep(treatment=treatment)
    it.connector.next.append(trouble(Trouble.BELOW_FLOOR, Stage.TLS, "no STARTTLS"))
    await it.attempt()
    entry = (await it.left())["m1.0"]
    assert entry.tls_failures == 1
    it.clock.now = NOW + 50
    await it.over(refusal(451, "4.7.1", "Greylisted"))
    entry = (await it.left())["m1.0"]
    assert entry.tls_failures == 1
    assert entry.due_at == NOW + 100
    it.clock.now = entry.due_at
    await it.attempt()
    assert (await it.left())["m1.0"].state is EntryState.HELD


@pytest.mark.parametrize(
    ("otherwise", "then"), [(Otherwise.DEFER, "tried"), (Otherwise.HOLD, "held"), (Otherwise.BOUNCE, "bounced")]
)
async def test_after_within_without_another_method(it, otherwise, then):
    await it.keep(treatment=Treatment(within=10.0, otherwise=otherwise), tls_failures=2, created_at=NOW - 10)
    await it.attempt()
    fates, left = await it.fates(), await it.left()
    assert (len(it.connector.asked) == 1) is (then == "tried")
    assert (left.get("m1.0") is not None and left["m1.0"].state is EntryState.HELD) is (then == "held")
    assert (fates == {0: "bounced"}) is (then == "bounced")


class Portal:
    """Another method, which may refuse."""

    name = MethodName.PORTAL

    async def render(self, *_):
        return Unavailable("no key")


async def test_after_within_the_next_method_is_taken_for_good():
    from relay.methods.tls import TlsMethod

    async with Attempting(methods={MethodName.TLS: TlsMethod(), MethodName.PORTAL: Portal()}) as it:
        treatment = Treatment(methods=(MethodName.TLS, MethodName.PORTAL), within=10.0, otherwise=Otherwise.BOUNCE)
        await it.keep(treatment=treatment, tls_failures=1, created_at=NOW - 10)
        await it.attempt()
        entry = (await it.left())["m1.0"]
        assert (entry.method, entry.tls_failures, entry.due_at) == (MethodName.PORTAL, 0, NOW)
        await it.attempt()  # and that is not available, and there is no other
        assert await it.fates() == {0: "bounced"}
        assert it.connector.asked == []


# --- our own faults and the store's ---


@pytest.mark.parametrize("error", [CorruptError("it does not authenticate"), CorruptError("missing")])
async def test_a_damaged_body_is_set_aside_for_an_operator(it, error):
    await it.keep()
    it.store.content_error = error
    await it.attempt()
    assert (await it.left())["m1.0"].state is EntryState.HELD
    assert it.alerts() == 1


@pytest.mark.parametrize("error", [SealError("a key version not in the ring"), RuntimeError("a fault of ours")])
async def test_a_failing_vault_is_tried_again_and_alerted(it, error):
    await it.keep()
    it.store.content_error = error
    await it.attempt()
    entry = (await it.left())["m1.0"]
    assert (entry.state, entry.attempts) == (EntryState.READY, 1)
    assert it.alerts() >= 1


async def test_an_outcome_waits_until_the_store_takes_it(it):
    await it.keep()
    it.store.commit_errors.extend([StoreUnavailableError("away")] * 7 + [StoreFullError("full")])
    await it.attempt()
    assert await it.fates() == {0: "delivered"}
    assert it.pauses == [0.1, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0, 5.0]


@pytest.mark.parametrize("error", [StoreError("the lease was lost"), SealError("no key"), RuntimeError("ours")])
async def test_an_outcome_that_cannot_be_recorded_is_alerted_and_its_lease_holds(it, error):
    await it.keep()
    it.store.commit_errors.append(error)
    await it.attempt()
    assert it.alerts() == 1
    assert await it.store.acquire("m1.0") is None
    assert await it.fates() == {}


async def test_a_notice_that_cannot_be_written_keeps_no_copy_from_its_end(it, monkeypatch):
    await it.keep()

    def fails(*_, **__):
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(it.writer, "failure", fails)
    await it.over(refusal(550, "5.1.1", "No such user"))
    assert await it.fates() == {0: "bounced"}
    assert (await it.events("fate"))[0].facts["dsn"] == "nobody"
    assert it.alerts() == 1


async def test_a_warning_that_cannot_be_written_is_not_tried_for_ever(it, monkeypatch):
    await it.keep(warn_at=NOW)

    def fails(*_, **__):
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(it.writer, "delay", fails)
    await it.over(refusal(451, "4.7.1", "Greylisted"))
    entry = (await it.left())["m1.0"]
    assert entry.warn_at is None
    assert entry.due_at > it.clock.now


# --- who is told ---


async def test_a_bounce_of_a_bounce_ends_at_the_postmaster_and_that_in_an_alert(it):
    await it.keep(message=from_null())
    await it.over(refusal(550, "5.1.1", "No such user"))
    ((origin, notice, _),) = await it.notices_kept()
    assert origin is Origin.NOTICE
    assert str(notice.recipients[0].recipient.address) == POSTMASTER
    assert notice.treatment.floor is Level.VERIFIED
    await it.over(refusal(550, "5.1.1", "No such user"), entry_id=notice.id)
    assert await it.left() == {}
    assert it.alerts() == 1
    assert [event.facts["dsn"] for event in await it.events("fate")] == ["postmaster", "nobody"]
    (alert,) = await it.events("alert")
    assert (alert.message_id, alert.facts["alert"], alert.facts["entry"]) == (
        notice.message_id,
        "undeliverable-notice",
        notice.id,
    )
    assert alert.facts["why"].endswith(": 550 5.1.1 No such user")


async def test_a_notice_may_take_an_internal_route_at_any_level():
    route = Route(name="inside", domains=("clinic.example",), internal=True, floor=Level.CLEAR)
    async with Attempting(routes=(route,)) as it:
        await it.keep()
        await it.over(refusal(550, "5.1.1", "No such user"))
        ((_, notice, _),) = await it.notices_kept()
        assert (notice.destination, notice.treatment.floor) == ("route:inside", Level.CLEAR)


@pytest.mark.parametrize(
    ("notify", "bounce", "warning"),
    [
        ((), True, True),
        (("NEVER",), False, False),
        (("FAILURE",), True, False),
        (("DELAY",), False, True),
        (("SUCCESS",), False, False),
    ],
)
async def test_notify_says_of_what_the_sender_is_told(it, notify, bounce, warning):
    recipient = Recipient(address=Address.parse("bob@example.org"), notify=frozenset(notify))
    envelope = dataclasses.replace(a_message().envelope, recipients=(recipient,))
    await it.keep(message=a_message("m1", envelope=envelope), warn_at=NOW)
    await it.over(refusal(451, "4.7.1", "Greylisted"))
    assert len(await it.notices_kept()) == warning
    await it.over(refusal(550, "5.1.1", "No such user"))
    assert len(await it.notices_kept()) == warning + bounce
    assert await it.fates() == {0: "bounced"}


async def test_nobody_reads_in_our_records_what_a_server_echoes(it):
    await it.keep("planted-bob@example.org", "ben@example.org", warn_at=NOW)
    text = 'no planted-bob here, <planted-bob@example.org>; subject: planted-subject "planted name"'
    await it.over({0: refusal(550, "5.1.1", text), 1: refusal(451, "4.7.1", text)})
    shown = repr([event.facts for event in await it.events() if event.kind != "accepted"])
    shown += (await it.left())["m1.0"].reason
    assert "planted" not in shown
    assert "550 5.1.1" in shown


# --- one fate each ---

ANSWERS = st.sampled_from(
    [
        TAKEN,
        Reply.of(354, "", "Go on"),
        refusal(550, "5.1.1", "No"),
        refusal(451, "4.7.1", "Later"),
        refusal(552, "5.3.4", "Too large", stage=Stage.FINAL),
        refusal(421, "4.3.2", "Closing", stage=Stage.MAIL),
        *(trouble(kind, Stage.MAIL) for kind in Trouble if kind is not Trouble.REPLY),
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(-1, 5), ANSWERS), max_size=8), min_size=1, max_size=4))
def test_whatever_is_answered_every_recipient_is_waiting_or_has_one_fate(history):
    import asyncio

    asyncio.run(_history(history))


async def _history(history):
    names = tuple(f"r{number}@example.org" for number in range(5))
    async with Attempting() as it:
        await it.keep(*names)
        for answers in history:
            if "m1.0" not in await it.left():
                break

            def results(_, answers=answers):
                return tuple(
                    RecipientResult(number=number, reply=answer)
                    if isinstance(answer, Reply)
                    else RecipientResult(number=number, failure=answer)
                    for number, answer in answers
                )

            await it.over(FakeSession(results))
            left = (await it.left()).get("m1.0")
            waiting = {state.number for state in left.recipients} if left else set()
            fates = await it.fates()
            assert waiting | set(fates) == set(range(5))
            assert not waiting & set(fates)
        for unit in it.store.units:
            settled = [change for change in unit if isinstance(change, Settle)]
            assert len(settled) <= 1


# --- what leaves ---


async def test_a_message_to_many_destinations_is_signed_once_a_variant():
    class Signers:
        calls = 0

        def sign(self, content, **_):
            from relay.protect.dkim import SignerSet

            Signers.calls += 1
            return SignerSet(()).sign(content, author_domain="clinic.example", now=NOW)

    async with Attempting(signers=Signers()) as it:
        message = a_message("m1", recipients=THREE)
        body = "Subject: x\r\n\r\ngrüße\r\n".encode()
        plain, eight = PeerFeatures(), PeerFeatures(eight_bit_mime=True)
        entry = await it.keep(message=message, body=body)
        first = await it.outgoing.prepare(message, entry, body, eight)
        assert await it.outgoing.prepare(message, entry, body, eight) is first
        assert Signers.calls == 1
        other = await it.outgoing.prepare(message, entry, body, plain)
        assert other.content != first.content
        assert (first.body_8bit, other.body_8bit) == (True, False)
        assert Signers.calls == 2
        rendered = await it.outgoing.prepare(message, entry, body.replace(b"Subject: x", b"Subject: y"), eight)
        assert b"Subject: y" in rendered.content, "another rendering is another content"
        it.outgoing.adopt(Signers())
        await it.outgoing.prepare(message, entry, body, eight)
        assert Signers.calls == 4


# --- REQUIRETLS (RFC 8689) ---


def demanding():
    message = a_message("m1")
    return dataclasses.replace(message, envelope=dataclasses.replace(message.envelope, require_tls=True))


async def test_require_tls_asks_for_the_highest_level_whatever_was_decided(it):
    await it.keep(message=demanding())
    await it.over(FakeSession(level=Level.AUTHENTICATED, features=PeerFeatures(require_tls=True)))
    assert it.connector.asked == [("example.org", Level.AUTHENTICATED, 0)]


@pytest.mark.parametrize("knows", [True, False])
@pytest.mark.parametrize("strict", [True, False])
async def test_require_tls_is_passed_on_and_relaxed_only_where_a_peer_does_not_know_it(it, knows, strict):
    it.attempter._strict = strict
    session = FakeSession(level=Level.AUTHENTICATED, features=PeerFeatures(eight_bit_mime=True, require_tls=knows))
    await it.keep(message=demanding())
    await it.over(session)
    (sent,) = session.transactions
    assert sent.require_tls is (strict or knows)
    assert sent.floor is Level.AUTHENTICATED
    failure = missing(sent, session.features, look(sent.content))
    assert (str(failure.status) if failure else "") == ("5.7.30" if strict and not knows else "")
