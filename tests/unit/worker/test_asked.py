"""NOTIFY, RET, ENVID and ORCPT (RFC 3461) in an attempt: who is told of success, and what a next hop is asked."""

import dataclasses
import itertools
from email import message_from_bytes
from email.policy import default

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.core.address import NULL_SENDER, Address, ReversePath
from relay.core.decision import MethodName, Treatment
from relay.core.envelope import Envelope, Origin, Recipient
from relay.core.fate import FateKind
from relay.core.level import Level
from relay.core.outcome import PeerFeatures, RecipientResult, Stage
from relay.core.ports import Rendering
from relay.core.reply import Reply
from relay.delivery.routing import Route
from relay.protect.keyring import KeyRing
from relay.protect.returnpath import ReturnPaths
from relay.worker.returning import Returning, ReturnOptions, asked
from tests.support.attempting import TAKEN, Attempting, FakeSession, refusal
from tests.support.queue import NOW, a_message

NAME = "01M812TVPXRTDGK76AT9"
SENDER = "planted-al@clinic.example"
KNOWS = PeerFeatures(eight_bit_mime=True, dsn=True)
KNOWS_NOT = PeerFeatures(eight_bit_mime=True)
TEXT = b"Subject: planted-subject\r\nFrom: Al <planted-al@clinic.example>\r\n\r\nplanted-body\r\n"
WISHES = [
    frozenset(), *(frozenset(words) for count in (1, 2, 3)
                   for words in itertools.combinations(("SUCCESS", "FAILURE", "DELAY"), count)), frozenset({"NEVER"}),
]  # fmt: skip


@pytest.fixture
async def it():
    async with Attempting() as attempting:
        yield attempting


def message(*wishes, sender=SENDER, **fields):
    """To ``p0@example.org`` and so on, each with the NOTIFY given."""
    recipients = tuple(
        Recipient(address=Address.parse(f"p{number}@example.org"), original=f"rfc822;O+2B{number}@old.example",
                  notify=frozenset(wish))
        for number, wish in enumerate(wishes)
    )  # fmt: skip
    path = ReversePath(Address.parse(sender)) if sender else NULL_SENDER
    envelope = Envelope(reverse_path=path, recipients=recipients, envelope_id="QQ+2B1", ret="FULL", **fields)
    return a_message("m1", envelope=envelope)


def told(body):
    """Subject, per-message fields and those of each recipient."""
    whole = message_from_bytes(body, policy=default)
    (part,) = (part for part in whole.walk() if part.get_content_type() == "message/delivery-status")
    head, *fields = part.get_payload()
    return whole["Subject"], head, fields


async def test_who_asked_is_told_that_a_server_without_dsn_has_it(it):
    await it.keep(message=message({"SUCCESS", "DELAY"}, {"FAILURE"}, ()), body=TEXT)
    await it.over(FakeSession(Reply.of(250, "2.0.0", "Ok planted-subject"), features=KNOWS_NOT))
    assert await it.fates() == dict.fromkeys(range(3), "delivered")
    ((origin, entry, body),) = await it.notices_kept()
    assert origin is Origin.DSN
    assert str(entry.recipients[0].recipient.address) == SENDER
    subject, head, (fields,) = told(body)
    assert subject == "Message handed on"
    assert head["Original-Envelope-Id"] == "QQ+1"
    assert fields["Original-Recipient"] == "rfc822; O+0@old.example"
    assert fields["Final-Recipient"] == "rfc822; p0@example.org"
    assert (fields["Action"], fields["Status"]) == ("relayed", "2.1.9")
    assert fields["Remote-MTA"] == "dns; mx.example.org"
    assert fields["Diagnostic-Code"].startswith("smtp; 250 2.0.0 Ok")
    for planted in (b"planted-subject", b"planted-body", b"p1@", b"p2@"):
        assert planted not in body
    sent = await it.store.message(entry.message_id)
    assert sent.envelope.reverse_path.is_null
    assert not sent.envelope.recipients[0].notify


async def test_it_is_in_the_same_unit_of_work_as_the_fate(it):
    await it.keep(message=message({"SUCCESS"}))
    await it.over(FakeSession(features=KNOWS_NOT))
    kinds = [type(change).__name__ for change in it.store.units[-1]]
    assert kinds[0] == "Settle"
    assert "Keep" in kinds


async def test_a_server_that_offers_dsn_is_asked_and_tells_itself(it):
    await it.keep(message=message({"SUCCESS"}, {"NEVER"}, ()))
    session = FakeSession(features=KNOWS)
    await it.over(session)
    (sent,) = session.transactions
    assert (sent.envelope_id, sent.ret) == ("QQ+2B1", "FULL")
    assert [one.notify for _, one in sent.recipients] == [{"SUCCESS"}, {"NEVER"}, set()]
    assert [one.original for _, one in sent.recipients] == [f"rfc822;O+2B{number}@old.example" for number in range(3)]
    assert await it.notices_kept() == []


@pytest.mark.parametrize("about", [message({"SUCCESS"}, sender=""), message((), {"FAILURE"}, {"NEVER"})])
async def test_the_null_sender_and_who_did_not_ask_are_told_nothing(it, about):
    await it.keep(message=about)
    await it.over(FakeSession(features=KNOWS_NOT))
    assert await it.notices_kept() == []


@pytest.mark.parametrize("origin", [origin for origin in Origin if origin not in (Origin.CLIENT, Origin.RETURNED)])
async def test_no_success_of_our_own_mail_is_told(it, origin):
    await it.keep(message=dataclasses.replace(message({"SUCCESS"}), origin=origin))
    await it.over(FakeSession(features=KNOWS_NOT))
    assert await it.left() == {}
    assert {event.kind for event in await it.events()} == {"fate"}


async def test_failures_and_successes_of_one_message_are_told_apart(it):
    await it.keep(message=message({"SUCCESS", "FAILURE"}, {"SUCCESS", "FAILURE"}, {"SUCCESS"}))
    gone = refusal(550, "5.1.1", "No such user")
    await it.over(FakeSession({1: gone, 2: gone}, features=KNOWS_NOT))
    notices = [told(body) for _, _, body in await it.notices_kept()]
    assert sorted((fields["Action"], fields["Final-Recipient"][8:]) for _, _, every in notices for fields in every) == [
        ("failed", "p1@example.org"), ("relayed", "p0@example.org"),
    ]  # fmt: skip


@pytest.mark.parametrize("wish", [{"NEVER"}, {"SUCCESS"}, {"DELAY"}])
async def test_a_failure_that_nobody_wants_to_hear_of_is_seen_all_the_same(it, wish):
    await it.keep(message=message(wish))
    await it.over(refusal(550, "5.1.1", "No such user"))
    assert await it.notices_kept() == []
    (event,) = await it.events("fate")
    assert (event.facts["fate"], event.facts["dsn"]) == ("bounced", "not-wanted")
    assert it.metrics.counts["postern_bounces_total"] == 1


async def test_a_notice_that_cannot_be_written_keeps_no_copy_from_its_end(it, monkeypatch):
    def broken(*_args, **_more):
        raise ValueError("planted")

    monkeypatch.setattr(it.writer, "success", broken)
    await it.keep(message=message({"SUCCESS"}))
    await it.over(FakeSession(features=KNOWS_NOT))
    assert await it.fates() == {0: "delivered"}
    assert await it.left() == {}


@pytest.mark.parametrize(("routes", "required", "floor"), [
    ((), False, Level.VERIFIED), ((), True, Level.AUTHENTICATED),
    ((Route(name="in", domains=("clinic.example",), internal=True),), False, Level.CLEAR),
])  # fmt: skip
async def test_it_is_protected_as_a_failure_is(routes, required, floor):
    async with Attempting(routes=routes) as it:
        await it.keep(message=message({"SUCCESS"}, require_tls=required))
        knows = dataclasses.replace(KNOWS_NOT, require_tls=True)
        await it.over(FakeSession(features=knows, level=Level.AUTHENTICATED))
        ((_, entry, _),) = await it.notices_kept()
        assert entry.treatment.floor is floor
        kept = await it.store.message(entry.message_id)
        assert kept.envelope.require_tls is required


@settings(max_examples=40, deadline=None)
@given(
    wishes=st.lists(st.sampled_from(WISHES), min_size=1, max_size=3),
    rounds=st.lists(st.tuples(st.booleans(), st.lists(st.sampled_from([250, 450, 550]), min_size=3, max_size=3)),
                    max_size=4),
)  # fmt: skip
async def test_each_recipient_is_told_of_once_and_only_as_asked(wishes, rounds):
    """Over any answers: one notice of success by us, or the next hop's; one of failure; never both, none unasked."""
    async with Attempting() as it:
        await it.keep(message=message(*wishes))
        asked_of_peer = set()
        for knows, codes in [*rounds, (False, [250] * 3)]:
            if "m1.0" not in await it.left():
                break
            it.clock.now = (await it.left())["m1.0"].due_at
            answers = {
                number: TAKEN if code == 250 else refusal(code, f"{code // 100}.0.0", "No")
                for number, code in enumerate(codes)
            }
            there = [state.number for state in (await it.left())["m1.0"].recipients]
            await it.over(FakeSession(answers, features=KNOWS if knows else KNOWS_NOT))
            asked_of_peer |= {number for number in there if knows and codes[number] == 250}
        fates = await it.fates()
        found = sorted(
            (int(fields["Final-Recipient"][9]), fields["Action"])
            for _, _, body in await it.notices_kept() for fields in told(body)[2]
        )  # fmt: skip
        expected = [(number, "relayed") for number, wish in enumerate(wishes)
                    if fates[number] == "delivered" and "SUCCESS" in wish and number not in asked_of_peer]  # fmt: skip
        expected += [(number, "failed") for number, wish in enumerate(wishes)
                     if fates[number] == "bounced" and (not wish or "FAILURE" in wish)]  # fmt: skip
        assert found == sorted(expected)


# --- a server that offers DSN and does not take what is lawful ---


def fussy(code, *, about_sender=False, gone=()):
    """Answers ``code`` where notices are asked about; takes all else but who is ``gone``."""

    def answer(transaction):
        results = []
        for number, recipient in transaction.recipients:
            failure = None
            if about_sender and (transaction.envelope_id or transaction.ret):
                failure = refusal(code, "5.5.4", "Bad parameter", stage=Stage.MAIL)
            elif recipient.original or recipient.notify:
                failure = refusal(code, "5.5.4", "ORCPT address syntax error")
            elif number in gone:
                failure = refusal(550, "5.1.1", "No such user")
            results.append(RecipientResult(number=number, reply=None if failure else TAKEN, failure=failure))
        return tuple(results)

    return FakeSession(answer, features=KNOWS)


def plainly(about, *numbers):
    """The message's recipients of these numbers with nothing asked of them."""
    envelope = about.envelope
    recipients = tuple(
        dataclasses.replace(one, original="", notify=frozenset()) if number in numbers else one
        for number, one in enumerate(envelope.recipients)
    )
    return dataclasses.replace(about, envelope=dataclasses.replace(envelope, recipients=recipients))


@pytest.mark.parametrize("about_sender", [True, False])
@pytest.mark.parametrize("code", [501, 504, 553, 555])
async def test_who_is_refused_for_the_question_is_sent_to_without_it_and_said_to_be_handed_on(it, code, about_sender):
    await it.keep(message=message({"SUCCESS"}, {"NEVER"}))
    session = fussy(code, about_sender=about_sender)
    await it.over(session)
    assert await it.fates() == {0: "delivered", 1: "delivered"}
    _, second = session.transactions
    assert (second.envelope_id, second.ret) == ("", "")
    assert all(not one.notify and not one.original for _, one in second.recipients)
    ((_, _, body),) = await it.notices_kept()
    _, _, (fields,) = told(body)
    assert (fields["Action"], fields["Final-Recipient"]) == ("relayed", "rfc822; p0@example.org")
    assert fields["Original-Recipient"] == "rfc822; O+0@old.example"


async def test_who_was_taken_with_the_question_is_not_sent_to_again(it):
    await it.keep(message=plainly(message({"SUCCESS"}, (), {"SUCCESS", "FAILURE"}), 1))
    session = fussy(553, gone=(2,))
    await it.over(session)
    first, second = session.transactions
    assert [number for number, _ in first.recipients] == [0, 1, 2]
    assert [number for number, _ in second.recipients] == [0, 2]
    assert await it.fates() == {0: "delivered", 1: "delivered", 2: "bounced"}
    notices = [told(body) for _, _, body in await it.notices_kept()]
    assert sorted((fields["Action"], fields["Status"]) for _, _, every in notices for fields in every) == [
        ("failed", "5.1.1"), ("relayed", "2.1.9"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "features", "wish"), [(550, KNOWS, {"SUCCESS"}), (553, KNOWS_NOT, {"SUCCESS"}), (451, KNOWS, {"SUCCESS"})]
)
async def test_nobody_is_asked_twice_for_another_refusal(it, code, features, wish):
    await it.keep(message=message(wish))
    session = FakeSession(refusal(code, f"{code // 100}.1.3", "No"), features=features)
    await it.over(session)
    assert len(session.transactions) == 1


async def test_nothing_is_tried_again_on_a_connection_that_ended(it):
    await it.keep(message=message({"FAILURE"}))
    session = fussy(501)
    session.dies = True
    await it.over(session)
    assert len(session.transactions) == 1
    assert "m1.0" in await it.left()


# --- the portal's notice ---


class ANotice:
    """A method that sends something of ours in the message's place, as the portal does."""

    name = MethodName.PORTAL

    async def render(self, _entry, _message, content):
        return Rendering(content=content, floor=Level.CLEAR, fate_on_delivery=FateKind.NOTIFIED, own=True)


@pytest.mark.parametrize("features", [KNOWS, KNOWS_NOT])
async def test_a_copy_on_the_secure_page_was_handed_on_whatever_the_server_of_its_notice_offers(features):
    async with Attempting(methods={MethodName.PORTAL: ANotice()}) as it:
        treatment = Treatment(methods=(MethodName.PORTAL,))
        await it.keep(message=message({"SUCCESS", "FAILURE"}), treatment=treatment, method=MethodName.PORTAL)
        session = FakeSession(features=features)
        await it.over(session)
        assert await it.fates() == {0: "notified"}
        assert session.transactions[0].recipients[0][1].notify == {"FAILURE"}, "its server reports no success"
        ((_, _, body),) = await it.notices_kept()
        _, _, (fields,) = told(body)
        assert fields["Action"] == "relayed"
        assert b"waits on the secure page" in body


# --- under a return address of ours ---


def signing(it):
    ring = KeyRing.create(now=NOW, random=lambda count: bytes(range(count)))
    options = ReturnOptions(domain="return.clinic.example")
    it.attempter._returning = Returning(options, ReturnPaths(lambda: ring, options.lifetime), it.routes)


@pytest.mark.parametrize("wish", WISHES, ids=lambda wish: ",".join(sorted(wish)) or "none")
async def test_what_comes_back_to_us_must_tell_of_failures_and_need_not_bring_the_text(it, wish):
    signing(it)
    await it.keep(message=dataclasses.replace(message(wish), id=NAME))
    session = FakeSession(features=KNOWS)
    await it.over(session, entry_id=f"{NAME}.0")
    (sent,) = session.transactions
    assert sent.reverse_path_text.endswith("@return.clinic.example")
    assert sent.ret == "HDRS"
    notify = sent.recipients[0][1].notify
    assert notify == (wish - {"NEVER"} | {"FAILURE"} if wish else set())
    assert sent.recipients[0][1].original == "rfc822;O+2B0@old.example"


def test_who_asks_for_failures_or_for_nothing_is_passed_on_as_given():
    for wish in (frozenset(), frozenset({"FAILURE"}), frozenset({"SUCCESS", "FAILURE"})):
        recipient = Recipient(address=Address.parse("p@example.org"), notify=wish)
        assert asked(recipient) is recipient
