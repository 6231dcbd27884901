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
