"""From a refusal to what follows from it, through a whole worker: class, suppression, a destination left alone."""

import asyncio
import smtplib

import pytest

from relay.demo.behaviour import PeerBehaviour
from relay.demo.scenario import Domain
from tests.support.composed import composed
from tests.support.system import until

pytestmark = pytest.mark.timeout(400)
UNKNOWN = "550 5.1.1 <gone@strict.example>: Recipient address rejected: User unknown in local recipient table"
BLOCKED = "554 5.7.1 Service unavailable; Client host [127.0.0.1] blocked using zen.spamhaus.org"
LETTER = b"From: ehr@clinic.example\r\nTo: gone@strict.example\r\nSubject: Opening hours\r\n\r\nWe open at nine.\r\n"


def strict(**behaviour):
    return Domain(
        name="strict.example",
        about="refuses",
        behaviour=PeerBehaviour(hostname="mx.strict.example", **behaviour),
    )


async def fates(it):
    """Of copies to the domain; the notices to their sender end too, for nobody answers for it here."""
    found = [event for event in await it.events() if event.kind == "fate"]
    return [event for event in found if event.facts["destination"] == "strict.example"]


async def test_a_mailbox_that_does_not_exist_is_refused_at_rcpt_from_then_on(tmp_path):
    async with composed(tmp_path, strict(recipients={"gone@strict.example": UNKNOWN})) as it:
        assert (await it.send("gone@strict.example", LETTER))[0] == 250
        await until_async(fates, it)
        (fate,) = await fates(it)
        assert (fate.facts["fate"], fate.facts["class"], fate.facts["family"]) == (
            "bounced", "invalid-recipient", "user_unknown",
        )  # fmt: skip
        view = it.worker._standing.view
        await until(lambda: len(view) == 1)
        with pytest.raises(smtplib.SMTPResponseException) as refused:
            await it.send("Gone@strict.example", LETTER)
        assert refused.value.smtp_code in {503, 554}  # DATA without a recipient
        assert [line for line in it.heard("strict.example") if line.startswith("RCPT")] == [
            "RCPT TO:<gone@strict.example>"
        ]
        assert (await it.send("here@strict.example", LETTER))[0] == 250
        (event,) = [event for event in await it.events() if event.kind == "suppressed"]
        assert event.facts["cause"] == "hard-bounce"
        assert "gone" not in it.log()


async def test_a_destination_that_blocks_us_is_left_alone_after_three_refusals(tmp_path):
    async with composed(tmp_path, strict(mail=BLOCKED)) as it:
        for number in range(3):
            assert (await it.send(f"p{number}@strict.example", LETTER))[0] == 250
            await until_async(lambda it, wanted=number + 1: count(fates, it, wanted), it)
        assert {fate.facts["class"] for fate in await fates(it)} == {"reputation"}
        met = len(it.heard("strict.example"))
        assert (await it.send("p3@strict.example", LETTER))[0] == 250
        entry = await it.wait_entry(lambda entry: "blocks this relay" in entry.reason)
        assert entry.attempts == 0
        assert len(it.heard("strict.example")) == met


async def count(find, it, wanted):
    return len(await find(it)) >= wanted


async def until_async(condition, it):
    """Wait for what the store shows: the worker tells nobody of a settled entry."""
    async with asyncio.timeout(60):
        while not await condition(it):  # noqa: ASYNC110  the store tells of no settled entry
            await asyncio.sleep(0.02)
