"""``postern keys`` looks into the database, where the queue is in one."""

import asyncio
import json
from dataclasses import replace

import pytest

from tests.support.composed import composed
from tests.support.postgres import shared
from tests.support.system import domain
from tests.support.tables import Tables

pytestmark = [pytest.mark.peers, pytest.mark.timeout(400)]
LETTER = b"From: ehr@clinic.example\r\nSubject: Parking\r\n\r\nThe car park is closed.\r\n"


async def keys(it, *arguments):
    return await asyncio.to_thread(it.site.postern, "keys", *arguments)


async def used(it):
    """Sealed objects by version."""
    status = json.loads(await keys(it, "status", "--json"))
    return {version["number"]: version["sealed_objects"] for version in status["versions"]}


async def test_a_version_that_mail_in_the_database_needs_is_counted_and_not_retired(tmp_path):
    url = shared().database()
    async with composed(tmp_path, domain("mail.example", banner="421 4.3.2 Later"), store=url) as it:
        assert (await it.send("box@mail.example", LETTER))[0] == 250
        await it.wait_entry(lambda one: one.attempts > 0)
        before = (await used(it))[1]
        assert before >= 5, "body, message, entry, its token, audit events"
        await keys(it, "rotate")
        with pytest.raises(RuntimeError, match="sealed objects still need it"):
            await keys(it, "retire", "1")
        peer = it.internet.peers["mail.example"]
        peer.behaviour = replace(peer.behaviour, banner="")
        await it.wait_gone()
        await it.worker.reload()  # what proves that ring and store belong together is sealed anew
        with Tables(tmp_path, url) as tables:
            for gone in ("outbox", "memos"):  # as the archiver does, and time
                tables.run(f"DELETE FROM {gone}")
        assert (await used(it))[1] == 0
        await keys(it, "retire", "1")
        assert list(await used(it)) == [2]
    shared().drop(url)
    with pytest.raises(RuntimeError, match="cannot be used now"):
        await keys(it, "status")
