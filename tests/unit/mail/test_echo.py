"""What a server repeats of a message is withheld, however it repeats it; its own words stay."""

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.outcome import Failure, RecipientResult, Stage, Trouble
from relay.core.reply import Reply
from relay.mail import echo
from relay.mail.echo import Echoes, echoed
from relay.mail.mime import read_message
from tests.support.laborious import laborious

PLAIN = b"From: Dr Muster <a@b.example>\r\nSubject: Result for Jane Roe\r\n\r\nHbA1c was 8.1, go on with metformin\r\n"
ENCODED = (
    b"Subject: =?utf-8?Q?J=C3=BCrgen_Gr=C3=BCn?=\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\n" + b64encode(b"metformin twice daily") + b"\r\n"
)


@pytest.mark.parametrize(
    ("answer", "content", "expected"),
    [
        (
            "Message rejected as spam: Result for Jane Roe",
            PLAIN,
            "Message rejected as spam: Result for [withheld] [withheld]",
        ),
        ("METFORMIN is on our list", PLAIN, "[withheld] is on our list"),
        ("your message to muster: HbA1c!", PLAIN, "your message to [withheld]: [withheld]!"),
        (
            "rejected: jürgen grün, Metformin",
            ENCODED,
            "rejected: [withheld] [withheld], [withheld]".replace("] [", "] ["),
        ),
        ("Ok: queued as 4Z9K", PLAIN, "Ok: queued as 4Z9K"),
        ("No such user here", PLAIN, "No such user here"),
    ],
)
def test_words_of_the_message_are_withheld(answer, content, expected):
    reply = Reply.of(554, "5.7.1", answer)
    failure = Failure(trouble=Trouble.REPLY, stage=Stage.FINAL, reply=reply)
    result = Echoes(content).withheld(RecipientResult(number=1, reply=reply, failure=failure))
    assert result.reply.text == result.failure.reply.text == expected
    assert (result.reply.code, result.reply.enhanced) == (554, reply.enhanced)


def test_without_a_message_or_an_answer_nothing_changes():
    bare = RecipientResult(number=1)
    assert Echoes(PLAIN).withheld(bare) == bare
    answered = RecipientResult(number=1, reply=Reply.of(250, "2.0.0", "Jane Roe"))
    assert Echoes(None).withheld(answered) == Echoes(b"").withheld(answered) == answered


WORDS = st.text(st.characters(whitelist_categories=("Ll", "Lu")), min_size=3, max_size=12)


@given(WORDS, st.binary(max_size=60), st.binary(max_size=60))
def test_every_uncommon_word_of_the_body_is_found(word, before, after):
    content = b"Subject: x\r\n\r\n" + before + b" " + word.encode() + b" " + after
    ordinary = not echoed(word, b"Subject: x\r\n\r\n " + word.encode())
    assert ordinary or word.casefold() in echoed(f"554 refused because of {word}.", content)


def test_of_a_message_that_costs_too_much_to_read_every_uncommon_word_may_be_repeated():
    content = laborious(lines=20_000, inside=200) + b64encode(b"metformin")
    assert echoed("metformin was rejected, zebra", content) == {"metformin", "zebra"}
    assert echoed("zebra", content, whole=False) == frozenset()


def test_a_message_is_read_once_however_many_of_its_recipients_are_refused(monkeypatch):
    read = []
    monkeypatch.setattr(echo, "read_message", lambda *given: read.append(1) or read_message(*given))
    echoes = Echoes(ENCODED)
    for number in range(50):
        reply = Reply.of(550, "5.1.1", f"No such user somebody{number}, about metformin")
        failure = Failure(trouble=Trouble.REPLY, stage=Stage.RCPT, reply=reply)
        result = RecipientResult(number=number, failure=failure)
        made = echoes.withheld(result)
        assert made.failure.reply.text == f"No such user somebody{number}, about [withheld]"
        assert echoes.withheld(RecipientResult(number=number, reply=Reply.of(250, "2.0.0", "Ok: 4Z9KQ"))).reply.text
    assert len(read) == 1


class Searched(str):
    """A text that knows how often something was looked for in it."""

    __slots__ = ()
    times = 0

    def __contains__(self, word):
        Searched.times += 1
        return super().__contains__(word)


def test_a_server_with_thousands_of_words_for_each_recipient_costs_a_bounded_search(monkeypatch):
    """A hundred recipients, each refused with 32 KB of words that nobody says, held a worker's loop for 107 s."""
    read = echo._said
    monkeypatch.setattr(echo, "_said", lambda *given, **more: Searched(read(*given, **more)))
    monkeypatch.setattr(Searched, "times", 0)
    content = PLAIN + b"x" * (262_144 - len(PLAIN))
    echoes = Echoes(content)
    for number in range(100):
        lines = tuple(" ".join(f"w{number}q{line}q{word}" for word in range(30)) for line in range(120))
        failure = Failure(trouble=Trouble.REPLY, stage=Stage.RCPT, reply=Reply(550, None, lines))
        made = echoes.withheld(RecipientResult(number=number, failure=failure)).failure.reply
    assert 0 < Searched.times * len(content) <= 200_000_000
    assert set(made.text.split()) == {"[withheld]"}  # what could not be looked for may be the message's


def test_words_that_come_again_are_looked_for_once(monkeypatch):
    read = echo._said
    monkeypatch.setattr(echo, "_said", lambda *given, **more: Searched(read(*given, **more)))
    monkeypatch.setattr(Searched, "times", 0)
    echoes = Echoes(PLAIN)
    for number in range(1000):
        reply = Reply.of(550, "5.1.1", "metformin zebra")
        failure = Failure(trouble=Trouble.REPLY, stage=Stage.RCPT, reply=reply)
        made = echoes.withheld(RecipientResult(number=number, failure=failure))
        assert made.failure.reply.text == "[withheld] zebra"
    assert Searched.times == 2


@given(st.lists(st.text(max_size=700), min_size=1, max_size=40))
def test_of_a_long_answer_the_beginning_is_kept(lines):
    reply = Reply(550, None, tuple(lines))
    failure = Failure(trouble=Trouble.REPLY, stage=Stage.RCPT, reply=reply)
    kept = Echoes(None).withheld(RecipientResult(number=0, failure=failure)).failure.reply
    assert 1 <= len(kept.lines) <= 20
    assert "".join(kept.lines) == "".join(lines[:20])[:2000]
    assert kept == reply or sum(map(len, lines)) > 2000 or len(lines) > 20
