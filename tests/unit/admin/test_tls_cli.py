"""``postern tls`` against a running control socket, as an operator types it."""

import asyncio
import json

import pytest
import structlog
from click.testing import CliRunner

from relay.admin.control import ControlOptions, ControlServer
from relay.admin.wire import ControlError
from relay.admin.wire_tls import TlsProbeRequest, TlsReportRequest, TlsReportsRequest
from relay.cli import main
from relay.trust.mta_sts import Mode, Policy, record_id
from tests.support.configs import furnish
from tests.unit.admin.conftest import ALICE
from tests.unit.trust.test_tlsrpt import packed


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
    assert (await postern("report", "good.example", "--fallen")).output.startswith("None of the servers")


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


async def test_reports_of_others_are_shown(postern):
    whole = (await postern("reports")).output
    assert "Reporter 2" in whole
    assert "certificate-expired: <b>late</b>" in whole
    told = json.loads((await postern("reports", "Clinic.example", "--json")).output)
    assert [one["report_id"] for one in told["reports"]] == ["id-0", "id-1", "id-2"]
    assert "Reporter 0" not in (await postern("reports", "--failed")).output
    assert "No report has come yet" in (await postern("reports", "other.example")).output
    assert (await postern("reports", "a b")).exit_code == 1


async def test_the_page_of_reports_trusts_no_text_and_has_the_sums(postern):
    page = (await postern("reports", "--html")).output
    assert "&lt;b&gt;late&lt;/b&gt;" in page
    assert "<b>late" not in page
    assert "3 reports; sessions that went well: 3,000; that failed: 3." in page


async def test_the_newest_reports_are_shown_when_there_are_many(desk):
    result = await desk.operations.run(TlsReportsRequest(limit=2), ALICE)
    assert ([one.report_id for one in result.reports], result.more) == (["id-1", "id-2"], True)


def test_a_report_in_a_file_is_read_without_a_running_postern(tmp_path):
    good, none, bad = tmp_path / "good.json.gz", tmp_path / "none", tmp_path / "bad"
    good.write_bytes(packed())
    none.write_bytes(b"Subject: hello\r\n\r\n")
    bad.write_bytes(b"\x1f\x8bxxxx")
    run = CliRunner().invoke
    assert "Company-X" in run(main, ["tls", "reports", "--file", str(good)]).output
    for path in (none, bad):
        done = run(main, ["tls", "reports", "--file", str(path)])
        assert (done.exit_code, str(path) in done.stderr) == (1, True)


def test_the_policies_of_the_configuration_are_printed(tmp_path):
    etc = furnish(tmp_path)
    (etc / "postern.yaml").write_text(PUBLISHING)

    def run(*more):
        return CliRunner().invoke(main, ["tls", "--config", str(etc / "postern.yaml"), "policy", *more])

    whole = run().output
    assert "_mta-sts.reports.clinic.example. IN TXT" in whole
    assert "_mta-sts.clinic.example. IN TXT" in whole
    assert whole.count("rua=mailto:tls@clinic.example") == 1
    served = run("reports.clinic.example", "--file-only").output
    assert Policy.parse(served.encode()) == Policy(mode=Mode.ENFORCE, max_age=604_800, mx=("mx.clinic.example",))
    assert run("other.example").exit_code == 1
    assert run("--file-only").exit_code == 1


PUBLISHING = """\
hostname: relay.clinic.example
listeners:
  - {name: ehr, kind: submission, address: 127.0.0.1, port: 0, certificate: tls/good.pem, key: tls/good.key}
tls:
  publish:
    domains:
      - {domain: reports.clinic.example, mx: [mx.clinic.example], mode: enforce, reports: tls@clinic.example}
      - {domain: clinic.example, mx: ["*.clinic.example"]}
"""
