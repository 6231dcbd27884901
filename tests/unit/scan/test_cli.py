"""``postern scan`` as people call it."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.cli import main

PHI = "Jane Roe, DOB 03/04/1961: HbA1c 8.1 %, MRN 4471829, takes metformin"


def scan(*args, stdin=None):
    return CliRunner().invoke(main, ["scan", *map(str, args)], input=stdin)


def test_people_see_masks_not_text():
    result = scan("--text", "-", stdin=PHI)
    assert result.exit_code == 0
    assert "certain" in result.output
    assert "99/99/9999" in result.output
    assert "1961" not in result.output
    assert "Roe" not in result.output


def test_json_names_kind_part_and_span():
    row = json.loads(scan("--json", "--text", "-", stdin=PHI).output)
    (birth,) = [finding for finding in row["findings"] if finding["kind"] == "date-of-birth"]
    assert PHI[birth["start"] : birth["end"]] == "03/04/1961"
    assert birth["part"] == "1"


def test_rows_in_rows_out():
    rows = [{"id": "x1", "text": PHI}, {"id": "x2", "text": "lunch?"}, {"text": "no id"}]
    result = scan("--jsonl", "-", stdin="".join(json.dumps(row) + "\n" for row in rows))
    out = [json.loads(line) for line in result.output.splitlines()]
    assert [row["id"] for row in out] == ["x1", "x2", 3]
    assert [row["verdict"] for row in out] == ["certain", "none", "none"]


def test_a_folder_of_messages(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.eml").write_text("Subject: x\n\n" + PHI)
    (tmp_path / "sub" / "b.eml").write_text("Subject: x\n\nlunch?")
    out = [json.loads(line) for line in scan("--eml", tmp_path).output.splitlines()]
    assert [(row["id"], row["verdict"]) for row in out] == [
        (str(tmp_path / "a.eml"), "certain"),
        (str(tmp_path / "sub" / "b.eml"), "none"),
    ]


def test_a_file_whose_name_is_no_utf_8_does_not_end_the_rest(tmp_path):
    for name in (b"a.eml", b"caf\xe9.eml", b"z.eml"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"Subject: Hi\r\n\r\nHi\r\n")
    rows = [json.loads(line) for line in scan("--json", tmp_path).output.splitlines()]
    assert [row["id"].rpartition("/")[2] for row in rows] == ["a.eml", "caf?.eml", "z.eml"]


@pytest.mark.parametrize(
    ("args", "stdin", "said"),
    [
        (["missing.eml"], None, "no such file"),
        (["--jsonl", "-"], "{}\n", "-:1"),
        (["--jsonl", "-"], '{"text": null}\n', "is no text"),
        (["--jsonl", "-"], '{"text": "ok"}\nrubbish\n', "-:2"),
    ],
)
def test_bad_input_is_one_clear_error(args, stdin, said):
    result = scan(*args, stdin=stdin)
    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output


TUNING = """
patterns: [{ kind: study-id, regex: 'STUDY-\\d{4}', weight: 0.9 }]
clients:
  lab:
    without: [study-id]
    tests: [{ text: STUDY-1234 for asthma, at_most: none }]
"""


def test_whose_mail_it_is_matters_where_it_is_tuned(tmp_path):
    tuning = tmp_path / "scan.yaml"
    tuning.write_text(TUNING)
    verdicts = {}
    for client in ("", "lab", "other"):
        result = scan("--json", "--text", "--tuning", tuning, "--client", client, stdin="STUDY-1234 for asthma")
        verdicts[client] = json.loads(result.stdout)["verdict"], "judged like all other" in result.stderr
    assert verdicts == {"": ("likely", False), "lab": ("none", False), "other": ("likely", True)}
    rows = scan("--jsonl", "--tuning", tuning, "--client", "lab", stdin='{"text": "STUDY-1234 for asthma"}\n')
    assert json.loads(rows.stdout)["verdict"] == "none"


def test_the_tuning_is_checked_with_the_tests_in_it(tmp_path):
    tuning = tmp_path / "scan.yaml"
    tuning.write_text(TUNING)
    assert "1 tests hold" in scan("--check", "--tuning", tuning).output
    tuning.write_text(TUNING.replace("at_most: none", "verdict: certain"))
    result = scan("--check", "--tuning", tuning)
    assert result.exit_code == 1
    assert "clients.lab: tests[1]" in result.output


def test_a_folder_without_a_file_is_told_and_rows_are_no_messages(tmp_path):
    empty = scan(tmp_path)
    assert (empty.exit_code, "holds no file" in empty.output) == (1, True)
    both = scan("--jsonl", "--eml", tmp_path)
    assert (both.exit_code, "neither --eml nor --text" in both.output) == (2, True)


def test_a_fault_of_ours_is_a_finding_and_no_traceback(tmp_path, monkeypatch):
    def fails(self, content):
        raise RuntimeError("planted")

    monkeypatch.setattr("relay.extract.engine.ScanEngine.read", fails)
    (tmp_path / "a.eml").write_text("Subject: x\n\n" + PHI)
    result = scan("--eml", tmp_path)
    assert result.exit_code == 0
    row = json.loads(result.output)
    assert (row["verdict"], row["findings"][0]["kind"]) == ("possible", "unreadable: crash")
