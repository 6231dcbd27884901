"""Who is tried once more without the parameters of DSN: every case of what was asked, where it failed and how."""

import itertools
from types import SimpleNamespace

import pytest

from relay.core.address import Address
from relay.core.envelope import Recipient
from relay.core.level import Level
from relay.core.outcome import Failure, PeerFeatures, RecipientResult, Stage, Transaction, Trouble
from relay.core.reply import Reply
from relay.worker.asking import transact

TAKEN = Reply.of(250, "2.0.0", "Ok")
ABOUT_PARAMETERS = {501, 504, 553, 555}
WISHES = {"nothing": {}, "notify": {"notify": frozenset({"DELAY"})}, "original": {"original": "rfc822;a@old.example"}}
HEADS = {"nothing": {}, "envid": {"envelope_id": "QQ1"}, "ret": {"ret": "HDRS"}}


class Refusing:
    """A server that refuses its recipients 1 and 2 once, at a stage and with a code, and then takes all."""

    alive = True

    def __init__(self, stage, code, *, dsn=True):
        self.features = PeerFeatures(dsn=dsn)
        reply = Reply(code, None, ("No",)) if code else None
        self.failure = Failure(trouble=Trouble.REPLY, stage=stage, reply=reply)
        self.seen = []

    async def transact(self, transaction):
        self.seen.append(transaction)
        first = len(self.seen) == 1
        return SimpleNamespace(results=tuple(
            RecipientResult(number=number, failure=self.failure) if first and number
            else RecipientResult(number=number, reply=TAKEN)
            for number, _ in transaction.recipients
        ))  # fmt: skip


def a_transaction(head, wish):
    """To the recipients 0 and 2, of whom nothing is asked, and 1."""
    wishes = ({}, WISHES[wish], {})
    recipients = tuple(
        (number, Recipient(address=Address.parse(f"p{number}@x.example"), **fields))
        for number, fields in enumerate(wishes)
    )
    return Transaction(
        reverse_path_text="a@clinic.example", recipients=recipients, content=b"x", floor=Level.VERIFIED, **HEADS[head]
    )


@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT, Stage.DATA])
@pytest.mark.parametrize("code", [0, 450, 500, *sorted(ABOUT_PARAMETERS), 550, 554])
async def test_only_an_answer_that_may_be_about_what_was_asked_is_worth_another_try(stage, code):
    for head, wish in itertools.product(HEADS, WISHES):
        session, asked = Refusing(stage, code), a_transaction(head, wish)
        results, used = await transact(session, asked)
        again = set()
        if code in ABOUT_PARAMETERS and stage is Stage.MAIL and head != "nothing":
            again = {1, 2}
        elif code in ABOUT_PARAMETERS and stage is Stage.RCPT and wish != "nothing":
            again = {1}
        assert used == {0, 1, 2} - again, (head, wish)
        assert {result.number for result in results if result.delivered} == {0} | again
        assert sorted(result.number for result in results) == [0, 1, 2]
        assert session.seen[0] is asked
        assert [{number for number, _ in one.recipients} for one in session.seen[1:]] == ([again] if again else [])
        for second in session.seen[1:]:
            assert (second.envelope_id, second.ret) == ("", "")
            assert all(not who.notify and not who.original for _, who in second.recipients)
            assert (second.content, second.floor) == (asked.content, asked.floor)


async def test_nobody_is_tried_again_where_nothing_was_asked_or_the_connection_is_gone():
    knows_not = Refusing(Stage.MAIL, 555, dsn=False)
    results, used = await transact(knows_not, a_transaction("ret", "notify"))
    assert (len(knows_not.seen), len(results), used) == (1, 3, set())
    gone = Refusing(Stage.MAIL, 555)
    gone.alive = False
    results, used = await transact(gone, a_transaction("ret", "notify"))
    assert (len(gone.seen), len(results), used) == (1, 3, {0, 1, 2})
