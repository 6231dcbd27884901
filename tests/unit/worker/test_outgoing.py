"""Large content is prepared beside the event loop, small content on it; both come to the same."""

import asyncio
import threading

import pytest

from relay.core.outcome import PeerFeatures
from relay.protect.dkim import Selection
from tests.support.attempting import Attempting
from tests.support.queue import a_message

EIGHT = PeerFeatures(eight_bit_mime=True)
LINE = b"a line of a rather long message\r\n"


class Signers:
    """Notes where it signs, and waits there when it is told to."""

    def __init__(self):
        self.threads = []
        self.begun, self.go = threading.Event(), threading.Event()
        self.go.set()

    def sign(self, content, **_):
        self.threads.append(threading.current_thread())
        self.begun.set()
        assert self.go.wait(30)
        return b"X-Signed: %d\r\n" % len(content), Selection()


@pytest.mark.parametrize(
    ("head", "size", "beside"),
    [(b"", 4_000, False), (b"", 262_144, True), (b"X: \xc3\xa9\r\n" * 4_000, 4_000, True)],
    ids=["small", "large", "large header"],
)
async def test_what_is_large_is_prepared_in_a_thread(head, size, beside):
    signers = Signers()
    async with Attempting(signers=signers) as it:
        body = b"Subject: x\r\n" + head + b"\r\n" + LINE * (size // len(LINE) + 1)
        message = a_message("m1", size=len(body))
        entry = await it.keep(message=message, body=body)
        prepared = await it.outgoing.prepare(message, entry, body, EIGHT)
        assert head or prepared.content == b"X-Signed: %d\r\n" % len(body) + body
        assert (signers.threads[0] is threading.main_thread()) is not beside


async def test_what_was_signed_before_a_reload_is_not_kept_after_it():
    old, new = Signers(), Signers()
    old.go.clear()
    async with Attempting(signers=old) as it:
        body = b"Subject: x\r\n\r\n" + LINE * 10_000
        message = a_message("m1", recipients=("ann@example.org", "ben@example.net"), size=len(body))
        entry = await it.keep(message=message, body=body)
        first = asyncio.ensure_future(it.outgoing.prepare(message, entry, body, EIGHT))
        assert await asyncio.to_thread(old.begun.wait, 30)
        it.outgoing.adopt(new)
        old.go.set()
        await first
        await it.outgoing.prepare(message, entry, body, EIGHT)
        assert len(new.threads) == 1
