"""What answers are understood to mean, by Postern's own rules and by operators'."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.errors import ProblemsError
from relay.core.outcome import Failure, Stage, Trouble
from relay.core.reply import EnhancedStatus, Reply
from relay.delivery.bounce import MEANINGS, BounceAction, BounceClass, Family, of_trouble
from relay.delivery.bouncerules import read_rules
from relay.delivery.bouncetext import LIMIT, words_of
from relay.delivery.classify import Classifier
from relay.observe.catalogue import BOUNCE_CLASS, BOUNCE_FAMILY
from relay.reputation.load import load_classifier

ROWS = [
    tuple(part.strip() for part in line.split("|", 2))
    for line in (Path(__file__).parent / "replies.txt").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]
OURS = [row[2] for row in ROWS if row[0] in {"reputation", "spam", "rate-limited", "sender-authentication"}]
THEIRS = [row[2] for row in ROWS if row[0] == "invalid-recipient"]


@pytest.fixture(scope="module")
def classifier():
    return load_classifier()


@pytest.mark.parametrize(("klass", "host", "answer"), ROWS, ids=[f"{row[0]}-{n}" for n, row in enumerate(ROWS)])
def test_documented_replies_are_understood(classifier, klass, host, answer):
    verdict = classifier.classify(answer, host=host)
    assert verdict.klass == klass, f"{verdict.rule}: {verdict.pattern}"


SHORT = [
    tuple(part.strip() for part in line.split("|", 1))
    for line in (Path(__file__).parent / "families.txt").read_text("utf-8").splitlines()
    if not line.startswith("#")
]


@pytest.mark.parametrize(("family", "answer"), SHORT, ids=[f"{row[0]}-{n}" for n, row in enumerate(SHORT)])
def test_short_replies_fall_into_their_family(classifier, family, answer):
    verdict = classifier.classify(answer)
    assert verdict.family == family, f"{verdict.rule}: {verdict.pattern}"


def test_the_rows_show_every_class_of_a_reply():
    assert {row[0] for row in ROWS} == set(BounceClass) - {BounceClass.COMPLAINT, BounceClass.AUTO_REPLY}


@pytest.mark.parametrize("fault", [
    "your IP is listed by a blocklist", "poor reputation of your network", "blocked using dnsbl.example",
    "sending rate limit exceeded", "too many messages from your host", "message looks like spam",
    "connection rate limit reached",
])  # fmt: skip
@pytest.mark.parametrize("answer", THEIRS)
def test_a_fault_of_ours_never_gives_up_a_mailbox(classifier, answer, fault):
    for said in (f"{answer}; {fault}", f"550 5.1.1 {fault}: {answer[4:]}"):
        assert classifier.classify(said).action is not BounceAction.SUPPRESS


@pytest.mark.parametrize("answer", OURS)
def test_reputation_and_rate_never_suppress_whatever_the_status_claims(classifier, answer):
    code, _, rest = answer.partition(" ")
    assert classifier.classify(f"550 5.1.1 {rest} {code}").action is not BounceAction.SUPPRESS


def test_a_temporary_answer_gives_up_nobody(classifier):
    for _, host, answer in ROWS:
        assert classifier.classify(answer, host=host, permanent=False).action is not BounceAction.SUPPRESS


def test_words_in_mailboxes_and_wrapping_do_not_decide(classifier):
    said = "host spamtrap.example[192.0.2.1] said: 550 5.1.1 <spam-report@blocklist.example>: User unknown"
    assert classifier.classify(said).klass is BounceClass.INVALID_RECIPIENT
    assert words_of(said).text == "550 5.1.1 <@>: User unknown"


def test_lines_of_one_reply_are_read_as_one(classifier):
    reply = Reply.of(550, "5.1.1", "The email account that you tried to\nreach does not exist.")
    assert classifier.of_reply(reply).rule == "unknown-user"


@given(st.text(max_size=300))
def test_whatever_is_said_has_a_verdict(text):
    verdict = ANY.classify(text)
    assert verdict.family in set(Family)
    assert verdict.klass in MEANINGS


ANY = load_classifier()


def test_an_enormous_answer_is_judged_by_its_beginning(classifier):
    assert classifier.classify("550 5.1.1 User unknown " + "x" * 10_000_000).klass is BounceClass.INVALID_RECIPIENT
    assert len(words_of("y" * 1_000_000).text) == LIMIT


def test_a_set_without_memory_still_finds_what_the_patterns_find(classifier):
    starved = Classifier(classifier.rules, memory=8 * 1024 * 1024)
    for _, host, answer in ROWS[:20]:
        assert starved.classify(answer, host=host) == classifier.classify(answer, host=host)


def test_every_trouble_has_a_class():
    for trouble in Trouble:
        assert of_trouble(Failure(trouble=trouble, stage=Stage.CONNECT), permanent=True).klass in MEANINGS
    large = Failure(trouble=Trouble.UNSUPPORTED, stage=Stage.MAIL, status=EnhancedStatus(5, 3, 4))
    assert of_trouble(large, permanent=True).klass is BounceClass.MESSAGE_SIZE


def test_metrics_know_every_class_and_family():
    assert {*BOUNCE_CLASS.values, "other"} == set(BounceClass)
    assert {*BOUNCE_FAMILY.values, "other"} == set(Family)


# --- operators' rules ---


def test_operators_rules_come_first_and_may_replace_ours(tmp_path):
    (tmp_path / "ours.yaml").write_text(
        "rules:\n- id: acme-quota\n  class: mailbox-full\n  provider: acme\n  code: [550]\n  pattern: 'zzz42'\n"
        "- id: unknown-user\n  class: policy\n  pattern: user unknown\n"
    )
    classifier = load_classifier([tmp_path / "ours.yaml"])
    assert classifier.classify("550 zzz42", host="mx.acme.example").rule == "acme-quota"
    assert classifier.classify("550 zzz42", host="mx.other.example").rule != "acme-quota"
    assert classifier.classify("550 5.1.1 User unknown").klass is BounceClass.POLICY


@pytest.mark.parametrize(("text", "told"), [
    ("rules: 3", "has no list"), ("- 1", "has no list"), ("rules: [", "is not YAML"),
    ("rules: 2026-02-31", "has a value that cannot be read"),
    ("rules: [3]", "is not a mapping"), ("rules: [{class: spam, code: 5}]", "has no id"),
    ("rules: [{id: a, class: nonsense, code: 5}]", "no known class"), ("rules: [{id: a, class: spam}]", "no condition"),
    ("rules: [{id: a, class: spam, code: 999}]", "a code that is none"),
    ("rules: [{id: a, class: spam, enhanced: 5.7}]", "enhanced status that is none"),
    ("rules: [{id: a, class: spam, pattern: '('}]", "RE2 does not take"),
    ("rules: [{id: a, class: spam, pattern: 3}]", "no text"),
    ("rules: [{id: a, class: spam, code: 5, action: explode}]", "no known action"),
    ("rules: [{id: a, class: spam, code: 5, colour: red}]", "unknown field colour"),
    ("rules: [{id: a, class: spam, code: 5}, {id: a, class: spam, code: 4}]", "the id of two rules"),
])  # fmt: skip
def test_a_bad_rule_is_told_in_words(text, told):
    with pytest.raises(ProblemsError, match=told):
        read_rules(text, "mine.yaml")


def test_every_fault_is_told_at_once(tmp_path):
    (tmp_path / "a.yaml").write_text("rules: [{id: a, class: spam}, {id: b, class: spam, code: 7}]")
    with pytest.raises(ProblemsError) as caught:
        load_classifier([tmp_path / "a.yaml", tmp_path / "missing.yaml"])
    assert len(caught.value.problems) == 3


def test_the_same_pattern_in_two_rules_is_one_in_the_set():
    rules = read_rules(
        "rules:\n- {id: a, class: spam, code: 4, pattern: same}\n- {id: b, class: policy, pattern: same}", "x"
    )
    assert Classifier(rules).classify("550 same").rule == "b"


def test_the_name_of_who_answers_is_not_what_it_says(classifier):
    for host in ("mx.barracudanetworks.example", "spamhaus.example", "mailbox-full.example", "greylist.example"):
        assert classifier.classify("550 5.1.1 User unknown", host=host).rule == "unknown-user"
