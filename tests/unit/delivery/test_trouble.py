from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.outcome import Failure, RecipientResult, Stage, Trouble
from relay.core.reply import EnhancedStatus, Reply
from relay.delivery.trouble import Course, disposition, of_result


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
    assert got.next_host is (course is Course.RETRY)


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


def test_the_detail_is_told_where_it_says_more_than_the_class():
    failure = Failure(trouble=Trouble.BELOW_FLOOR, stage=Stage.TLS, detail="the certificate has expired")
    assert disposition(failure).why.endswith("needs: the certificate has expired")


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
