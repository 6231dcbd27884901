"""``postern bounce`` from outside."""

import json

import pytest
from click.testing import CliRunner

from relay.cli import main
from tests.unit.reputation.test_returned import ARF, DSN


def run(*arguments, text=None):
    return CliRunner().invoke(main, ["bounce", *(str(one) for one in arguments)], input=text)


def test_explain_says_which_rule_and_why():
    shown = run("explain", "550 5.1.1", "<pat@clinic.example>:", "User unknown").output
    assert "invalid-recipient" in shown
    assert "rule:    unknown-user" in shown
    assert "found: " in shown


def test_explain_takes_octets_of_any_charset():
    for words, given in ((["550 5.1.1 user unknown \udce9"], b""), ([], b"550 5.1.1 user unknown \xe9\n")):
        result = CliRunner().invoke(main, ["bounce", "explain", *words], input=given)
        assert result.exit_code == 0, result.exception
        assert "unknown-user" in result.output


def test_explain_reads_lines_and_gives_json():
    result = run("explain", "--json", text="421 4.7.0 too many connections\n552 5.2.2 over quota\n")
    rows = [json.loads(line) for line in result.output.splitlines()]
    assert [row["class"] for row in rows] == ["rate-limited", "mailbox-full"]


@pytest.mark.parametrize(("answer", "words"), [
    ("550 5.7.26 This mail is unauthenticated", 'found: "unauthenticated"'),
    ("550 5.1.1 <no.such.user@x.example>: User unknown", 'found: "User unknown"'), ("550 5.1.1", "550, 5.1.1\n"),
])  # fmt: skip
def test_the_words_that_decided_are_shown(answer, words):
    assert words in run("explain", answer).output


def test_rows_in_bulk_keep_their_id(tmp_path):
    (tmp_path / "rows").write_text(
        '{"id": "a", "smtp_response": "550 no such user"}\n\n{"smtp_response": "550 spam"}\n'
    )
    rows = [json.loads(line) for line in run("explain", "--jsonl", tmp_path / "rows").output.splitlines()]
    assert rows == [
        {
            "id": "a",
            "class": "invalid-recipient",
            "family": "user_unknown",
            "action": "suppress",
            "rule": "unknown-user",
        },
        {"id": 3, "class": "spam", "family": "spam_or_reputation", "action": "tell", "rule": "spam-words"},
    ]


@pytest.mark.parametrize(("line", "identity", "fault"), [
    ("nonsense", 2, "not JSON"), ("[1]", 2, "not a JSON object"), ('{"id": 7, "text": "x"}', 7, "no text in the field"),
    ('{"id": "n", "smtp_response": null}', "n", "no text in the field"),
    ('{"id": "o", "smtp_response": [1]}', "o", "no text in the field"),
])  # fmt: skip
def test_a_row_that_cannot_be_read_comes_out_as_one_and_the_others_too(tmp_path, line, identity, fault):
    good = '{"id": "a", "smtp_response": "550 no such user"}'
    (tmp_path / "rows").write_text(f"{good}\n{line}\n{good}\n")
    result = run("explain", "--jsonl", tmp_path / "rows")
    rows = [json.loads(row) for row in result.stdout.splitlines()]
    assert [row["class"] for row in rows] == ["invalid-recipient", "other", "invalid-recipient"]
    assert rows[1]["id"] == identity
    assert fault in rows[1]["error"]
    assert result.exit_code == 1
    assert f"1 rows could not be read, the first is {tmp_path / 'rows'}:2: {fault}" in result.stderr


def test_a_row_may_give_its_reply_line_by_line(tmp_path):
    (tmp_path / "rows").write_text('{"id": 1, "smtp_response": ["550-5.1.1 no such", "550 5.1.1 user"]}\n')
    assert json.loads(run("explain", "--jsonl", tmp_path / "rows").stdout)["class"] == "invalid-recipient"


def test_operators_rules_can_be_tried(tmp_path):
    (tmp_path / "mine.yaml").write_text("rules: [{id: mine, class: policy, pattern: no such user}]")
    assert "rule:    mine" in run("explain", "--rules", tmp_path / "mine.yaml", "550 no such user").output
    (tmp_path / "bad.yaml").write_text("rules: [{id: mine, class: policy}]")
    assert "has no condition" in run("explain", "--rules", tmp_path / "bad.yaml", "550").output


def test_parse_tells_what_a_message_means(tmp_path):
    (tmp_path / "dsn.eml").write_text(DSN)
    shown = run("parse", tmp_path / "dsn.eml").output
    assert "kind:    dsn (rfc3464)" in shown
    assert "first@clinic.example: failed" in shown
    assert "invalid-recipient" in shown


def test_parse_of_a_folder_gives_a_row_each(tmp_path):
    (tmp_path / "a.eml").write_text(DSN)
    (tmp_path / "b.eml").write_text(ARF)
    (tmp_path / "c.eml").write_text("Subject: Out of office\n\nAway.\n")
    (tmp_path / "d.eml").write_text("Subject: lunch\n\nNoon?\n")
    rows = [json.loads(line) for line in run("parse", tmp_path).output.splitlines()]
    assert [(row["kind"], row["class"], row["family"], row["action"]) for row in rows] == [
        ("dsn", "invalid-recipient", "user_unknown", "suppress"),
        ("feedback", "complaint", "feedback", "suppress"),
        ("auto-reply", "auto-reply", "auto_reply", "none"),
        ("other", "", "", ""),
    ]
    assert [(one["address"], one["class"]) for one in rows[0]["recipients"]] == [
        ("first@clinic.example", "invalid-recipient"), ("two@clinic.example", "mailbox-full"),
    ]  # fmt: skip


def test_a_message_that_arrived_or_waits_suppresses_nobody(tmp_path):
    (tmp_path / "a.eml").write_text(DSN.replace("Action: failed", "Action: delivered"))
    (row,) = [json.loads(line) for line in run("parse", "--json", tmp_path / "a.eml").output.splitlines()]
    assert "class" not in row["recipients"][0]
    assert row["action"] == "retry"


def test_a_harmless_feedback_report_is_no_complaint(tmp_path):
    (tmp_path / "a.eml").write_text(ARF.replace("Feedback-Type: abuse", "Feedback-Type: not-spam"))
    (row,) = [json.loads(line) for line in run("parse", "--json", tmp_path / "a.eml").output.splitlines()]
    assert row["class"] == ""


def test_a_missing_file_is_told():
    result = run("parse", "/nowhere.eml")
    assert result.exit_code == 1
    assert "/nowhere.eml: No such file" in result.output
