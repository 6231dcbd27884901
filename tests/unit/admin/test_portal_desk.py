"""Operators' work on messages in the portal, through the operations that the control socket runs."""

import dataclasses

import pytest

from relay.admin.portal import PortalDesk
from relay.admin.wire_base import ControlError
from relay.admin.wire_portal import (
    PortalApproveRequest,
    PortalExtendRequest,
    PortalListRequest,
    PortalRecallRequest,
    PortalResendRequest,
    PortalSecretRequest,
    PortalSignOutRequest,
    PortalTenantSecretRequest,
)
from relay.core.change import Settle
from relay.core.decision import MethodName
from relay.core.fate import Fate, FateKind
from relay.core.portal import DepositState
from tests.support.portal_bench import DAY, NOW, Bench
from tests.unit.worker.test_portal import claimed_of


class Desk(Bench):
    def __init__(self):
        super().__init__()
        self.secrets, self.approved, self.signed_out = [], [], []

        async def hash_secret(secret):
            if len(secret) < 6:
                raise ValueError("a shared secret has 6 to 256 characters, spaces not counted")
            return f"hash of {secret}"

        async def set_secret(deposit, verifier):
            self.secrets.append((deposit.id, verifier))

        async def set_tenant_secret(mailbox, tenant, verifier):
            self.secrets.append((str(mailbox), tenant, verifier))

        async def approve(mailbox, operator):
            self.approved.append((str(mailbox), operator))
            return True

        async def sign_out(mailbox, operator):
            self.signed_out.append((str(mailbox), operator))
            return 2

        self.desk = PortalDesk(
            self.deposits,
            self.ledger,
            hash_secret=hash_secret,
            set_secret=set_secret,
            set_tenant_secret=set_tenant_secret,
            approve=approve,
            sign_out=sign_out,
            clock=self.clock,
        )

    async def ask(self, request):
        return await self.desk.answer(request, "ada")


@pytest.fixture
def it():
    return Desk()


async def test_a_list_shows_who_and_where_and_nothing_of_what_is_said(it):
    for number in range(3):
        await it.make(number, deposited_at=NOW + number)
    first = await it.ask(PortalListRequest(limit=2))
    rest = await it.ask(PortalListRequest(limit=2, after=first.after))
    assert [row.number for row in (*first.rows, *rest.rows)] == [2, 1, 0]
    assert rest.after == ""
    assert "result" not in first.model_dump_json()
    assert "Ada" not in first.model_dump_json()
    assert (await it.ask(PortalListRequest(mailbox="nobody@mail.example"))).rows == ()
    assert len((await it.ask(PortalListRequest(states=("waiting",)))).rows) == 3
    with pytest.raises(ControlError, match="not a mailbox"):
        await it.ask(PortalListRequest(mailbox="no mailbox"))


async def test_a_message_s_id_means_all_its_recipients(it):
    made = [await it.make(number) for number in range(2)]
    result = await it.ask(PortalRecallRequest(ids=(made[0].message_id, made[1].id), reason="wrong patient"))
    assert {done.id for done in result.done} == {one.id for one in made}
    assert (it.fates(0), it.fates(1)) == (["recalled"], ["recalled"])
    again = await it.ask(PortalRecallRequest(ids=(made[0].id,), reason="wrong patient"))
    assert [(done.id, done.outcome) for done in again.refused] == [(made[0].id, "it is recalled")]
    with pytest.raises(ControlError, match="neither"):
        await it.ask(PortalRecallRequest(ids=("nothing",), reason="wrong patient"))


async def test_extend_and_resend_and_what_is_over_is_refused(it):
    made = await it.make()
    assert (await it.ask(PortalExtendRequest(ids=(made.id,), days=60, reason="on holiday"))).done
    assert (await it.deposits.find(made.id)).expires_at == NOW + 60 * DAY
    assert (await it.ask(PortalResendRequest(ids=(made.id,), reason="lost"))).done
    await it.ledger.recalled(made, by="ada", why="over")
    for request in (
        PortalExtendRequest(ids=(made.id,), days=1, reason="late"),
        PortalResendRequest(ids=(made.id,), reason="late"),
        PortalSecretRequest(ids=(made.id,), secret="blue heron", reason="late"),
    ):
        assert (await it.ask(request)).refused
    assert it.secrets == []
    operators = {
        event.facts.get("operator") for event in it.events if event.facts.get("event") in ("extended", "resent")
    }
    assert operators == {"ada"}


async def test_a_secret_and_an_approval_are_audited_without_what_they_say(it):
    made = await it.make()
    await it.ask(PortalSecretRequest(ids=(made.id,), secret="blue heron", reason="they called"))
    await it.ask(PortalApproveRequest(mailbox="pat@mail.example", reason="they called"))
    assert it.secrets == [(made.id, "hash of blue heron")]
    assert it.approved == [("pat@mail.example", "ada")]
    operations = [event.facts["operation"] for event in it.events if event.kind == "operator"]
    assert operations == ["portal-secret", "portal-approve"]
    result = await it.ask(PortalSignOutRequest(mailbox="pat@mail.example", reason="their phone was stolen"))
    assert [done.outcome for done in result.done] == ["2 sessions ended"]
    assert it.signed_out == [("pat@mail.example", "ada")]
    assert it.events[-1].facts["operation"] == "portal-sign-out"
    assert "heron" not in repr(it.events)
    assert "heron" not in repr(PortalSecretRequest(ids=(made.id,), secret="blue heron", reason="they called"))


async def test_a_secret_for_all_that_a_tenant_sends_a_mailbox(it):
    request = PortalTenantSecretRequest(
        mailbox="pat@mail.example", tenant="riverside", secret="blue heron", reason="they called"
    )
    assert [done.id for done in (await it.ask(request)).done] == ["pat@mail.example"]
    assert it.secrets == [("pat@mail.example", "riverside", "hash of blue heron")]
    [facts] = [event.facts for event in it.events if event.kind == "operator"]
    assert (facts["operation"], facts["tenant"], facts["recipients"]) == (
        "portal-secret",
        "riverside",
        ["pat@mail.example"],
    )
    assert "heron" not in repr(it.events)
    with pytest.raises(ControlError, match="6 to 256"):
        await it.ask(request.model_copy(update={"secret": "blue"}))
    with pytest.raises(ControlError, match="not a mailbox"):
        await it.ask(request.model_copy(update={"mailbox": "nobody"}))


async def test_a_secret_that_is_refused_does_not_read_as_set(it):
    made = await it.make()
    for request in (
        PortalSecretRequest(ids=(made.id,), secret="blue heron", reason="they called"),
        PortalTenantSecretRequest(mailbox="pat@mail.example", tenant="a", secret="blue heron", reason="they called"),
    ):
        with pytest.raises(ControlError, match="6 to 256"):
            await it.ask(request.model_copy(update={"secret": "blue"}))
    assert it.secrets == []
    assert [event for event in it.events if event.kind == "operator"] == []


async def test_no_patient_s_mailbox_in_a_reason_gets_into_the_audit_trail(it):
    made = [await it.make(number) for number in range(2)]
    why = 'pat.roe@mail.example called: subject "HIV result", born 1961-04-12'
    ids = (made[0].id,)
    for request in (
        PortalExtendRequest(ids=ids, days=60, reason=why),
        PortalResendRequest(ids=ids, reason=why),
        PortalSecretRequest(ids=ids, secret="blue heron", reason=why),
        PortalApproveRequest(mailbox="pat@mail.example", reason=why),
        PortalSignOutRequest(mailbox="pat@mail.example", reason=why),
        PortalTenantSecretRequest(mailbox="pat@mail.example", tenant="riverside", secret="blue heron", reason=why),
        PortalRecallRequest(ids=ids, reason=why),
    ):
        assert (await it.ask(request)).done
    told = [event.facts.get("reason") or event.facts.get("why") for event in it.events]
    said = [one for one in told if one and "called" in one]
    assert len(said) == 7
    assert not [one for one in said if "roe" in one or "HIV" in one or "1961" in one]


@pytest.mark.parametrize(("method", "gone"), [(MethodName.PORTAL, True), (MethodName.TLS, False)])
async def test_an_entry_that_an_operator_ends_leaves_no_message_behind(it, method, gone):
    made = await it.make(0, message_id="m1")
    claimed = claimed_of(0, method=method)
    end = Settle(
        entry=dataclasses.replace(claimed.entry, recipients=()), fates={0: Fate(kind=FateKind.REMOVED, at=NOW)}
    )
    await it.desk.leave(claimed, (end,))
    state = DepositState.WITHDRAWN if gone else DepositState.WAITING
    assert (await it.deposits.find(made.id)).state is state


async def test_an_entry_that_goes_on_to_the_portal_keeps_its_message_and_one_that_goes_elsewhere_does_not(it):
    made = [await it.make(number, message_id="m1") for number in range(2)]
    claimed = claimed_of(0, 1)
    kept = dataclasses.replace(claimed.entry, recipients=claimed.entry.recipients[:1])
    moved = dataclasses.replace(
        claimed.entry, id="m1.2", recipients=claimed.entry.recipients[1:], method=MethodName.TLS
    )
    await it.desk.leave(claimed, (Settle(entry=kept, split=(moved,)),))
    states = [(await it.deposits.find(one.id)).state for one in made]
    assert states == [DepositState.WAITING, DepositState.WITHDRAWN]
