"""``postern suppress`` against a running control socket, as an operator types it."""

import asyncio
import csv
import io
import json
from dataclasses import replace

import pytest
import structlog
from click.testing import CliRunner

from relay.admin.control import ControlOptions, ControlServer
from relay.admin.operations import Operations
from relay.cli import main
from relay.core.address import Address
from relay.core.suppression import FOREVER, Cause
from relay.reputation.suppression import SuppressionList
from tests.support.vault import FakeVault
from tests.unit.admin.conftest import desk
from tests.unit.reputation.test_returned import ARF, DSN

__all__ = ["desk"]  # a fixture


@pytest.fixture
def listed(desk):
    return SuppressionList(desk.store, FakeVault(), desk.clock)


@pytest.fixture
async def postern(desk, listed, tmp_path):
    operations = Operations(replace(desk.operations._parts, suppressions=listed))
    server = ControlServer(ControlOptions(path=tmp_path / "control.sock"), operations, desk.metrics)
    await server.start()

    async def run(*arguments, text=None):
        command = ["suppress", "--socket", str(tmp_path / "control.sock"), *(str(one) for one in arguments)]
        return await asyncio.to_thread(CliRunner().invoke, main, command, input=text)

    with structlog.testing.capture_logs():  # server and command share this process's output
        yield run
    await server.stop()


async def test_add_list_and_remove(postern, desk, listed):
    done = await postern("add", "pat@clinic.example", "sue@clinic.example", "--reason", "asked by phone")
    assert done.output == "2 suppressed\n"
    shown = (await postern("list")).output
    assert "pat@clinic.example" in shown
    assert "asked by phone" in shown
    assert (await postern("remove", "pat@clinic.example", "--reason", "asked by jane.roe@home.example")).output == (
        "pat@clinic.example: 1 removed\n"
    )
    rows = [json.loads(line) for line in (await postern("list", "--json")).output.splitlines()]
    assert [(row["address"], row["cause"], row["until"]) for row in rows] == [
        ("sue@clinic.example", "operator", FOREVER)
    ]
    events = [event for event in await desk.audit() if event.kind == "operator"]
    assert [(event.facts["operation"], event.facts["recipients"]) for event in events] == [
        ("suppress-add", ["pat@clinic.example", "sue@clinic.example"]),
        ("suppress-remove", ["pat@clinic.example"]),
    ]
    assert [event.facts["reason"] for event in events] == ["asked by phone", "asked by [mailbox]@home.example"]
    assert await listed.find(Address.parse("pat@clinic.example")) == []


async def test_a_suppression_of_some_days_in_one_tenant_and_stream(postern, desk, listed):
    await postern("add", "pat@clinic.example", "--tenant", "lab", "--stream", "bulk", "--days", "2", "--reason", "test")
    (item,) = await listed.find(Address.parse("pat@clinic.example"))
    assert (item.tenant, item.stream, item.until, item.cause) == (
        "lab", "bulk", desk.clock.now + 2 * 86_400, Cause.OPERATOR,
    )  # fmt: skip
    kept = await postern("remove", "pat@clinic.example", "--tenant", "other", "--reason", "test")
    assert "was not suppressed" in kept.output
    everywhere = await postern("remove", "pat@clinic.example", "--exempt-days", "30", "--reason", "test")
    assert "1 removed" in everywhere.output
    assert await listed.is_exempt(Address.parse("pat@clinic.example"), tenant="x", stream="")


async def test_what_is_exported_can_be_imported(postern, listed, tmp_path):
    await postern("add", "pat@clinic.example", "--days", "2", "--reason", 'said "no, thanks"')
    await postern("add", "sue@clinic.example", "--stream", "bulk", "--reason", "for ever")
    before = sorted(await all_of(listed), key=str)
    (tmp_path / "list.csv").write_text((await postern("export")).output)
    for row in csv.DictReader(io.StringIO((tmp_path / "list.csv").read_text())):
        await postern("remove", row["address"], "--reason", "test")
    assert await all_of(listed) == []
    (tmp_path / "list.csv").write_text((tmp_path / "list.csv").read_text().replace("1970-01-14", "2999-01-14"))
    assert (await postern("import", tmp_path / "list.csv", "--reason", "moved")).output == "2 suppressed\n"
    after = sorted(await all_of(listed), key=str)
    assert [(one.address, one.stream, one.evidence) for one in after] == [
        (one.address, one.stream, one.evidence) for one in before
    ]


async def all_of(listed):
    return list((await listed.page())[0])


@pytest.mark.parametrize(("text", "told"), [
    ("mailbox\npat@x.example\n", ":1: has no column `address`"),
    ("address,colour\npat@x.example,red\n", "unknown column colour"),
    ("address\npat\nsue@x.example\n@\n", ":2: the address has no domain"),
    ("address,cause\npat@x.example,boredom\n", "cause"), ("address,until\npat@x.example,soon\n", "is not a time"),
])  # fmt: skip
async def test_a_bad_file_is_told_line_by_line_and_nothing_is_added(postern, listed, text, told):
    done = await postern("import", "-", "--reason", "test", text=text)
    assert done.exit_code == 1
    assert told in done.output
    assert await all_of(listed) == []


async def test_rows_that_are_over_are_left_out(postern):
    text = "Address,until\npat@x.example,2001-01-01\n"
    assert (await postern("import", "-", "--reason", "old", text=text)).output == "nothing to import\n"


async def test_hundreds_are_imported_in_pieces(postern, listed):
    text = "address\n" + "".join(f"p{number}@clinic.example\n" for number in range(250))
    assert (await postern("import", "-", "--reason", "moved", text=text)).output == "250 suppressed\n"
    assert len(await listed.index()) == 250


async def test_nobody_and_nonsense(postern):
    assert (await postern("list")).output == "Nobody is suppressed.\n"
    assert (await postern("list", "pat@clinic.example")).output == "pat@clinic.example is not suppressed.\n"
    bad = await postern("add", "pat", "--reason", "test")
    assert bad.exit_code == 1
    assert "is not a mailbox" in bad.output
    assert (await postern("add", "pat@x.example", "--reason", "x")).exit_code == 1


async def test_returned_mail_suppresses_whom_it_tells_of(postern, listed, desk, tmp_path):
    (tmp_path / "a.eml").write_text(DSN)
    (tmp_path / "b.eml").write_text(ARF)
    (tmp_path / "c.eml").write_text("Subject: Out of office\n\npat@clinic.example is away: 550 5.1.1 unknown user\n")
    (tmp_path / "d.eml").write_text(DSN.replace("first@", "late@").replace("Status: 5.1.1", "Status: 4.4.1").replace(
        "550 5.1.1 User unknown\n in local recipient table", "451 4.4.1 User unknown, try later"
    ))  # fmt: skip
    tried = await postern("returned", tmp_path, "--dry-run", "--reason", "weekly")
    assert "2 would be suppressed" in tried.output
    assert await all_of(listed) == []
    done = await postern("returned", tmp_path, "--tenant", "clinic", "--days", "1", "--reason", "weekly")
    assert done.output == "2 suppressed\n"
    items = {str(item.address): item for item in await all_of(listed)}
    assert set(items) == {"first@clinic.example", "pat@mailbox.example"}
    bounced = items["first@clinic.example"]
    assert (bounced.cause, bounced.tenant, bounced.until) == (Cause.HARD_BOUNCE, "clinic", desk.clock.now + 86_400)
    assert "User unknown" in bounced.evidence
    assert "00G7Y2T5VJXM0000ABCD" in bounced.evidence
    assert items["pat@mailbox.example"].cause is Cause.COMPLAINT


async def test_returned_mail_that_tells_of_nobody_suppresses_nobody(postern, listed):
    done = await postern("returned", "-", "--reason", "weekly", text="Subject: lunch\n\nNoon?\n")
    assert done.output == "0 suppressed\n"
    assert await all_of(listed) == []
