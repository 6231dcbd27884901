"""Sentences: both languages say the same, templates ask for nothing that is missing, values never become markup."""

import re
import string
from pathlib import Path

import pytest

from relay.portal.words import LANGUAGES, choose, words

PORTAL = Path(__file__).parents[2] / "relay" / "portal"
ASKED = re.compile(r"""\b(t\.count|t)\(\s*["']([a-z_0-9.]+)["']""")


def places(sentence):
    return {name for _, name, _, _ in string.Formatter().parse(str(sentence)) if name}


def raw(language):
    return words(language)._sentences


def test_all_languages_have_the_same_sentences_with_the_same_places():
    for language in LANGUAGES:
        assert words(language).keys() == words("en").keys()
        for key, sentence in raw(language).items():
            assert sentence, key
            assert places(sentence) == places(raw("en")[key]), key


def test_templates_ask_only_for_sentences_that_are_there():
    known = words("en").keys()
    asked = set()
    for template in (PORTAL / "templates").glob("*.html"):
        for call, key in ASKED.findall(template.read_text()):
            asked |= {f"{key}.one", f"{key}.other"} if call == "t.count" else {key}
    assert asked
    assert asked <= known


def test_what_is_filled_in_is_escaped():
    assert "<script>" not in words("en")("common.signed_in_as", mailbox="<script>alert(1)</script>")
    assert "&lt;script&gt;" in words("en")("common.signed_in_as", mailbox="<script>alert(1)</script>")


def test_one_and_many():
    assert words("en").count("inbox.count", 1) == "1 message"
    assert words("es").count("inbox.count", 2) == "2 mensajes"


@pytest.mark.parametrize(
    ("preferred", "accepted", "expected"),
    [
        ((), "", "en"),
        ((), "es-MX,es;q=0.9,en;q=0.8", "es"),
        ((), "fr, en;q=0.3, es;q=0.8", "es"),
        ((), "es;q=0, en;q=0.1", "en"),
        ((), "fr", "en"),
        ((), "es;q=oops", "en"),
        (("", "es"), "en", "es"),
        (("xx",), "es", "es"),
        ((), "," * 5000, "en"),
    ],
)
def test_the_language_is_the_first_that_is_there(preferred, accepted, expected):
    assert choose(preferred, accepted) == expected


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_sentences_are_short(language):
    for key, sentence in raw(language).items():
        for part in re.split(r"[.!?:]\s+", sentence):
            assert len(part.split()) <= 24, f"{key}: {part}"


def syllables(word):
    return max(1, len(re.findall(r"[aeiouy]+", re.sub(r"e\b", "", word.lower()))))


def test_english_reads_at_about_grade_six():
    text = " ".join(re.sub(r"\{\w+\}", "word", sentence) for key, sentence in raw("en").items() if " " in sentence)
    sentences = [part for part in re.split(r"[.!?:]\s+", text) if part.strip()]
    tokens = re.findall(r"[A-Za-z']+", text)
    grade = 0.39 * len(tokens) / len(sentences) + 11.8 * sum(map(syllables, tokens)) / len(tokens) - 15.59
    assert grade < 6.5, f"Flesch-Kincaid grade {grade:.1f}"
