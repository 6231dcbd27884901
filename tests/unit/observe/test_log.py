"""The log as a process writes it: seen from outside, in processes of their own."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import orjson
import pytest

from relay.observe.lines import PIPE_WRITE, LineWriter

SETUP = """
import structlog, sys, asyncio, logging, os, threading, warnings
from pathlib import Path
from relay.observe import log as plog
plog.configure(plog.LogOptions(process="worker-1", file=Path(sys.argv[1]) if len(sys.argv) > 1 else None))
log = structlog.get_logger("test")
"""


def run(code, *arguments, check=True):
    return subprocess.run(
        [sys.executable, "-c", SETUP + code, *map(str, arguments)],
        capture_output=True,
        timeout=60,
        check=check,
        cwd=Path(__file__).parents[3],
    )


def lines(data):
    return [orjson.loads(line) for line in data.splitlines()]


def test_one_line_of_json_with_the_process_and_the_logger():
    [line] = lines(run('log.info("accepted", message_id="01AB", size=3)').stderr)
    at = line.pop("at")
    assert at.endswith("Z")
    assert len(at) == 24
    assert line == {
        "level": "info",
        "event": "accepted",
        "process": "worker-1",
        "logger": "test",
        "message_id": "01AB",
        "size": 3,
    }


def test_a_field_never_stands_in_for_the_lines_own():
    [line] = lines(run('log.info("x", at="here", level="verified", process="p", logger="l")').stderr)
    assert line["at"].endswith("Z")
    assert (line["level"], line["process"], line["logger"]) == ("info", "worker-1", "test")
    assert (line["at_"], line["level_"]) == ("here", "verified")


def test_a_count_under_a_mailboxs_key_is_shown_and_mailboxes_beside_it_are_not():
    counted, named = lines(
        run('log.info("x", recipients=3); log.info("y", recipients=3, to="pat@mail.example")').stderr
    )
    assert counted["recipients"] == named["recipients"] == 3
    assert named["to"] == "…@mail.example"


def test_one_message_id_through_all_lines_also_of_other_tasks():
    code = """
async def inner(): log.info("inner")
async def main():
    with plog.message_context("01AB"):
        log.info("outer")
        await asyncio.create_task(inner())
    log.info("after")
asyncio.run(main())
"""
    assert [line.get("message_id") for line in lines(run(code).stderr)] == ["01AB", "01AB", None]


def test_the_short_way_of_a_line_writes_what_structlogs_own_way_writes():
    code = """
fields = {"message_id": "01AB", "size": 3, "to": "pat@mail.example", "at": "here", "why": "line\\nbreak", "none": None}
log.info("accepted", **fields)
log.bind(**fields).info("accepted")
log.info("%s", "accepted", **fields)
with plog.message_context("01AB", size=3):
    log.info("accepted", **{key: fields[key] for key in fields if key not in {"message_id", "size"}})
    log.info("accepted", **fields)
"""
    written = lines(run(code).stderr)
    assert len(written) == 5
    for line in written:
        del line["at"]
    assert written[0]["to"] == "…@mail.example"
    assert all(line == written[0] for line in written)


def test_what_listens_to_structlog_hears_the_short_way_too():
    code = """
from structlog.testing import capture_logs
with capture_logs() as heard:
    log.info("inside", size=3)
log.info("outside", heard=len(heard), event_of_it=heard[0]["event"])
"""
    [line] = lines(run(code).stderr)
    assert (line["event"], line["heard"], line["event_of_it"]) == ("outside", 1, "inside")


def test_planted_patient_data_never_reaches_a_line():
    code = """
from relay.core.address import Address
jane = Address("janedoe", "clinic.example")
log.info("a janedoe@clinic.example b", recipient="janedoe@clinic.example", other=["x janedoe@clinic.example"])
log.info("obj", who=jane, subject="JANEDOE positive", body=b"JANEDOE", nested={"recipient": "janedoe"})
try:
    int("JANEDOE")
except ValueError:
    log.exception("failed")
logging.getLogger("aiosmtplib").warning("RCPT TO %s failed", "janedoe")
logging.getLogger("mail.log").error("janedoe said hello")
logging.getLogger("uvicorn").info("janedoe")
log.bind(note="janedoe@clinic.example").warning("bound")
"""
    result = run(code)
    assert b"janedoe" not in result.stderr.lower()
    seen = lines(result.stderr)
    assert [line["event"] for line in seen] == [
        "a …@clinic.example b", "obj", "failed", "RCPT TO %s failed", "bound",
    ]  # fmt: skip
    assert seen[0]["recipient"] == "…@clinic.example"
    assert seen[1]["withheld"] == ["subject", "body"]
    assert seen[2]["exception"]["type"] == "ValueError"
    assert seen[3]["logger"] == "aiosmtplib"


@pytest.mark.parametrize(
    "code",
    [
        'raise ValueError("JANEDOE")',
        'thread = threading.Thread(target=lambda: int("JANEDOE")); thread.start(); thread.join()',
        """
async def main():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(plog.uncaught_in_loop)
    loop.call_soon(lambda: int("JANEDOE"))
    await asyncio.sleep(0.01)
asyncio.run(main())
""",
    ],
)
def test_an_uncaught_exception_is_one_line(code):
    [line] = lines(run(code, check=False).stderr)
    assert line["exception"]["type"] == "ValueError"
    assert line["level"] in {"error", "critical"}
    assert "JANEDOE" not in str(line)


def test_levels_are_filtered_and_a_long_value_is_cut():
    [line] = lines(run('log.debug("no"); log.info("yes", long="x" * 100000, other=["y" * 500] * 20)').stderr)
    assert line["event"] == "yes"
    assert len(orjson.dumps(line)) <= PIPE_WRITE


def test_text_form_lets_no_control_character_through(tmp_path):
    code = """
plog.configure(plog.LogOptions(process="p", file=Path(sys.argv[1]), format=plog.Format.TEXT))
log.warning("evil", helo="\\x1b]0;owned\\x07\\n2026 forged line")
"""
    run(code, tmp_path / "log")
    [line] = (tmp_path / "log").read_text().splitlines()
    assert "\x07" not in line
    assert "\x1b]" not in line
    assert "forged line" in line


def test_lines_are_written_at_exit_and_at_errors_at_once(tmp_path):
    file = tmp_path / "log"
    code = """
log.info("first")
log.error("second")
print(Path(sys.argv[1]).read_text().count("\\n"))
log.info("third")
"""
    result = run(code, file)
    assert result.stdout == b"2\n"
    assert [line["event"] for line in lines(file.read_bytes())] == ["first", "second", "third"]


def test_many_processes_write_whole_lines_to_one_pipe(tmp_path):
    code = 'for n in range(300): log.info("x" * 100, pid=os.getpid(), n=n)'
    read, write = os.pipe()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SETUP + code], stderr=write, cwd=Path(__file__).parents[3], start_new_session=True
        )
        for _ in range(3)
    ]
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        seen = lines(pipe.read())
    assert [process.wait(60) for process in started] == [0, 0, 0]
    for process in started:
        assert [line["n"] for line in seen if line["pid"] == process.pid] == list(range(300))


def test_a_file_rotated_away_is_opened_anew(tmp_path):
    file = tmp_path / "log"
    writer = LineWriter(file)
    writer.write(b"one\n")
    writer.flush()
    file.rename(tmp_path / "old")
    writer.reopen()
    writer.write(b"two\n")
    writer.close()
    assert (tmp_path / "old").read_bytes() == b"one\n"
    assert file.read_bytes() == b"two\n"


def test_lines_that_cannot_be_written_are_counted_and_told_later(tmp_path):
    full = os.open("/dev/full", os.O_WRONLY)
    told = []
    writer = LineWriter(full, on_lost=told.append)
    writer.write(b"one\n")
    writer.write(b"two\n", urgent=True)
    assert writer.lost == 2
    assert told == [2]
    file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(file, full)
    writer.write(b"three\n", urgent=True)
    writer.close()
    os.close(file)
    os.close(full)
    first, second = (tmp_path / "log").read_bytes().splitlines()
    assert orjson.loads(first)["lines"] == 2
    assert second == b"three"


def test_a_waiting_line_is_written_by_itself(tmp_path):
    read, write = os.pipe()
    writer = LineWriter(write, interval=0.001)
    writer.write(b"hello\n")
    assert os.read(read, 100) == b"hello\n"
    writer.write(b"again\n")
    assert os.read(read, 100) == b"again\n"
    writer.close()
    os.close(read)
    os.close(write)


def test_threads_do_not_tear_or_lose_lines(tmp_path):
    writer = LineWriter(tmp_path / "log", size=512, interval=0.001)

    def work(name):
        for number in range(500):
            writer.write(b"%d %d\n" % (name, number))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    seen = [tuple(map(int, line.split())) for line in (tmp_path / "log").read_bytes().splitlines()]
    for name in range(4):
        assert [number for who, number in seen if who == name] == list(range(500))
