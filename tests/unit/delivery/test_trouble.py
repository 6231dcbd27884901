from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.outcome import Failure, RecipientResult, Stage, Trouble
from relay.core.reply import EnhancedStatus, Reply
from relay.delivery.trouble import Course, belongs_in_next_transaction, disposition, of_result


def said(code, enhanced="", *, stage=Stage.RCPT):
    return Failure(trouble=Trouble.REPLY, stage=stage, reply=Reply.of(code, enhanced, "words"), host="mx.x.example")


@pytest.mark.parametrize(
    ("failure", "course", "status"),
    [
        (said(550, "5.1.1"), Course.FAIL, "5.1.1"),
        (said(550), Course.FAIL, "5.1.0"),
        (said(451, "4.7.1"), Course.RETRY, "4.7.1"),
        (said(421, "4.3.2", stage=Stage.MAIL), Course.RETRY, "4.3.2"),
        (said(452, "4.5.3"), Course.RETRY, "4.5.3"),
        (said(552), Course.RETRY, "4.1.0"),
        (said(552, "5.5.3"), Course.RETRY, "4.5.3"),
        (said(552, "5.2.2"), Course.FAIL, "5.2.2"),
        (said(552, "5.3.4", stage=Stage.FINAL), Course.FAIL, "5.3.4"),
        (said(552, stage=Stage.MAIL), Course.FAIL, "5.3.4"),
        (said(554, "5.7.1", stage=Stage.FINAL), Course.FAIL, "5.7.1"),
        (said(503, "5.5.1", stage=Stage.DATA), Course.RETRY, "4.5.1"),
        (said(530, "5.7.0", stage=Stage.MAIL), Course.RETRY, "4.7.0"),
        (said(530, "5.7.57", stage=Stage.MAIL), Course.RETRY, "4.7.57"),
        (said(535, "5.7.8", stage=Stage.RCPT), Course.RETRY, "4.7.8"),
        (said(538, "5.7.11", stage=Stage.MAIL), Course.RETRY, "4.7.11"),
        (said(501, "5.1.3"), Course.FAIL, "5.1.3"),
        (said(501), Course.RETRY, "4.1.0"),
        (said(503, "5.0.0", stage=Stage.FINAL), Course.RETRY, "4.0.0"),
        (said(504, "5.3.3", stage=Stage.MAIL), Course.RETRY, "4.3.3"),
        (said(502, "5.4.0", stage=Stage.DATA), Course.RETRY, "4.4.0"),
        (said(550, "5.5.1", stage=Stage.FINAL), Course.FAIL, "5.5.1"),
        (said(552, "5.3.0"), Course.RETRY, "4.3.0"),
        (said(552, "5.3.4"), Course.FAIL, "5.3.4"),
        (said(554, stage=Stage.FINAL), Course.FAIL, "5.0.0"),
        (said(554, "5.3.2", stage=Stage.GREETING), Course.RETRY, "4.3.2"),
        (said(550, stage=Stage.EHLO), Course.RETRY, "4.5.0"),
        (said(535, "5.7.8", stage=Stage.AUTH), Course.RETRY, "4.7.8"),
    ],
)
def test_replies(failure, course, status):
    got = disposition(failure)
    assert (got.course, str(got.status)) == (course, status)
    assert got.reply is failure.reply
    assert got.host == "mx.x.example"
    assert not got.spends_within


@pytest.mark.parametrize(
    ("trouble", "course", "status"),
    [
        (Trouble.NO_DOMAIN, Course.FAIL, "5.1.2"),
        (Trouble.NULL_MX, Course.FAIL, "5.1.10"),
        (Trouble.NO_HOST, Course.FAIL, "5.4.4"),
        (Trouble.LOOP, Course.FAIL, "5.4.6"),
        (Trouble.DNS, Course.RETRY, "4.4.3"),
        (Trouble.NETWORK, Course.RETRY, "4.4.1"),
        (Trouble.AMBIGUOUS, Course.RETRY, "4.4.2"),
        (Trouble.BELOW_FLOOR, Course.RETRY, "4.7.10"),
        (Trouble.PROTOCOL, Course.RETRY, "4.5.0"),
        (Trouble.FORBIDDEN_ADDRESS, Course.RETRY, "4.4.4"),
        (Trouble.LOCAL, Course.RETRY, "4.3.0"),
        (Trouble.UNAVAILABLE, Course.HOLD, "4.7.5"),
        (Trouble.UNSUPPORTED, Course.FAIL, "5.6.0"),
    ],
)
def test_other_troubles(trouble, course, status):
    got = disposition(Failure(trouble=trouble, stage=Stage.CONNECT))
    assert (got.course, str(got.status)) == (course, status)
    assert got.spends_within is (trouble is Trouble.BELOW_FLOOR)


@pytest.mark.parametrize(
    ("stage", "code", "why"),
    [
        (Stage.MAIL, 550, "refused the sender"),
        (Stage.RCPT, 550, "refused the recipient"),
        (Stage.RCPT, 450, "put off the recipient"),
        (Stage.DATA, 554, "refused the message"),
        (Stage.FINAL, 451, "put off the message"),
        (Stage.AUTH, 535, "put off our login"),
        (Stage.TLS, 454, "put off TLS"),
        (Stage.GREETING, 554, "put off the connection"),
    ],
)
def test_a_reply_is_told_as_what_it_answered(stage, code, why):
    assert disposition(said(code, stage=stage)).why == f"the recipient's mail server {why}"


def test_a_permanent_reply_beside_another_trouble_does_not_return_the_mail():
    refused = Reply.of(550, "5.1.1", "words")
    lost = disposition(Failure(trouble=Trouble.NETWORK, stage=Stage.RCPT, reply=refused, host="mx.x.example"))
    assert (lost.course, lost.reply, lost.host) == (Course.RETRY, refused, "mx.x.example")
    unread = of_result(RecipientResult(number=0, reply=Reply.of(354, "", "go on")))
    assert (unread.course, unread.reply.code) == (Course.RETRY, 354)


@pytest.mark.parametrize(
    ("failure", "belongs"),
    [
        (said(452, "4.5.3"), True),
        (said(452), True),
        (said(552), True),
        (said(552, "5.5.3"), True),
        (said(452, "4.2.2"), False),
        (said(452, "4.3.1"), False),
        (said(450, "4.5.3"), False),
        (said(450), False),
        (said(452, "4.5.3", stage=Stage.MAIL), False),
        (said(452, stage=Stage.FINAL), False),
        (Failure(trouble=Trouble.NETWORK, stage=Stage.RCPT), False),
    ],
)
def test_one_recipient_too_many_is_known_from_a_full_mailbox_or_disk(failure, belongs):
    got = disposition(failure)
    assert belongs_in_next_transaction(got) is belongs


def test_the_detail_is_told_where_it_says_more_than_the_class():
    failure = Failure(trouble=Trouble.BELOW_FLOOR, stage=Stage.TLS, detail="the certificate has expired")
    assert disposition(failure).why.endswith("needs: the certificate has expired")


@pytest.mark.parametrize(
    ("stage", "status", "detail", "why"),
    [
        (Stage.RENDER, (5, 6, 3), "a signed part has 8-bit lines", "a signed part has 8-bit lines"),
        (Stage.RENDER, (5, 6, 3), "", "takes no 8-bit messages"),
        (Stage.RENDER, (5, 6, 7), "at the domain of the third", "takes no internationalised addresses"),
        (Stage.MAIL, (5, 6, 3), "BODY was refused", "takes no 8-bit messages"),
    ],
)
def test_who_adapts_a_message_says_what_stands_in_the_way(stage, status, detail, why):
    failure = Failure(trouble=Trouble.UNSUPPORTED, stage=stage, status=EnhancedStatus(*status), detail=detail)
    assert why in disposition(failure).why


@pytest.mark.parametrize("trouble", [Trouble.NO_DOMAIN, Trouble.LOOP, Trouble.FORBIDDEN_ADDRESS])
def test_the_detail_of_other_troubles_is_not_told(trouble):
    failure = Failure(trouble=trouble, stage=Stage.CONNECT, detail="10.0.0.1", host="mx.x.example")
    assert "10.0.0.1" not in disposition(failure).why
    assert not disposition(replace(failure, trouble=Trouble.NETWORK, detail="")).why.endswith((":", " "))


def test_the_page_for_operators_has_every_trouble_with_its_course_and_status():
    page = (Path(__file__).parents[3] / "docs" / "delivery.md").read_text()
    for trouble in Trouble:
        if trouble is not Trouble.REPLY:
            got = disposition(Failure(trouble=trouble, stage=Stage.CONNECT))
            row = next(line for line in page.splitlines() if line.startswith(f"| `{trouble}` |"))
            assert f"| {got.course} | {got.status} |" in row


def test_a_missing_extension_says_which():
    failure = Failure(trouble=Trouble.UNSUPPORTED, stage=Stage.MAIL, status=EnhancedStatus(5, 6, 7))
    got = disposition(failure)
    assert str(got.status) == "5.6.7"
    assert "internationalised" in got.why


@given(
    st.sampled_from(Trouble), st.sampled_from(Stage), st.none() | st.integers(200, 599), st.none() | st.integers(0, 9)
)
def test_every_failure_has_one_course_whose_status_agrees(trouble, stage, code, subject):
    reply = None
    if code is not None:
        klass = code // 100
        enhanced = EnhancedStatus(klass, subject, 0) if subject is not None and klass in {2, 4, 5} else None
        reply = Reply(code, enhanced, ("words",))
    got = disposition(Failure(trouble=trouble, stage=stage, reply=reply))
    assert got.why
    assert got.status.klass == (5 if got.course is Course.FAIL else 4)
    assert not (got.course is Course.FAIL and trouble is Trouble.REPLY and code is not None and code < 500)


def test_only_a_positive_answer_is_delivered():
    assert of_result(RecipientResult(number=0, reply=Reply.of(250, "2.0.0", "ok"))) is None
    assert of_result(RecipientResult(number=0)).course is Course.RETRY
    assert of_result(RecipientResult(number=0, reply=Reply.of(450, "", "no"))).course is Course.RETRY
    assert of_result(RecipientResult(number=0, failure=said(550))).course is Course.FAIL
