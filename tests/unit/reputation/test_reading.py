"""What came to our report addresses, read: matched, acted on once, passed on without a word of it."""

import asyncio
import gzip
import itertools
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.core.address import NULL_SENDER, Address, ReversePath
from relay.core.change import Keep, Note, Remember
from relay.core.entry import Claimed, RecipientState
from relay.core.envelope import ClientSession, Envelope, Message, Origin, Recipient
from relay.core.errors import StoreUnavailableError
from relay.core.ports import QueueFilter
from relay.core.returning import ReportKind
from relay.core.suppression import Cause
from relay.delivery.dispatched import memo_of
from relay.delivery.routing import RouteTable
from relay.delivery.schedule import RetryOptions
from relay.intake.reports import ReportDesk, ReportOptions
from relay.mail.dsn import DsnOptions, DsnWriter
from relay.protect.keyring import KeyRing
from relay.protect.returnpath import ReturnPaths
from relay.reputation import reading, returned
from relay.reputation.copies import Copies
from relay.reputation.counted import DmarcCounter, TlsCounter, recognise
from relay.reputation.load import load_classifier, load_providers
from relay.reputation.reading import ReaderOptions, ReaderParts, ReportReader
from relay.reputation.suppression import SuppressionList
from relay.store import MemoryStore
from relay.worker.notices import Notices
from relay.worker.passing import PassingOn
from tests.support.queue import DAY, NOW, ManualClock, a_message, an_entry
from tests.support.vault import FakeVault
from tests.unit.admin.conftest import CountingMetrics

NAME = "01M812TVPXRTDGK76AT9"
DOMAIN = "return.clinic.example"
RING = KeyRing.create(now=NOW, random=lambda count: bytes(range(count)))
PATHS = ReturnPaths(lambda: RING, 14 * DAY)
CLASSIFIER, PROVIDERS = load_classifier(), load_providers()
PLANTED = ("Zacharias", "Plantedname", "4471182", "hydroxychloroquine", "planted-subject")
PAT, SUE = "pat@mail.example", "sue@mail.example"


class Reading:
    """A reader with everything below it, and the copies that left."""

    def __init__(self, **options):
        self.clock = ManualClock()
        self.store = MemoryStore(FakeVault(), self.clock)
        self.metrics = CountingMetrics()
        self.listed = SuppressionList(self.store, FakeVault(), self.clock)
        self.taken = []
        self.withdrawn = []
        self.forged, self.unsure = set(), set()
        numbers = itertools.count(1)
        writer = DsnWriter(
            DsnOptions(reporting_mta="relay.clinic.example", postmaster=Address.parse("postmaster@clinic.example"))
        )
        notices = Notices(writer, RouteTable(()), RetryOptions(), lambda _now: f"own{next(numbers)}")
        parts = ReaderParts(
            store=self.store,
            paths=PATHS,
            listed=self.listed,
            teller=PassingOn(writer, notices, frozenset({DOMAIN})),
            classifier=lambda: CLASSIFIER,
            providers=PROVIDERS,
            clock=self.clock,
            metrics=self.metrics,
            counted={
                ReportKind.DMARC: DmarcCounter(self.store, lambda: {"clinic.example"}, self._signed),
                ReportKind.TLS: TlsCounter(self._take),
            },
            withdraw=self._withdraw,
        )
        self.reader = ReportReader(parts, ReaderOptions(**options))
        self._reports = itertools.count(1)

    async def _signed(self, content):
        if content in self.unsure:
            raise StoreUnavailableError("DNS is away")
        return content not in self.forged

    async def _withdraw(self, message_id, number):
        self.withdrawn.append((message_id, number))

    async def _take(self, content):
        self.taken.append(content)
        return content if b"report" in content else None

    async def sent(self, *recipients, number=1, sender="ehr@clinic.example", stream="transactional", **fields):
        """A copy that left; the return address it left under."""
        message = a_message(NAME, recipients=recipients, stream=stream, message_id="<first@clinic.example>", **fields)
        path = ReversePath(Address.parse(sender)) if sender else NULL_SENDER
        message = replace(
            message, session=ClientSession(client="ehr", tenant="clinic"),
            envelope=replace(message.envelope, reverse_path=path),
        )  # fmt: skip
        entry = an_entry(message, number)
        memo = memo_of(message, entry, range(len(recipients)), host="mx.l.google.com", now=NOW, lifetime=14 * DAY)
        await self.store.commit((memo,))
        return PATHS.make(entry.id, 0 if len(recipients) == 1 else None, DOMAIN, NOW)

    async def read(self, address, content, kind=ReportKind.RETURN):
        """Read one, and commit what it came to; its outcome and the notices."""
        name = f"r{next(self._reports)}"
        recipient = Recipient(address=address if isinstance(address, Address) else Address.parse(address))
        envelope = Envelope(reverse_path=NULL_SENDER, recipients=(recipient,))
        message = Message(
            id=name, origin=Origin.RETURNED, received_at=self.clock.now, session=ClientSession(network="192.0.2.9"),
            envelope=envelope, size=len(content),
        )  # fmt: skip
        entry = an_entry(message, 1, destination=f"report:{kind.value}")
        entry = replace(entry, recipients=(RecipientState(number=0, recipient=recipient),))
        handled = await self.reader(Claimed(entry=entry, message=message, content=content))
        await self.store.commit(handled.changes) if handled.changes else None
        handled.then()
        return handled, [change for change in handled.changes if isinstance(change, Keep)]

    def counted(self, name):
        return [labels for found, labels, _ in self.metrics.counted if found == name]


@pytest.fixture
def it():
    return Reading()


def dsn(*recipients, body="", status="5.1.1", action="failed", reason="smtp; 550 5.1.1 User unknown", original=""):
    blocks = "".join(
        f"{f'Original-Recipient: rfc822; {original}{chr(13)}{chr(10)}' if original else ''}"
        f"Final-Recipient: rfc822; {one}\r\nAction: {action}\r\nStatus: {status}\r\nDiagnostic-Code: {reason}\r\n\r\n"
        for one in recipients
    )
    return (
        "From: MAILER-DAEMON@mail.example\r\nSubject: Undelivered: planted-subject\r\nMIME-Version: 1.0\r\n"
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
        f"--b\r\nContent-Type: text/plain\r\n\r\nZacharias Plantedname {body}\r\n"
        f"--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.mail.example\r\n\r\n{blocks}"
        "--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: planted-subject\r\n\r\n4471182\r\n--b--\r\n"
    ).encode()


def to_sender(kept):
    (one,) = kept
    assert str(one.message.envelope.recipients[0].address) == "ehr@clinic.example"
    assert one.message.envelope.reverse_path.is_null
    return one.content.decode()


# --- bounces -------------------------------------------------------------------


async def test_a_bounce_is_matched_told_to_the_sender_and_suppresses(it):
    address = await it.sent(PAT)
    handled, kept = await it.read(address, dsn(PAT))
    assert handled.why == f"about message {NAME}"
    text = to_sender(kept)
    assert "Action: failed" in text
    assert "Status: 5.1.1" in text
    assert f"Final-Recipient: rfc822; {PAT}" in text
    assert "User unknown" in text
    assert "References: <first@clinic.example>" in text
    (item,) = await it.listed.find(Address.parse(PAT))
    assert (item.cause, item.tenant, item.stream) == (Cause.HARD_BOUNCE, "clinic", "")
    assert "User unknown" in item.evidence
    assert it.counted("provider_bounces") == [{"provider": "google", "family": "user_unknown", "course": "returned"}]
    assert it.counted("returned_mail") == [{"kind": "return", "result": "matched"}]


async def test_the_patterns_of_bounces_without_a_report_are_not_loaded_on_the_event_loop(it, monkeypatch):
    where = []

    def read(content):
        where.append(threading.current_thread() is threading.main_thread())
        return returned.read_returned(content)

    monkeypatch.setattr(returned, "_LOADED", threading.Event())
    monkeypatch.setattr(reading, "read_returned", read)
    address = await it.sent(PAT)
    said = b"From: MAILER-DAEMON@mx.example\r\nSubject: failure notice\r\n\r\nHi. This is the qmail-send program.\r\n"
    for content in (dsn(PAT), said, said, said + 65536 * b"."):
        await it.read(address, content)
    assert where == [False, False, True, False]


async def test_a_portal_s_notice_that_came_back_withdraws_its_message_and_a_delayed_one_does_not(it):
    address = await it.sent("pat@gmail.com", "sam@gmail.com")
    await it.read(address, dsn("sam@gmail.com", action="delayed", status="4.4.1"))
    assert it.withdrawn == []
    await it.read(address, dsn("sam@gmail.com"))
    assert [number for _, number in it.withdrawn] == [1]


async def test_the_same_bounce_again_is_counted_and_told_to_nobody(it):
    address = await it.sent(PAT)
    await it.read(address, dsn(PAT))
    await it.listed.lift(Address.parse(PAT), tenant="clinic", stream="")
    handled, kept = await it.read(address, dsn(PAT))
    assert "said before" in handled.why
    assert not kept
    assert await it.listed.find(Address.parse(PAT)) == []


async def test_reading_twice_what_was_not_committed_does_no_harm(it):
    """A worker that dies before its commit leaves the report to the next, which comes to the same."""
    address = await it.sent(PAT)
    recipient = Recipient(address=address)
    message = Message(
        id="r9", origin=Origin.RETURNED, received_at=NOW, session=ClientSession(), size=1,
        envelope=Envelope(reverse_path=NULL_SENDER, recipients=(recipient,)),
    )  # fmt: skip
    entry = replace(
        an_entry(message, 1, destination="report:return"), recipients=(RecipientState(number=0, recipient=recipient),)
    )
    claimed = Claimed(entry=entry, message=message, content=dsn(PAT))
    first, second = await it.reader(claimed), await it.reader(claimed)
    assert [type(change) for change in first.changes] == [type(change) for change in second.changes]
    assert first.why == second.why
    assert len(await it.listed.find(Address.parse(PAT))) == 1


async def test_in_a_copy_for_several_the_report_says_who(it):
    address = await it.sent(PAT, SUE)
    _, kept = await it.read(address, dsn(SUE))
    text = to_sender(kept)
    assert SUE in text
    assert PAT not in text
    assert await it.listed.find(Address.parse(PAT)) == []
    handled, kept = await it.read(address, dsn("somebody-else@mail.example"))
    assert "not to be understood" in handled.why
    assert "could not be" in to_sender(kept)


async def test_a_mailbox_that_only_a_forwarding_system_names_is_told_and_not_suppressed(it):
    address = await it.sent(PAT)
    _, kept = await it.read(address, dsn("new@elsewhere.example"))
    assert f"Final-Recipient: rfc822; {PAT}" in to_sender(kept)
    assert await it.listed.find(Address.parse(PAT)) == []


async def test_nobody_is_suppressed_by_who_got_the_same_copy(it):
    """Sue sees the return address of the copy that Pat got as well; what is sent there in Pat's name may be hers."""
    address = await it.sent(PAT, SUE)
    _, kept = await it.read(address, dsn(PAT))
    assert PAT in to_sender(kept)  # who sent it hears of it all the same
    handled, _ = await it.read("fbl@clinic.example", complaint(address, PAT), ReportKind.COMPLAINT)
    assert "complaint about" in handled.why
    assert await it.listed.find(Address.parse(PAT)) == []


async def test_the_original_recipient_names_it_too(it):
    address = await it.sent(PAT)
    await it.read(address, dsn("new@elsewhere.example", original=PAT))
    assert len(await it.listed.find(Address.parse(PAT))) == 1


@pytest.mark.parametrize("reason", [
    "smtp; 550 5.1.1 blocked by reputation of your address", "smtp; 421 4.7.0 too many connections from your host",
    "smtp; 552 5.2.2 mailbox full", "smtp; 450 4.1.1 User unknown", "x-postfix; delivery temporarily suspended",
])  # fmt: skip
async def test_what_is_no_lasting_fault_of_the_mailbox_suppresses_nobody(it, reason):
    address = await it.sent(PAT)
    _, kept = await it.read(address, dsn(PAT, reason=reason, status="5.0.0"))
    assert "Action: failed" in to_sender(kept)
    assert await it.listed.find(Address.parse(PAT)) == []


async def test_a_delay_is_told_once_and_a_failure_after_it_too(it):
    address = await it.sent(PAT)
    delayed = dsn(PAT, action="delayed", status="4.4.1", reason="smtp; 421 4.4.1 timed out")
    assert "Action: delayed" in to_sender((await it.read(address, delayed))[1])
    assert not (await it.read(address, delayed))[1]
    assert "Action: failed" in to_sender((await it.read(address, dsn(PAT)))[1])


@pytest.mark.parametrize(("notify", "action", "told"), [
    ({"NEVER"}, "failed", False), ({"SUCCESS"}, "failed", False), ({"FAILURE"}, "failed", True),
    ({"FAILURE"}, "delayed", False), ({"DELAY"}, "delayed", True), ({"SUCCESS"}, "delivered", True),
    ({"SUCCESS"}, "relayed", True), (set(), "delivered", False), (set(), "failed", True),
])  # fmt: skip
async def test_the_sender_hears_what_it_asked_to_hear(it, notify, action, told):
    message = a_message(NAME, recipients=(PAT,))
    recipient = replace(message.envelope.recipients[0], notify=frozenset(notify))
    envelope = replace(
        message.envelope, recipients=(recipient,), envelope_id="id+2B7",
        reverse_path=ReversePath(Address.parse("ehr@clinic.example")),
    )  # fmt: skip
    message = replace(message, envelope=envelope)
    memo = memo_of(message, an_entry(message, 1), [0], host="", now=NOW, lifetime=DAY)
    await it.store.commit((memo,))
    status = {"f": "5.1.1", "d": "4.4.1", "r": "2.0.0"}[action[0]] if action != "delivered" else "2.0.0"
    content = dsn(PAT, action=action, status=status, reason=f"smtp; {status[0]}50 {status} said")
    _, kept = await it.read(PATHS.make(f"{NAME}.1", 0, DOMAIN, NOW), content)
    assert bool(kept) is told
    if told:
        assert f"Action: {action}" in to_sender(kept)
        assert "Original-Envelope-Id: id+7" in to_sender(kept)


@pytest.mark.parametrize(
    ("notify", "told"), [({"NEVER"}, False), ({"SUCCESS"}, False), ({"FAILURE"}, True), ((), True)]
)
async def test_what_nobody_understands_is_told_to_who_wants_to_hear_of_failures(it, notify, told):
    message = a_message(NAME, recipients=(PAT,))
    recipient = replace(message.envelope.recipients[0], notify=frozenset(notify))
    message = replace(message, envelope=replace(message.envelope, recipients=(recipient,)))
    await it.store.commit((memo_of(message, an_entry(message, 1), [0], host="", now=NOW, lifetime=DAY),))
    odd = b"From: someone@mail.example\r\nSubject: planted-subject\r\n\r\nwhatever\r\n"
    _, kept = await it.read(PATHS.make(f"{NAME}.1", 0, DOMAIN, NOW), odd)
    assert bool(kept) is told


async def test_a_bounce_that_is_quicker_than_our_record_finds_the_copy_in_the_queue(it):
    message = a_message(NAME, recipients=(PAT,))
    message = replace(message, envelope=replace(message.envelope, reverse_path=ReversePath(
        Address.parse("ehr@clinic.example"))))  # fmt: skip
    await it.store.open("worker")
    await it.store.commit((Keep(message=message, content=b"x", entries=(an_entry(message, 1),)),))
    _, kept = await it.read(PATHS.make(f"{NAME}.1", 0, DOMAIN, NOW), dsn(PAT))
    assert PAT in to_sender(kept)
    await it.store.close()


@pytest.mark.parametrize("sender", ["", f"x@{DOMAIN}"])
async def test_nothing_is_passed_on_in_a_circle(it, sender):
    address = await it.sent(PAT, sender=sender)
    _, kept = await it.read(address, dsn(PAT))
    assert not kept


# --- what is no bounce ------------------------------------------------------------


AWAY = (
    b"From: pat@mail.example\r\nSubject: Out of office: planted-subject\r\nAuto-Submitted: auto-replied\r\n\r\n"
    b"Zacharias Plantedname 4471182 hydroxychloroquine\r\n"
)


async def test_an_automatic_reply_is_told_once_without_its_text_and_suppresses_nobody(it):
    address = await it.sent(PAT)
    handled, kept = await it.read(address, AWAY)
    assert "automatic reply" in handled.why
    text = to_sender(kept)
    assert "Automatic reply to your message" in text
    assert PAT in text
    assert not any(word in text for word in PLANTED)
    assert not (await it.read(address, AWAY))[1]
    assert it.counted("auto_replies") == [{"provider": "google", "sending_domain": "clinic.example"}] * 2
    assert await it.listed.find(Address.parse(PAT)) == []


async def test_automatic_replies_can_be_counted_alone():
    it = Reading(tell_replies=False)
    address = await it.sent(PAT)
    assert not (await it.read(address, AWAY))[1]
    assert it.counted("returned_mail") == [{"kind": "return", "result": "auto-reply"}]


def complaint(mail_from="", rcpt="", kind="abuse"):
    fields = f"Feedback-Type: {kind}\r\nVersion: 1\r\n"
    fields += f"Original-Mail-From: <{mail_from}>\r\n" if mail_from else ""
    fields += f"Original-Rcpt-To: <{rcpt}>\r\n" if rcpt else ""
    return (
        "From: fbl@mail.example\r\nMIME-Version: 1.0\r\n"
        "Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n"
        f"--b\r\nContent-Type: message/feedback-report\r\n\r\n{fields}\r\n"
        f"--b\r\nContent-Type: message/rfc822\r\n\r\nReturn-Path: <{mail_from}>\r\n"
        "Subject: planted-subject\r\n\r\n--b--\r\n"
    ).encode()


@pytest.mark.parametrize("stream", ["bulk", "transactional"])
async def test_a_complaint_suppresses_the_stream_it_is_about(it, stream):
    address = await it.sent(PAT, stream=stream)
    handled, kept = await it.read("fbl@clinic.example", complaint(address), ReportKind.COMPLAINT)
    assert "complaint about" in handled.why
    assert not kept
    (item,) = await it.listed.find(Address.parse(PAT))
    assert (item.cause, item.tenant, item.stream) == (Cause.COMPLAINT, "clinic", stream)
    assert it.counted("complaints") == [{"provider": "google", "sending_domain": "clinic.example"}]
    assert "before" in (await it.read("fbl@clinic.example", complaint(address), ReportKind.COMPLAINT))[0].why


async def test_a_complaint_of_one_of_several_is_counted_for_whom_it_names(it):
    address = await it.sent(PAT, SUE)
    await it.read("fbl@clinic.example", complaint(address), ReportKind.COMPLAINT)
    await it.read("fbl@clinic.example", complaint(address, SUE), ReportKind.COMPLAINT)
    handled, _ = await it.read("fbl@clinic.example", complaint(address, SUE), ReportKind.COMPLAINT)
    assert "the same recipient complained before" in handled.why
    assert len(it.counted("complaints")) == 3


@pytest.mark.parametrize("path", ["ehr@clinic.example", "", f"r-x@{DOMAIN}", "not an address"])
async def test_a_complaint_without_an_address_that_we_signed_is_believed_by_nobody(it, path):
    await it.sent(PAT)
    handled, kept = await it.read("fbl@clinic.example", complaint(path, PAT), ReportKind.COMPLAINT)
    assert "belongs to no message" in handled.why
    assert str(kept[0].message.envelope.recipients[0].address) == "postmaster@clinic.example"
    assert await it.listed.find(Address.parse(PAT)) == []


async def test_feedback_that_is_no_complaint_is_none(it):
    address = await it.sent(PAT)
    handled, _ = await it.read("fbl@clinic.example", complaint(address, kind="not-spam"), ReportKind.COMPLAINT)
    assert "no complaint" in handled.why
    assert await it.listed.find(Address.parse(PAT)) == []


async def test_an_operator_who_exempts_a_mailbox_is_obeyed(it):
    address = await it.sent(PAT)
    await it.listed.lift(Address.parse(PAT), tenant="clinic", stream="", exempt_until=NOW + DAY)
    await it.read(address, dsn(PAT))
    assert await it.listed.find(Address.parse(PAT)) == []


async def test_what_belongs_to_nothing_is_told_to_the_postmaster_so_often_and_no_more():
    it = Reading(postmaster_notices=2)
    lost = PATHS.make("01M812TVPXRTDGK76AT0.1", 0, DOMAIN, NOW)
    told = [(await it.read(lost, dsn(PAT)))[1] for _ in range(4)]
    assert [len(kept) for kept in told] == [1, 1, 0, 0]
    text = told[0][0].content.decode()
    assert "192.0.2.9" in text
    assert "invalid-recipient" in text
    assert not any(word in text for word in (*PLANTED, PAT))
    assert len(it.counted("returned_mail")) == 4


async def test_unsigned_bounces_are_counted_and_believed_by_nobody(it):
    await it.sent(PAT)
    handled, _ = await it.read("bounces@clinic.example", dsn(PAT), ReportKind.BOUNCE)
    assert "belongs to no message" in handled.why
    assert await it.listed.find(Address.parse(PAT)) == []


# --- reports that are counted ------------------------------------------------------


DMARC = """<?xml version="1.0"?><feedback><report_metadata><org_name>Reporter</org_name><report_id>{id}</report_id>
<date_range><begin>1</begin><end>2</end></date_range></report_metadata><policy_published><domain>{domain}</domain>
<p>reject</p></policy_published><record><row><source_ip>192.0.2.1</source_ip><count>3</count><policy_evaluated>
<disposition>none</disposition><dkim>pass</dkim><spf>fail</spf></policy_evaluated></row><identifiers><header_from>
clinic.example</header_from></identifiers><auth_results/></record><record><row><source_ip>198.51.100.7</source_ip>
<count>2</count><policy_evaluated><disposition>reject</disposition><dkim>fail</dkim><spf>fail</spf></policy_evaluated>
</row><identifiers><header_from>clinic.example</header_from></identifiers><auth_results/></record></feedback>"""


def dmarc(domain="clinic.example", name="1"):
    return gzip.compress(DMARC.format(domain=domain, id=name).encode())


async def test_a_dmarc_report_counts_once_under_our_domain(it):
    handled, _ = await it.read("dmarc@clinic.example", dmarc(), ReportKind.DMARC)
    assert handled.why == "3 of 5 messages passed DMARC"
    assert it.counted("dmarc_messages") == [
        {"sending_domain": "clinic.example", "result": result, "signed": "yes"} for result in ("pass", "fail")
    ]
    (event,) = [event for change in handled.changes if isinstance(change, Note) for event in change.events]
    assert event.facts["failing"] == [["198.51.100.7", 2]]
    assert "before" in (await it.read("dmarc@clinic.example", dmarc(), ReportKind.DMARC))[0].why
    await it.read("dmarc@clinic.example", dmarc("stranger.example", "2"), ReportKind.DMARC)
    assert it.counted("dmarc_messages")[-1]["sending_domain"] == "other"


async def test_a_dmarc_report_that_its_author_did_not_sign_is_counted_apart_and_hides_no_true_one(it):
    true, forged = dmarc(), dmarc() + b"\0"
    it.forged.add(forged)
    for content, signed in ((forged, False), (true, True)):
        handled, _ = await it.read("dmarc@clinic.example", content, ReportKind.DMARC)
        assert handled.why == "3 of 5 messages passed DMARC"
        (event,) = [event for change in handled.changes if isinstance(change, Note) for event in change.events]
        assert event.facts["signed"] is signed
    assert [labels["signed"] for labels in it.counted("dmarc_messages")] == ["no", "no", "yes", "yes"]
    assert "before" in (await it.read("dmarc@clinic.example", forged, ReportKind.DMARC))[0].why


async def test_a_dmarc_report_whose_signature_cannot_be_checked_now_waits(it):
    it.unsure.add(dmarc())
    with pytest.raises(StoreUnavailableError):
        await it.read("dmarc@clinic.example", dmarc(), ReportKind.DMARC)
    it.unsure.clear()
    assert (await it.read("dmarc@clinic.example", dmarc(), ReportKind.DMARC))[0].why.startswith("3 of 5")


@pytest.mark.parametrize("content", [b"hello", gzip.compress(b"<feedback>" * 500_000), b"\x1f\x8bnonsense"])
async def test_what_is_no_dmarc_report_is_unreadable(it, content):
    await it.read("dmarc@clinic.example", content, ReportKind.DMARC)
    assert it.counted("returned_mail") == [{"kind": "dmarc", "result": "unreadable"}]


async def test_tls_reports_go_to_who_keeps_them(it):
    assert (await it.read("tls@clinic.example", b"a report", ReportKind.TLS))[0].why == "a report about TLS"
    assert "no report" in (await it.read("tls@clinic.example", b"else", ReportKind.TLS))[0].why
    assert it.taken == [b"a report", b"else"]


# --- at the door --------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "null", "content", "taken"), [
    (ReportKind.RETURN, True, dsn(PAT), True), (ReportKind.RETURN, False, dsn(PAT), True),
    (ReportKind.RETURN, False, AWAY, True), (ReportKind.RETURN, True, b"Subject: odd\r\n\r\nodd\r\n", True),
    (ReportKind.RETURN, False, b"Subject: hello\r\n\r\nhello\r\n", False),
    (ReportKind.COMPLAINT, True, complaint("x@y.example"), True), (ReportKind.COMPLAINT, True, dsn(PAT), False),
    (ReportKind.DMARC, False, dmarc(), True), (ReportKind.DMARC, False, b"\x1f\x8bnonsense", False),
    (ReportKind.DMARC, True, dsn(PAT), False), (ReportKind.TLS, True, dsn(PAT), False),
    (ReportKind.TLS, False, b'{"policies": []}', False),
])  # fmt: skip
def test_an_address_takes_what_it_is_for(kind, null, content, taken):
    assert (recognise(kind, null, content) == "") is taken


def a_desk(*, now=NOW, **options):
    metrics = CountingMetrics()
    found = ReportOptions(
        domains=frozenset({DOMAIN}), mailboxes={"fbl@clinic.example": ReportKind.COMPLAINT}, **options
    )
    return ReportDesk(found, PATHS, recognise, ManualClock(now), metrics), metrics


def test_the_desk_knows_its_addresses():
    desk, metrics = a_desk()
    signed = PATHS.make(f"{NAME}.1", 0, DOMAIN, NOW)
    assert desk.look(signed) is ReportKind.RETURN
    assert desk.look(Address.parse("FBL@clinic.example")) is ReportKind.COMPLAINT
    assert desk.look(Address.parse("pat@clinic.example")) is None
    assert str(desk.look(Address.parse(f"pat@{DOMAIN}"))).startswith("550 5.1.1 No such return address")
    old = PATHS.make(f"{NAME}.1", 0, DOMAIN, 0.0)
    desk, metrics = a_desk(now=30 * DAY)
    assert "no longer in use" in str(desk.look(old))
    assert [labels["result"] for _, labels, _ in metrics.counted] == ["expired"]


async def test_the_desk_refuses_what_is_too_large_and_what_is_none():
    desk, _ = a_desk(max_size=1000)
    envelope = Envelope(reverse_path=NULL_SENDER, recipients=())
    assert (await desk.refusal(ReportKind.RETURN, envelope, b"x" * 1001)).code == 552
    assert "feedback reports" in (await desk.refusal(ReportKind.COMPLAINT, envelope, b"x")).text
    large, _ = a_desk()
    assert (await large.refusal(ReportKind.COMPLAINT, envelope, b"x" * 70_000)).code == 550
    assert await large.refusal(ReportKind.COMPLAINT, envelope, complaint("x@y.example")) is None


# --- laws ------------------------------------------------------------------------------


ODD = st.text(st.sampled_from("Zacharias Plantedname 4471182 hydroxychloroquine.@<>:;=?-\r\n[]\"'(),550"), max_size=120)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    reason=st.one_of(ODD, st.sampled_from([
        "smtp; 550 5.7.1 message about Zacharias Plantedname (MRN 4471182) refused: hydroxychloroquine",
        "smtp; 552 planted-subject: mailbox of Zacharias full", "x; Plantedname",
    ])),
    body=ODD, status=st.sampled_from(["5.1.1", "Zacharias", "5.4471182.1", ""]),
    action=st.sampled_from(["failed", "delayed", "delivered", "Plantedname"]),
)  # fmt: skip
def test_law_4_no_word_of_a_returned_message_is_in_anything_that_follows(reason, body, status, action):
    async def run():
        it = Reading()
        address = await it.sent(PAT)
        content = dsn(PAT, reason=reason.replace("\r", "").replace("\n", " "), body=body, status=status, action=action)
        handled, kept = await it.read(address, content)
        written = [handled.why, *(one.content.decode() for one in kept)]
        written += [repr(change) for change in handled.changes if isinstance(change, Note | Remember)]
        written += [item.evidence for item in await it.listed.find(Address.parse(PAT))]
        written += [repr(labels) for _, labels, _ in it.metrics.counted]
        for text in written:
            for word in PLANTED:
                assert word.casefold() not in text.casefold(), (word, text)

    asyncio.run(run())


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=400))
def test_no_octets_make_reading_raise(content):
    async def run():
        it = Reading()
        address = await it.sent(PAT)
        for kind in ReportKind:
            handled, _ = await it.read(address, content, kind)
            assert handled.why

    asyncio.run(run())


async def test_a_damaged_memo_is_passed_over(it):
    address = await it.sent(PAT)
    await it.store.commit((Remember(name=f"sent/{NAME}.1/5", value=b"nonsense", until=NOW + DAY),))
    found = await Copies(it.store).find(PATHS.read(address, NOW), now=NOW)
    assert [state.number for state in found.sent.recipients] == [0]
    assert [entry async for entry in it.store.entries(QueueFilter())] == []


# --- bounces in words of their system's own ---------------------------------------


WORDED = [
    (head.partition("|")[0].strip(), head.split("|")[1].strip(), body)
    for block in f"\n{(Path(__file__).parent / 'bounces.txt').read_text('utf-8')}".split("\n=== ")[1:]
    for head, _, body in (block.partition("\n"),)
]


@pytest.mark.parametrize(("system", "mailbox", "body"), WORDED, ids=[row[0] for row in WORDED])
async def test_a_bounce_in_its_systems_own_words_is_matched_and_told(it, system, mailbox, body):
    address = await it.sent(mailbox)
    handled, kept = await it.read(address, body.encode())
    assert handled.why == f"about message {NAME}", system
    text = to_sender(kept)
    assert f"Final-Recipient: rfc822; {mailbox}" in text
    assert "Action: failed" in text


def test_there_are_thirty_of_them_at_least():
    assert len({system for system, _, _ in WORDED}) >= 30
