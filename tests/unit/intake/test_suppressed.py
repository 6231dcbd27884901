"""A suppressed recipient hears so at RCPT, and the others of the message get theirs."""

import asyncio
import smtplib

from relay.core.reply import Reply
from tests.support.intake import Taker, listening, rooms

REFUSAL = Reply.of(550, "5.1.1", "This mailbox is suppressed")


def send(port):
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        return client.sendmail(
            "ehr@clinic.example", ["pat@mail.example", "sue@mail.example"], "Subject: x\r\n\r\nbody\r\n"
        )


async def test_a_suppressed_recipient_is_refused_and_never_silently_left_out():
    asked = []

    def suppressed(address, tenant, stream):
        asked.append((str(address), tenant, stream))
        return REFUSAL if address.local == "pat" else None

    taker = Taker()
    shared = rooms(taker, suppressed=suppressed)
    async with listening(accept=taker, shared=shared) as listener:
        refused = await asyncio.to_thread(send, listener.port)
    assert {name: code for name, (code, _) in refused.items()} == {"pat@mail.example": 550}
    ((_, envelope, _, _),) = taker.taken
    assert [str(one.address) for one in envelope.recipients] == ["sue@mail.example"]
    assert asked == [("pat@mail.example", "clinic", "transactional"), ("sue@mail.example", "clinic", "transactional")]
    assert shared.metrics.labelled["suppressed_recipients", (("recipient_domain", "mail.example"),)] == 1
