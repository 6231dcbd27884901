"""``postern queue`` against a running control socket, as an operator types it."""

import asyncio
import json
from dataclasses import replace

import pytest
import structlog
from click.testing import CliRunner

from relay.admin.control import ControlOptions, ControlServer
from relay.cli import main
from relay.cli.queue import _age
from relay.core.change import Keep
from relay.core.level import Level
from tests.support.queue import BODY, a_message, an_entry
from tests.unit.admin.conftest import treatment


@pytest.fixture
async def postern(desk, tmp_path):
    server = ControlServer(ControlOptions(path=tmp_path / "control.sock"), desk.operations, desk.metrics)
    await server.start()

    async def run(*arguments, answer=None):
        command = ["queue", "--socket", str(tmp_path / "control.sock"), *arguments]
        return await asyncio.to_thread(CliRunner().invoke, main, command, input=answer)

    with structlog.testing.capture_logs():  # server and command share this process's output
        yield run
    await server.stop()


async def test_an_empty_queue_says_so(postern):
    assert (await postern("list")).output == "The queue is empty.\n"
    assert (await postern("list", "--state", "held")).output == "Nothing in the queue matches.\n"


async def test_list_and_its_json(desk, postern):
    await desk.hold("m1")
    await desk.keep("m2")
    table = (await postern("list")).output
    assert "m1.0" in table
    assert "held by policy" in table
    assert "planted" not in table
    listed = json.loads((await postern("list", "--json", "--state", "held")).output)
    assert [entry["id"] for entry in listed["entries"]] == ["m1.0"]
    assert "narrow it down" in (await postern("list", "--limit", "1")).stderr


async def test_show_names_the_recipients(desk, postern):
    await desk.keep("m1")
    shown = (await postern("show", "m1")).output
    assert "planted-bob@example.org" in shown
    assert json.loads((await postern("show", "m1.0", "--json")).output)["message"]["id"] == "m1"
    assert (await postern("show", "m9")).stderr == (
        "Error: m9 is not in the queue: if it has ended, postern audit show --message m9 tells how\n"
    )


async def test_show_tells_what_the_sender_wants_to_hear(desk, postern):
    message = a_message("m1")
    recipients = tuple(replace(one, notify=frozenset({"SUCCESS", "DELAY"})) for one in message.envelope.recipients)
    message = replace(message, envelope=replace(message.envelope, recipients=recipients))
    await desk.store.commit((Keep(message=message, content=BODY, entries=(an_entry(message),)),))
    assert "notify delay, success" in " ".join((await postern("show", "m1")).output.split())


async def test_stats(desk, postern):
    await desk.hold("m1")
    assert "1m 40s" in (await postern("stats")).output
    assert json.loads((await postern("stats", "--json")).output)["held"] == 1


async def test_stats_say_of_each_destination_why_its_oldest_waits(desk, postern):
    assert "why" not in (await postern("stats")).output
    await desk.hold("m1")
    await desk.keep("m2")
    row = next(line.split() for line in (await postern("stats")).output.splitlines() if "example.org" in line)
    assert row[:3] == ["example.org", "2", "held"]
    assert row[-5:] == ["-", "0", "held", "by", "policy"]


async def test_show_says_what_can_be_done(desk, postern):
    await desk.hold("m1")
    assert "\nheld: waits for you: postern queue release ID" in (await postern("show", "m1")).output


async def test_changes_by_id_ask_nothing(desk, postern):
    await desk.hold("m1")
    result = await postern("release", "m1", "--reason", "looked at it")
    assert (result.exit_code, result.output) == (0, "m1.0: ready\n")
    result = await postern("release", "m1.0")
    assert (result.exit_code, result.stderr) == (1, "m1.0: not changed: it is not held\n")
    assert json.loads((await postern("hold", "m1", "--json")).output)["done"] == [{"id": "m1.0", "outcome": "held"}]


async def test_changes_by_filter_ask_first(desk, postern):
    await desk.keep("m1")
    await desk.keep("m2")
    refused = await postern("hold", "--destination", "example.org", answer="n\n")
    assert refused.exit_code == 1
    assert "hold 2 entries?" in refused.stderr
    assert (await postern("list", "--state", "held")).output == "Nothing in the queue matches.\n"
    assert (await postern("hold", "--destination", "example.org", "--yes")).exit_code == 0
    assert len(json.loads((await postern("list", "--state", "held", "--json")).output)["entries"]) == 2


@pytest.mark.parametrize("verb", ["hold", "release", "retry", "bounce", "redecide"])
async def test_changes_need_a_selection(postern, verb):
    result = await postern(verb)
    assert result.exit_code == 2
    assert "say which" in result.stderr


async def test_remove_needs_a_reason(desk, postern):
    await desk.keep("m1")
    assert "--reason" in (await postern("remove", "m1")).stderr
    assert "needs a reason" in (await postern("remove", "m1", "--reason", " ")).stderr
    assert (await postern("remove", "m1", "--reason", "sent twice")).output == "m1.0: removed\n"


async def test_bounce_and_redecide(desk, postern):
    await desk.keep("m1")
    await desk.hold("m2")
    assert (await postern("bounce", "m1")).output == "m1.0: bounced\n"
    desk.decided = [treatment(Level.VERIFIED)]
    assert (await postern("redecide", "m2")).output == "m2.0: ready by rule redone\n"


async def test_unseal_writes_the_message_as_it_is(desk, postern):
    await desk.hold("m1")
    result = await postern("unseal", "m1", "--reason", "sender asks")
    assert result.stdout_bytes == BODY
    assert "reason" in (await postern("unseal", "m1", "--reason", "")).stderr
    assert [event.kind for event in await desk.audit()] == ["operator", "alert"]


async def test_nothing_listening_is_one_clear_error(tmp_path):
    result = await asyncio.to_thread(CliRunner().invoke, main, ["queue", "--socket", str(tmp_path / "no"), "list"])
    assert result.exit_code == 1
    assert "no Postern is listening here" in result.stderr
    assert "Traceback" not in result.stderr


async def test_ids_too_long_or_too_many_are_one_clear_error(postern):
    result = await postern("hold", "x" * 100)
    assert (result.exit_code, "ids" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59, "59s"), (61, "1m 1s"), (3600, "1h"), (90_000, "1d 1h"), (-5, "0s")]
)
def test_ages_have_two_units(seconds, text):
    assert _age(seconds) == text
