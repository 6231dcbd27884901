"""Passphrases: length over composition, lists of stolen ones, argon2id."""

import hashlib
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.portal.options import PassphraseOptions
from relay.portal.passphrase import Passphrases, check_list, fold, fold_shared, is_listed, shared_hash
from tests.support.portal_site import QUICK

CONTEXT = ("pat@mail.example", "pat", "secure.clinic.example", "Riverside Clinic")


def sha1(word: str) -> str:
    return hashlib.sha1(word.encode()).hexdigest().upper()


def a_list(path, words, *, end="\n", count=True):
    lines = sorted(sha1(word) + (f":{place}" if count else "") for place, word in enumerate(words))
    path.write_text(end.join(lines) + end)
    return path


@pytest.fixture
def passphrases():
    return Passphrases(QUICK)


@pytest.mark.parametrize(
    "phrase",
    [
        "correct horse battery",
        "Zwölf Boxkämpfer",
        "пароль из слов",
        "x7#kQ!p0_Lm2",
        "le chat est sur la table",
        "summer rain on tin",
        "my password is a heron",
        "sunshine-orthopterist",
        "0193 8472 6610 5",
    ],
)
async def test_good_ones_are_taken(passphrases, phrase):
    assert await passphrases.judge(phrase, context=CONTEXT) == ""


@pytest.mark.parametrize(
    ("phrase", "wrong"),
    [
        ("", "passphrase.too_short"),
        ("elevenchars", "passphrase.too_short"),
        ("            x           ", "passphrase.too_short"),
        ("x" * 257, "passphrase.too_long"),
        ("aaaaaaaaaaaa", "passphrase.breached"),
        ("abababababab", "passphrase.breached"),
        ("hjklhjklhjkl", "passphrase.breached"),
        ("123456789012", "passphrase.breached"),
        ("password1234", "passphrase.breached"),
        ("P4ssw0rd!P4ssw0rd!", "passphrase.breached"),
        ("Welcome-2024!!", "passphrase.breached"),
        ("iloveyouiloveyou", "passphrase.breached"),
        ("qwertyuiop[]12", "passphrase.breached"),
        ("Summer Winter 99", "passphrase.breached"),
        ("administrator1", "passphrase.breached"),
        ("zyxwvutsrqponm", "passphrase.breached"),
        ("Riverside Clinic", "passphrase.breached"),
        ("PAT@mail.example!", "passphrase.breached"),
        ("secure.clinic.example1", "passphrase.breached"),
    ],
)
async def test_weak_ones_are_not(passphrases, phrase, wrong):
    assert await passphrases.judge(phrase, context=CONTEXT) == wrong


async def test_three_thousand_of_the_most_used_kind_are_refused(passphrases):
    """Base words, their doubles and capitals, with the endings that people choose, at the length that is asked for."""
    words = (
        "password",
        "qwerty",
        "welcome",
        "iloveyou",
        "sunshine",
        "princess",
        "football",
        "monkey",
        "dragon",
        "letmein",
    )
    endings = [
        *(str(year) for year in range(1950, 2030)),
        *("1" * n for n in range(1, 7)),
        "!",
        "123",
        "1234",
        "12345!",
    ]
    made = {
        shape(word) + ending + more
        for word in words
        for shape in (str, str.capitalize, str.upper, lambda one: one + one, lambda one: one.replace("o", "0"))
        for ending in endings
        for more in ("", "!")
    }
    candidates = [one for one in made if len(one) >= passphrases.least]
    assert len(candidates) >= 3000
    for one in candidates:
        assert await passphrases.judge(one) == "passphrase.breached", one


async def test_a_long_common_one_is_judged_at_once(passphrases):
    """Words that can be parted in very many ways cost no more than others."""
    for text in (
        "mypass" * 42 + "x",
        "password" * 31 + "x",
        "abcd" * 63 + "x",
        "a" * 255 + "b",
        "qwerqwert" * 27 + "zz zz",
    ):
        assert await passphrases.judge(text[:256]) in {"", "passphrase.breached"}


async def test_a_hash_fits_what_was_typed_in_any_form_of_unicode(passphrases):
    hashed = await passphrases.hash("Zwo\u0308lf Boxka\u0308mpfer ")
    assert await passphrases.verify(hashed, "Zwölf Boxkämpfer")
    assert not await passphrases.verify(hashed, "zwölf boxkämpfer")
    assert not await passphrases.verify(hashed, "")
    assert not await passphrases.verify(hashed, "x" * 10_000)


async def test_what_is_no_hash_fits_nothing(passphrases):
    for hashed in ("", "plain", "$argon2id$v=19$m=64,t=1,p=1$AAAA", "$2b$12$abc"):
        assert not await passphrases.verify(hashed, "a passphrase that nobody has")
        assert not await passphrases.verify(hashed, "")


async def test_hashes_of_other_costs_are_outdated(passphrases):
    hashed = await passphrases.hash("correct horse battery")
    assert not passphrases.is_outdated(hashed)
    assert Passphrases(PassphraseOptions(time_cost=2, memory_kib=64)).is_outdated(hashed)


def test_the_costs_are_those_that_owasp_asks_for():
    options = PassphraseOptions()
    assert (options.memory_kib >= 19 * 1024, options.time_cost >= 2) == (True, True)
    assert (options.least, options.most) == (12, 256)


# --- lists


async def test_listed_ones_are_refused(tmp_path):
    path = a_list(tmp_path / "list", ["zebra piano lamp", "other"])
    passphrases = Passphrases(PassphraseOptions(time_cost=1, memory_kib=64, breached=path))
    assert await passphrases.judge("zebra piano lamp") == "passphrase.breached"
    assert await passphrases.judge("zebra piano lamps") == ""


@settings(max_examples=60)
@given(words=st.sets(st.text(max_size=8), max_size=40), end=st.sampled_from(["\n", "\r\n"]), count=st.booleans())
def test_every_line_of_a_list_is_found_and_nothing_else(tmp_path_factory, words, end, count):
    path = a_list(tmp_path_factory.mktemp("lists") / "list", sorted(words), end=end, count=count)
    for word in words:
        assert is_listed(path, word)
    for word in ("absent-1", "absent-2", "absent-3"):
        assert not is_listed(path, word)


def test_the_ends_of_a_list_are_found(tmp_path):
    words = [f"word{n}" for n in range(1000)]
    path = a_list(tmp_path / "list", words)
    assert all(is_listed(path, word) for word in words)


def test_a_list_that_cannot_be_used_says_why(tmp_path):
    assert check_list(a_list(tmp_path / "good", ["a", "b", "c"])) == ""
    assert check_list(tmp_path / "none") == "No such file or directory"
    (tmp_path / "empty").write_text("")
    assert check_list(tmp_path / "empty") == "it is empty"
    (tmp_path / "plain").write_text("password\n")
    assert "SHA-1" in check_list(tmp_path / "plain")
    (tmp_path / "unsorted").write_text(f"{'B' * 40}\n{'A' * 40}\n")
    assert check_list(tmp_path / "unsorted") == "it is not sorted"
    assert not is_listed(tmp_path / "none", "x")


# --- shared secrets


async def test_a_shared_secret_is_told_by_phone(passphrases):
    hashed = shared_hash("Blue Heron 42", QUICK)
    assert await passphrases.verify(hashed, fold_shared(" blue heron42"))
    assert not await passphrases.verify(hashed, fold_shared("blue heron 43"))


@pytest.mark.parametrize("secret", ["", "a b c d e", "x" * 300])
def test_a_shared_secret_has_six_characters_at_the_least(secret):
    with pytest.raises(ValueError, match="6 to 256"):
        shared_hash(secret, QUICK)


@given(st.text(max_size=60))
def test_folding_twice_is_folding_once(text):
    assert fold(fold(text)) == fold(text)
    assert fold_shared(fold_shared(text)) == fold_shared(text)


async def test_what_was_taken_fits_however_a_keyboard_puts_its_letters_together():
    passphrases = Passphrases(QUICK)
    phrase = "e\u0301 de l'e\u0301te\u0301 " * 22  # 198 letters as one sees them, 264 as some keyboards write them
    assert len(fold(phrase)) < passphrases.most < len(phrase)
    assert await passphrases.judge(phrase) == ""
    assert await passphrases.verify(await passphrases.hash(phrase), phrase)


async def test_marks_without_end_are_no_passphrase_and_take_no_time(monkeypatch):
    real, pieces = unicodedata.normalize, []

    def counting(form, piece):
        pieces.append(len(piece))
        return real(form, piece)

    monkeypatch.setattr(unicodedata, "normalize", counting)
    passphrases = Passphrases(QUICK)
    marks = "a" + "\u0301\u0327" * 15_000
    assert await passphrases.judge(marks) == "passphrase.too_long"
    assert not await passphrases.verify(await passphrases.hash("correct horse battery"), marks)
    with pytest.raises(ValueError, match="6 to 256"):
        shared_hash(marks, QUICK)
    assert max(pieces) <= 4096
