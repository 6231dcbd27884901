"""Replies refuse to be built wrong, and read back as they were written."""

import pytest

from relay.core.reply import EnhancedStatus, Reply


def test_writes_one_line_or_many():
    assert Reply.of(250, "2.0.0", "Ok: queued as X").encode() == b"250 2.0.0 Ok: queued as X\r\n"
    assert Reply.of(550, "5.7.1", "No\nAsk your admin").encode() == b"550-5.7.1 No\r\n550 5.7.1 Ask your admin\r\n"
    assert Reply.of(354, "", "Go on").encode() == b"354 Go on\r\n"


@pytest.mark.parametrize(("code", "status"), [(250, "5.0.0"), (550, "2.0.0"), (451, "5.7.1")])
def test_code_and_status_must_agree(code, status):
    with pytest.raises(ValueError, match="disagree"):
        Reply.of(code, status, "text")


def test_codes_and_statuses_must_be_such():
    with pytest.raises(ValueError, match="reply code"):
        Reply.of(199, "", "text")
    with pytest.raises(ValueError, match="enhanced"):
        Reply.of(250, "nonsense", "text")


def test_classes():
    assert Reply.of(250, "", "").is_positive
    assert Reply.of(451, "4.7.1", "").is_transient
    assert Reply.of(550, "5.1.1", "").is_permanent


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("5.7.1 Denied", EnhancedStatus(5, 7, 1)),
        ("4.2.2", EnhancedStatus(4, 2, 2)),
        ("3.1.1 x", None),
        ("5.7 x", None),
        ("5.7.1234 x", None),
    ],
)
def test_parses_enhanced_statuses(text, status):
    assert EnhancedStatus.parse(text) == status
