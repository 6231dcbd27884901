"""``postern tls`` against a running control socket, as an operator types it."""

import asyncio
import json

import pytest
import structlog
from click.testing import CliRunner

from relay.admin.control import ControlOptions, ControlServer
from relay.admin.wire import ControlError, TlsProbeRequest, TlsReportRequest
from relay.cli import main
from relay.trust.mta_sts import Mode, Policy, record_id
from tests.unit.admin.conftest import ALICE


@pytest.fixture
async def postern(desk, tmp_path):
    server = ControlServer(ControlOptions(path=tmp_path / "control.sock"), desk.operations, desk.metrics)
    await server.start()

    async def run(*arguments):
        command = ["tls", "--socket", str(tmp_path / "control.sock"), *arguments]
        return await asyncio.to_thread(CliRunner().invoke, main, command)

    with structlog.testing.capture_logs():  # server and command share this process's output
        yield run
    await server.stop()


async def test_a_report_of_all_of_some_and_of_those_that_fell(postern):
    whole = (await postern("report")).output
    assert "mx.good.example" in whole
    assert "mx.bad.example" in whole
    assert "authenticated" in whole
    assert "mta-sts" in whole
    some = (await postern("report", "GOOD.example")).output
    assert "mx.bad.example" not in some
    fallen = json.loads((await postern("report", "--fallen", "--json")).output)
    assert [(one["host"], one["best"], one["level"]) for one in fallen["servers"]] == [
        ("mx.bad.example", "verified", "clear")
    ]
    assert "Nothing is known" in (await postern("report", "other.example")).output


async def test_a_page_trusts_no_text(postern):
    page = (await postern("report", "--html")).output
    assert page.startswith("<!doctype html>")
    assert "&lt;STARTTLS&gt;" in page
    assert "<STARTTLS>" not in page
    assert "fell below their best: 1" in page


async def test_a_probe_shows_what_it_found_and_what_it_did_not(desk, postern):
    done = await postern("probe", "good.example", "gone.example")
    assert "mx.good.example" in done.output
    assert "gone.example: the domain does not exist" in done.stderr
    assert done.exit_code == 1
    assert desk.operations._parts.tls.probed == ["good.example", "gone.example"]
    assert ("postern_operator_actions_total", {"operation": "tls-probe", "result": "ok"}, 1) in desk.metrics.counted
    assert (await postern("probe", *(f"d{number}.example" for number in range(51)))).exit_code == 1


async def test_a_name_that_is_none_is_refused(desk):
    for request in (TlsReportRequest(destinations=("a b",)), TlsProbeRequest(destinations=("-x-",))):
        with pytest.raises(ControlError, match="is not a domain"):
            await desk.operations.run(request, ALICE)
    assert (await desk.operations.run(TlsReportRequest(destinations=("route:clinic",)), ALICE)).servers == ()


def published(*arguments):
    done = CliRunner().invoke(main, ["tls", "policy", *arguments])
    return done, done.output.splitlines()


def test_our_own_policy_is_one_that_senders_can_read():
    done, lines = published(
        "Clinic.example", "--mx", "mx.clinic.example", "--mx", "*.mail.example", "--mode", "enforce",
        "--reports", "tls@clinic.example",
    )  # fmt: skip
    assert done.exit_code == 0
    assert lines[1].startswith("_mta-sts.clinic.example. IN TXT ")
    assert record_id([lines[1].partition('"')[2].strip('"')])
    assert lines[2] == '_smtp._tls.clinic.example. IN TXT "v=TLSRPTv1; rua=mailto:tls@clinic.example"'
    assert lines[3].endswith("https://mta-sts.clinic.example/.well-known/mta-sts.txt")
    policy = Policy.parse("\n".join(lines[4:]).encode())
    assert policy == Policy(mode=Mode.ENFORCE, max_age=604_800, mx=("mx.clinic.example", "*.mail.example"))
    other = published("clinic.example", "--mx", "mx.clinic.example", "--mode", "enforce")[1]
    assert other[1] != lines[1]


@pytest.mark.parametrize("arguments", [("not a domain", "--mx", "a.example"), ("a.example", "--mx", "*")])
def test_a_policy_that_could_not_be_read_is_not_printed(arguments):
    done, _ = published(*arguments)
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: ")


async def test_a_report_is_bounded_and_says_so(postern, monkeypatch):
    monkeypatch.setattr("relay.admin.tls.MAX_LISTED", 1)
    done = await postern("report", "--json")
    told = json.loads(done.stdout)
    assert (len(told["servers"]), told["more"]) == (1, True)
    assert "There are more" in (await postern("report")).stderr
