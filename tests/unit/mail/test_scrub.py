import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail import scrub as scrubbing
from relay.mail.scrub import LIMIT, scrub


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<pat.doe@mail.example>: User unknown", "<[mailbox]@mail.example>: User unknown"),
        ('"pat doe"@mail.example unknown', "[mailbox]@mail.example unknown"),
        ("bounce+pat=mail.example@list.example", "[mailbox]@list.example"),
        ("no pat=mail.example here", "no [mailbox] here"),
        ("pat%40mail.example", "[mailbox]@mail.example"),
        ("pät@mail.example", "[mailbox]@mail.example"),
        ("pat@[192.0.2.7]", "[mailbox]@[192.0.2.7]"),
        ("Subject: your HbA1c result", "subject [withheld]"),
        ('rejected: "Your HbA1c result" is spam', "rejected: [withheld] is spam"),
        ("rejected: 'Your HbA1c result' is spam", "rejected: [withheld] is spam"),
        ("we don't take mail from you, and can't", "we don't take mail from you, and can't"),
        ("header =?utf-8?B?SGJBMWM=?= refused", "header [withheld] refused"),
        ("born 03/04/1961", "born [number]"),
        ("SSN 123-45-6789", "SSN [number]"),
        ("call 555 123 4567 now", "call [number] now"),
        ("MRN 12345", "MRN [number]"),
        ("[203.0.113.9] is blocked, see 5.7.1", "[203.0.113.9] is blocked, see 5.7.1"),
        ("try again in 300 seconds (5 of 10)", "try again in 300 seconds (5 of 10)"),
        ("https://help.example/why?u=pat", "https://help.example/[withheld]"),
        ("https://pat@help.example/x", "https://help.example/[withheld]"),
        ("see https://help.example/policies", "see https://help.example/policies"),
        ("a" * 50 + " x", "[token] x"),
        ("two\r\nlines\x1b[31m red\u202e", "two lines [31m red"),
    ],
)
def test_what_could_name_a_patient_is_replaced(text, left):
    assert scrub(text) == left


def test_words_known_to_be_private_are_hidden():
    assert scrub("no such user: PatDoe (patdoe2)", hide=("patdoe",)) == "no such user: [mailbox] (patdoe2)"


def test_it_is_short_at_the_end():
    left = scrub("word " * 1000)
    assert len(left) == LIMIT
    assert left.endswith("...")


@given(st.text(max_size=300), st.sampled_from(["pat.doe", "pat+labs", "p", '"pat doe"']), st.text(max_size=300))
def test_no_mailbox_survives_anywhere(before, local, after):
    assert f"{local}@mail.example" not in scrub(f"{before} {local}@mail.example {after}", limit=2000)


@given(st.text(max_size=600))
def test_the_rest_is_one_printable_line(text):
    left = scrub(text)
    assert len(left) <= LIMIT
    assert not any(unicodedata.category(mark)[0] == "C" for mark in left)


@pytest.mark.parametrize("text", ["a@" * 5000, '"' * 5000, "1-" * 5000, "=?" * 5000, "http://" * 1000, "=a." * 3000])
def test_no_text_takes_long(text):
    assert len(scrub(text)) <= LIMIT


@pytest.mark.parametrize(
    ("line", "word", "left"),
    [
        ("PAT.DOE is unknown", "pat.doe", "[mailbox] is unknown"),
        ("no user pat here", "Pat", "no user [mailbox] here"),
        ("a patient path", "pat", "a patient path"),
        ("user PÄT unknown", "pät", "user [mailbox] unknown"),
        ("user \u212aim unknown", "kim", "user [mailbox] unknown"),
        ("nothing of the kind", "pat", "nothing of the kind"),
    ],
)
def test_hidden_words_go_whatever_their_case(line, word, left):
    assert scrub(line, hide=[word]) == left


def test_no_word_is_passed_over_that_a_pattern_would_find():
    marks = map(chr, range(0x110000))
    cased = {other for mark in marks if len(forms := {mark, *_forms(mark)}) > 1 for form in forms for other in form}
    text = "".join(cased)
    for mark in cased:
        for same in re.findall(re.escape(mark), text, re.IGNORECASE):
            assert scrubbing._folded(f"a{mark}") == scrubbing._folded(f"a{same}")


def _forms(mark):
    return mark.lower(), mark.upper(), mark.casefold()


def test_for_words_that_do_not_stand_there_no_pattern_is_made(monkeypatch):
    """A thousand recipients, and an answer with a letter outside ASCII: 0.1 s for each of a thousand answers."""
    asked = []
    make = scrubbing._hidden
    monkeypatch.setattr(scrubbing, "_hidden", lambda word: asked.append(word) or make(word))
    words = [f"pat.doe{number}" for number in range(1000)]
    assert scrub("größer: PAT.DOE7 und niemand", hide=words) == "größer: [mailbox] und niemand"
    assert asked == ["pat.doe7"]


def plainly(text, hide=(), limit=LIMIT):
    """What `scrub` promises, every pattern asked of every line."""
    line = scrubbing._printable(text[: limit * 8])
    line = scrubbing._URL.sub(scrubbing._url, line)
    line = scrubbing._ENCODED_WORD.sub("[withheld]", line)
    line = scrubbing._MAILBOX.sub(r"[mailbox]@\1", line)
    line = scrubbing._VERP.sub("[mailbox]", line)
    line = scrubbing._SUBJECT.sub("subject [withheld]", line)
    line = scrubbing._QUOTED.sub("[withheld]", line)
    for word in hide:
        if len(word) > 1:
            whole = rf"(?<!\w){scrubbing.re.escape(word)}(?!\w)"
            line = scrubbing.re.sub(whole, "[mailbox]", line, flags=scrubbing.re.IGNORECASE)
    line = scrubbing._TOKEN.sub("[token]", line)
    line = scrubbing._NUMBER.sub(scrubbing._number, line)
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


PIECES = st.sampled_from(
    ["http://", "FTP://x", "?q=1", "=?utf-8?q?a?=", "@", "%40", "pat", "doe=b.example", "subject", "SUBJECT:", "x", "=",
     "\u017fubject", '"', "'", "`", "\u201c", "\u201d", "\u00ab", "\u00bb", " ", ".", "A" * 39, "A" * 40, "12345",
     "12-34-5678"]
)  # fmt: skip


@given(st.lists(st.one_of(PIECES, st.text(max_size=4)), max_size=25).map("".join))
def test_patterns_that_are_not_asked_would_have_found_nothing(text):
    assert scrub(text, hide=("pat",)) == plainly(text, hide=("pat",))
