"""The method portal: an idempotent deposit, the notice as its rendering, and what it asks of the reader."""

import dataclasses
import unicodedata

import pytest

from relay.core.address import NULL_SENDER, Address, ReversePath
from relay.core.decision import HeaderEdit, MethodName, PortalTerms, Treatment
from relay.core.entry import EntryState, QueueEntry, RecipientState
from relay.core.envelope import ClientSession, Envelope, Message, Origin, Recipient
from relay.core.fate import FateKind
from relay.core.level import Level
from relay.core.phi import Finding, FindingGroup, Phi, PhiVerdict
from relay.core.portal import DepositState, Secret
from relay.core.ports import Ended, Method, Rendering, Unavailable
from relay.delivery.plan import LEVEL_NOT_REACHED, parted, switch
from relay.mail.notice import NoticeOptions, NoticeWriter
from relay.methods.notice import load_texts
from relay.methods.portal import PortalMethod, PortalMethodOptions
from relay.methods.tls import TlsMethod
from relay.portal.options import PassphraseOptions
from relay.portal.passphrase import shared_hash
from tests.support.portal import MemoryDeposits

NOW = 1_772_442_000.0
CONTENT = (
    b"From: =?utf-8?q?Dr=2E_Ada_Ex=C3=A4mple?= <doctor@clinic.example>\r\n"
    b'To: "Roe, Jane" <pat@mail.example>, sam@mail.example\r\n'
    b"Cc: lab@partner.example\r\n"
    b"Subject: [secure] Your\r\n result\r\nDate: Mon, 02 Mar 2026 09:00:00 +0000\r\n\r\nHbA1c 8.1 %\r\n"
)
SENDER = ReversePath(Address.parse("doctor@clinic.example"))


class Counts:
    def __init__(self):
        self.counted = []

    def count(self, name, labels=None, amount=1):
        self.counted.append((name, dict(labels or {})))


def entry_of(*, terms=None, methods=(MethodName.TLS, MethodName.PORTAL), notify=(), **treatment):
    recipient = Recipient(address=Address.parse("pat@mail.example"), notify=frozenset(notify))
    return QueueEntry(
        id="m1.1", message_id="m1", destination="mail.example",
        treatment=Treatment(methods=methods, rule="phi", portal=terms or PortalTerms(), **treatment),
        method=MethodName.PORTAL, recipients=(RecipientState(number=3, recipient=recipient),),
        state=EntryState.READY, created_at=NOW, due_at=NOW, expires_at=NOW + 5 * 86400, fallback="level-not-reached",
    )  # fmt: skip


def message_of(entry, *, sender=SENDER, findings=()):
    return Message(
        id="m1", origin=Origin.CLIENT, received_at=NOW, session=ClientSession(tenant="clinic"),
        envelope=Envelope(reverse_path=sender, recipients=tuple(state.recipient for state in entry.recipients)),
        size=len(CONTENT), verdict=PhiVerdict(phi=Phi.LIKELY, findings=tuple(findings)),
    )  # fmt: skip


def special(sensitive="hiv", group=FindingGroup.HEALTH):
    return Finding(kind="lab", group=group, part="1", start=0, end=1, sensitive=sensitive)


class Bench:
    def __init__(self, **options):
        self.deposits = MemoryDeposits(now=lambda: NOW)
        self.metrics = Counts()
        self.secrets = []
        writer = NoticeWriter(
            NoticeOptions(
                origin="https://secure.clinic.example",
                mail_from=Address.parse("secure@clinic.example"),
                texts=load_texts(),
            )
        )
        self._random = 0

        async def set_secret(deposit, secret):
            self.secrets.append((deposit.id, secret))

        self.method = PortalMethod(
            self.deposits, writer, PortalMethodOptions(**options), set_secret=set_secret, clock=lambda: NOW,
            entropy=self._entropy, metrics=self.metrics,
        )  # fmt: skip

    def _entropy(self, count):
        self._random = (self._random + 1) % (0xFB << 120 | 1)
        return self._random.to_bytes(count, "big")

    async def render(self, entry=None, content=CONTENT, **message):
        entry = entry or entry_of()
        return await self.method.render(entry, message_of(entry, **message), content)

    async def one(self):
        (deposit,) = await self.deposits.of_message("m1")
        return deposit

    async def kept(self):
        return b"".join([piece async for piece in self.deposits.content((await self.one()).id)])


@pytest.fixture
def bench():
    return Bench()


async def test_the_original_is_deposited_and_the_notice_is_what_goes_out(bench):
    assert isinstance(bench.method, Method)
    rendering = await bench.render()
    deposit = await bench.one()
    assert isinstance(rendering, Rendering)
    assert (rendering.own, rendering.fate_on_delivery, rendering.floor) == (True, FateKind.NOTIFIED, Level.CLEAR)
    assert f"https://secure.clinic.example/m/{deposit.id}".encode() in rendering.content.replace(b"=\r\n", b"")
    assert b"HbA1c" not in rendering.content
    assert await bench.kept() == CONTENT
    assert (deposit.number, str(deposit.mailbox), deposit.tenant, deposit.sender) == (
        3, "pat@mail.example", "clinic", SENDER,
    )  # fmt: skip
    assert deposit.origin_from == "Dr. Ada Exämple <doctor@clinic.example>"
    assert deposit.origin_to == ("Roe, Jane <pat@mail.example>", "sam@mail.example")
    assert deposit.origin_cc == ("lab@partner.example",)
    assert (deposit.subject, deposit.date) == ("[secure] Your result", "Mon, 02 Mar 2026 09:00:00 +0000")
    assert (deposit.deposited_at, deposit.expires_at) == (NOW, NOW + 30 * 86400)
    assert (deposit.rule, deposit.reason, deposit.secret, deposit.special) == (
        "phi", "level-not-reached", Secret.NONE, False,
    )  # fmt: skip
    assert len(deposit.id) == 22


async def test_no_message_has_an_id_that_a_shell_would_give_as_an_option(bench):
    bench._random = (0xFB << 120) - 1  # the next is written with a hyphen first
    await bench.render()
    assert (await bench.one()).id.startswith("A")


async def test_rendering_again_changes_nothing_and_counts_once(bench):
    first, again = await bench.render(), await bench.render()
    assert first == again
    assert bench.metrics.counted == [("postern_portal_fallback_total", {"reason": "level-not-reached"})]
    assert len(bench.deposits.outbox) == 1
    (event,) = bench.deposits.outbox[0].events
    assert (event.kind, event.facts["event"], event.facts["numbers"]) == ("portal", "deposited", [3])
    assert "result" not in repr(event)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (entry_of(methods=(MethodName.PORTAL,)), "rule"),
        (entry_of(methods=(MethodName.SMIME, MethodName.PORTAL)), "not-configured"),
    ],
)
async def test_why_it_is_the_portal_is_kept_and_counted(bench, made, reason):
    await bench.render(dataclasses.replace(made, fallback=""))
    assert (await bench.one()).reason == reason
    assert bench.metrics.counted[0][1] == {"reason": reason}


def test_a_switch_keeps_its_cause_whatever_happens_later():
    entry = switch(entry_of(), MethodName.PORTAL, now=NOW, why="because", cause=LEVEL_NOT_REACHED)
    later = dataclasses.replace(entry, reason="the recipient's mail server put off the recipient")
    assert later.fallback == "level-not-reached"


async def test_the_treatment_s_edits_are_in_what_is_kept(bench):
    edits = (HeaderEdit(name="X-Class", value="clinical"), HeaderEdit(name="Cc"))
    await bench.render(entry_of(headers=edits, strip_subject_tags=("[secure]",)))
    kept = await bench.kept()
    assert b"X-Class: clinical\r\n" in kept
    assert b"Cc:" not in kept
    assert (await bench.one()).subject == "Your result"
    assert (await bench.one()).origin_cc == ()


async def test_what_the_rule_allows_and_asks_is_kept(bench):
    terms = PortalTerms(reply=False, forward=True, secret="enrolled", receipts=True, expire_after=86400.0)
    await bench.render(entry_of(terms=terms))
    deposit = await bench.one()
    assert (deposit.may_reply, deposit.may_forward, deposit.secret, deposit.receipts) == (
        False, True, Secret.ENROLLED, True,
    )  # fmt: skip
    assert deposit.expires_at == NOW + 86400


@pytest.mark.parametrize(("notify", "receipts"), [(("SUCCESS",), True), (("FAILURE",), False), ((), False)])
async def test_notify_success_asks_for_receipts(bench, notify, receipts):
    await bench.render(entry_of(notify=notify))
    assert (await bench.one()).receipts is receipts


@pytest.mark.law
async def test_specially_protected_kinds_ask_for_a_shared_secret_and_a_better_way(bench):
    rendering = await bench.render(findings=[special("", FindingGroup.IDENTIFIER), special()])
    deposit = await bench.one()
    assert (deposit.secret, deposit.special, rendering.floor) == (Secret.SHARED, True, Level.ENCRYPTED)


async def test_a_rule_may_say_otherwise_of_the_secret_and_not_of_the_way(bench):
    rendering = await bench.render(entry_of(terms=PortalTerms(secret="none")), findings=[special()])
    assert ((await bench.one()).secret, rendering.floor) == (Secret.NONE, Level.ENCRYPTED)


async def test_a_secret_that_the_sender_sets_is_kept_apart_and_leaves_in_no_copy(bench):
    content = b"Postern-Secret: =?utf-8?q?Sch=C3=B6ner_Tag?=\r\n" + CONTENT
    rendering = await bench.render(content=content)
    deposit = await bench.one()
    assert bench.secrets == [(deposit.id, "Schöner Tag")]
    assert await bench.kept() == CONTENT
    assert b"Sch" not in rendering.content
    entry = dataclasses.replace(entry_of(), method=MethodName.TLS)
    sent = await TlsMethod().render(entry, message_of(entry), content)
    assert sent.content == CONTENT


@pytest.mark.parametrize("value", [b"abc", b"x" * 300, b"", b"abcde", b"a b c d e", "\ufdfa".encode() * 20])
async def test_what_cannot_be_a_secret_is_none_and_leaves_in_no_copy_either(bench, value):
    await bench.render(content=b"Postern-Secret: " + value + b"\r\n" + CONTENT)
    assert bench.secrets == []
    assert await bench.kept() == CONTENT


async def test_marks_without_end_are_no_secret_and_are_not_put_in_order(bench, monkeypatch):
    real, pieces = unicodedata.normalize, [0]

    def counting(form, piece):
        pieces.append(len(piece))
        return real(form, piece)

    monkeypatch.setattr(unicodedata, "normalize", counting)
    await bench.render(content=b"Postern-Secret: " + ("a" + "\u0301\u0327" * 5_000).encode() + b"\r\n" + CONTENT)
    assert bench.secrets == []
    assert max(pieces) <= 2048


@pytest.mark.parametrize("value", ["abcdef", " a b c d e f ", "x" * 256, "ﬁnd it"])
async def test_what_the_method_takes_for_a_secret_can_be_kept_as_one(bench, value):
    await bench.render(content=b"Postern-Secret: " + value.encode() + b"\r\n" + CONTENT)
    [(_, secret)] = bench.secrets
    assert shared_hash(secret, PassphraseOptions(time_cost=1, memory_kib=64))


async def test_nobody_answers_the_null_sender(bench):
    await bench.render(sender=NULL_SENDER)
    assert (await bench.one()).may_reply is False


@pytest.mark.parametrize(
    ("said", "language"), [(b"es-MX", "es"), (b"es, en", "es"), (b"fr", "en"), (b"", "en"), (b"EN-us", "en")]
)
async def test_the_message_says_its_language(bench, said, language):
    await bench.render(content=b"Content-Language: " + said + b"\r\n" + CONTENT)
    assert (await bench.one()).language == language


async def test_a_tenant_has_a_language_of_its_own():
    bench = Bench(brand_languages={"clinic": "es"})
    await bench.render()
    assert (await bench.one()).language == "es"


@pytest.mark.parametrize(
    ("state", "fate"), [(DepositState.RECALLED, FateKind.RECALLED), (DepositState.EXPIRED, FateKind.PORTAL_EXPIRED)]
)
async def test_a_copy_that_ended_in_the_portal_ends_here(bench, state, fate):
    await bench.render()
    deposit = await bench.one()
    await bench.deposits.change(dataclasses.replace(deposit, state=state), expected=DepositState.WAITING)
    ended = await bench.render()
    assert isinstance(ended, Ended)
    assert ended.fate is fate


async def test_a_copy_that_was_withdrawn_is_not_sent_again(bench):
    await bench.render()
    gone = dataclasses.replace(await bench.one(), state=DepositState.WITHDRAWN)
    await bench.deposits.change(gone, expected=DepositState.WAITING)
    assert isinstance(await bench.render(), Unavailable)


async def test_a_header_that_cannot_be_written_makes_it_unavailable(bench):
    rendered = await bench.render(entry_of(headers=(HeaderEdit(name="X-Class", value="a\r\nb"),)))
    assert isinstance(rendered, Unavailable)
    assert await bench.deposits.of_message("m1") == []


async def test_headers_that_are_hostile_are_bounded_and_clean(bench):
    content = (
        b"From: " + b"a" * 90_000 + b"\r\nTo: " + b"x@y.example, " * 5_000 + b"z\r\nSubject: a\x00\x1b[31mb\r\n\r\n"
    )
    await bench.render(content=content)
    deposit = await bench.one()
    assert len(deposit.origin_from) <= 1000
    assert len(deposit.origin_to) <= 200
    assert deposit.subject.isprintable()


async def test_recipients_nested_too_deeply_to_be_read_keep_nothing_from_the_portal(bench):
    await bench.render(content=b"To: " + b"(" * 5_000 + b"\r\n\r\nx")
    assert (await bench.one()).origin_to == ()


def test_parting_gives_each_recipient_an_entry_with_an_id_of_its_own():
    one = entry_of()
    many = dataclasses.replace(
        one,
        recipients=tuple(
            RecipientState(number=number, recipient=Recipient(address=Address.parse(f"p{number}@mail.example")))
            for number in (2, 5, 9)
        ),
    )
    parts = parted(many)
    assert [part.id for part in parts] == ["m1.1", "m1.500005", "m1.500009"]
    assert [[state.number for state in part.recipients] for part in parts] == [[2], [5], [9]]
    assert {(part.method, part.fallback, part.expires_at) for part in parts} == {
        (many.method, many.fallback, many.expires_at)
    }
    assert parted(one) == (one,)
