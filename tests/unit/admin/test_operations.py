"""What operators can do, over a real (in-memory) store: each with its audit event, none below a floor."""

import asyncio
import base64
from dataclasses import replace

import pytest

from relay.admin import operations
from relay.admin.wire import (
    ChangeRequest,
    ControlError,
    ListRequest,
    Selection,
    ShowRequest,
    StatsRequest,
    UnsealRequest,
)
from relay.core.address import Address
from relay.core.change import Keep
from relay.core.decision import Action, MethodName, Treatment
from relay.core.entry import EntryState
from relay.core.envelope import Origin, Recipient
from relay.core.errors import StoreUnavailableError
from relay.core.level import Level
from tests.support.queue import BODY, NOW, a_message, an_entry
from tests.unit.admin.conftest import ALICE, treatment

TWO = ("planted-bob@example.org", "planted-eve@example.org")


async def change(desk, op, *ids, reason="", **where):
    request = ChangeRequest(op=op, where=Selection(ids=ids, **where), reason=reason)
    return await desk.operations.run(request, ALICE)


async def test_lists_by_every_filter_and_says_when_there_is_more(desk):
    await desk.keep("m1")
    await desk.hold("m2", destination="other.example")
    await desk.keep("m3")

    async def ids(limit=10, **where):
        result = await desk.operations.run(ListRequest(where=Selection(**where), limit=limit), ALICE)
        return [entry.id for entry in result.entries], result.more

    assert await ids() == (["m1.0", "m2.0", "m3.0"], False)
    assert await ids(limit=2) == (["m1.0", "m2.0"], True)
    assert await ids(state="held") == (["m2.0"], False)
    assert await ids(destination="other.example") == (["m2.0"], False)
    assert await ids(message="m3") == (["m3.0"], False)
    assert await ids(recipient="planted-bob@example.org") == (["m1.0", "m2.0", "m3.0"], False)
    assert await ids(recipient="nobody@example.org") == ([], False)
    assert await ids(ids=("m1", "m3.0", "m9")) == (["m1.0", "m3.0"], False)
    with pytest.raises(ControlError, match="recipient"):
        await ids(recipient="no address")


async def test_a_listing_shows_no_mailbox_and_a_show_does(desk):
    await desk.keep("m1")
    listed = await desk.operations.run(ListRequest(), ALICE)
    assert "planted" not in listed.model_dump_json()
    shown = await desk.operations.run(ShowRequest(id="m1.0"), ALICE)
    assert [view.address for view in shown.recipients] == ["planted-bob@example.org"]
    assert "planted-subject" not in shown.model_dump_json()
    with pytest.raises(ControlError, match="not in the queue"):
        await desk.operations.run(ShowRequest(id="m9"), ALICE)


async def test_one_message_shows_what_its_sender_asked_to_be_told_and_no_identifier_of_theirs(desk):
    recipients = tuple(
        Recipient(address=Address.parse(text), original="rfc822;planted-orcpt", notify=frozenset(notify))
        for text, notify in zip(TWO, [("SUCCESS", "FAILURE"), ()], strict=True)
    )
    envelope = replace(a_message().envelope, recipients=recipients, envelope_id="planted-envid", ret="FULL")
    message = a_message("m1", envelope=envelope)
    await desk.store.commit((Keep(message=message, content=BODY, entries=(an_entry(message),)),))
    shown = await desk.operations.run(ShowRequest(id="m1"), ALICE)
    assert [view.notify for view in shown.recipients] == [("FAILURE", "SUCCESS"), ()]
    assert "planted-orcpt" not in shown.model_dump_json()
    assert "planted-envid" not in shown.model_dump_json()


async def test_looking_leaves_no_audit_event(desk):
    await desk.keep("m1")
    await desk.operations.run(ListRequest(), ALICE)
    await desk.operations.run(StatsRequest(), ALICE)
    assert await desk.audit() == []


async def test_hold_then_release_keeps_the_floor_and_starts_within_anew(desk):
    before = await desk.keep("m1", treatment=Treatment(floor=Level.VERIFIED, within=60.0), tls_failures=3)
    assert (await change(desk, "hold", "m1", reason="ask the sender")).done[0].outcome == "held"
    entry = await desk.store.entry("m1.0")
    assert (entry.state, entry.reason) == (EntryState.HELD, "held by alice: ask the sender")
    assert (await change(desk, "hold", "m1")).refused[0].outcome == "it is held already"
    await change(desk, "release", "m1.0")
    entry = await desk.store.entry("m1.0")
    assert entry.state is EntryState.READY
    assert entry.treatment == before.treatment
    assert (entry.created_at, entry.due_at, entry.tls_failures) == (NOW + 100, NOW + 100, 0)
    assert entry.expires_at == before.expires_at
    assert (await change(desk, "release", "m1.0")).refused[0].outcome == "it is not held"


async def test_every_change_is_audited_with_who_and_why_in_the_same_unit(desk):
    await desk.keep("m1")
    await change(desk, "hold", "m1", reason="for jane@clinic.example 123-45-6789")
    [event] = await desk.audit()
    assert (event.kind, event.message_id, event.at) == ("operator", "m1", NOW + 100)
    facts = event.facts
    assert (facts["operation"], facts["operator"], facts["uid"], facts["entry"]) == ("hold", "alice", 1000, "m1.0")
    assert "jane@" not in facts["reason"]
    assert "6789" not in facts["reason"]


async def test_what_could_not_be_changed_is_free_again_once_the_store_is_back(desk, monkeypatch):
    await desk.keep("m1")
    monkeypatch.setattr(operations, "_AGAIN", 0.01)
    back, tried = asyncio.Event(), asyncio.Event()
    release = desk.store.release

    async def away(_what):
        if back.is_set():
            return await release(_what)
        tried.set()
        raise StoreUnavailableError("away")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(desk.store, "commit", away)
        monkeypatch.setattr(desk.store, "release", away)
        assert "away" in (await change(desk, "hold", "m1")).refused[0].outcome
    assert "in hand" in (await change(desk, "hold", "m1")).refused[0].outcome
    tried.clear()
    await asyncio.wait_for(tried.wait(), 60)
    back.set()
    await asyncio.wait_for(asyncio.gather(*desk.operations._returning), 60)
    assert (await change(desk, "hold", "m1")).done[0].outcome == "held"


async def test_retry_makes_it_due_now_unless_it_is_held(desk):
    await desk.keep("m1", due_at=NOW + 5000)
    await desk.hold("m2")
    await change(desk, "retry", "m1")
    assert (await desk.store.entry("m1.0")).due_at == NOW + 100
    assert "release it" in (await change(desk, "retry", "m2")).refused[0].outcome


async def test_bounce_ends_every_recipient_and_sends_the_notice_in_the_same_unit(desk):
    await desk.keep("m1")
    assert (await change(desk, "bounce", "m1")).done[0].outcome == "bounced"
    assert await desk.store.entry("m1.0") is None
    assert await desk.store.message("m1") is None
    [(message, content, numbers, public)] = desk.notified
    assert (message, content, numbers) == ("m1", BODY, [0])
    assert "alice" not in public
    assert [event.kind for event in await desk.audit()] == ["notice", "operator", "fate"]


async def test_a_bounce_of_a_damaged_message_still_tells_the_sender(desk):
    await desk.keep("m1")
    await desk.harness.damage("bodies", "m1")
    await change(desk, "bounce", "m1")
    assert desk.notified[0][1] is None


async def test_remove_wants_a_reason_and_sends_no_notice(desk):
    await desk.keep("m1")
    with pytest.raises(ControlError, match="needs a reason"):
        await change(desk, "remove", "m1")
    assert await desk.store.entry("m1.0") is not None
    assert (await change(desk, "remove", "m1", reason="sent twice")).done[0].outcome == "removed"
    assert await desk.store.message("m1") is None
    assert desk.notified == []


async def test_changes_need_a_selection_that_matches(desk):
    await desk.keep("m1")
    with pytest.raises(ControlError, match="needs ids or a filter"):
        await change(desk, "release")
    with pytest.raises(ControlError, match="nothing in the queue matches"):
        await change(desk, "release", "m9")


async def test_what_a_worker_has_in_hand_is_left_alone(desk):
    await desk.keep("m1", leased=True)
    other = await desk.harness.open()
    await other.claim(now=NOW, limit=10)
    desk.operations._parts = type(desk.operations._parts)(
        store=other,
        clock=desk.clock,
        metrics=desk.metrics,
        redecide=desk.operations._parts.redecide,
        notify=desk.operations._parts.notify,
        tls=desk.operations._parts.tls,
    )
    result = await change(desk, "remove", "m1", reason="try it")
    assert "in hand" in result.refused[0].outcome
    assert await desk.store.entry("m1.0") is not None


async def test_a_failed_change_gives_the_lease_back(desk):
    await desk.hold("m1")
    desk.decided = []  # the policy decides nobody
    result = await change(desk, "redecide", "m1")
    assert "did not decide every recipient" in result.refused[0].outcome
    assert await desk.store.acquire("m1.0") is not None


async def test_redecide_never_lowers_the_floor(desk):
    await desk.hold("m1", treatment=Treatment(floor=Level.VERIFIED, action=Action.HOLD))
    desk.decided = [treatment(Level.CLEAR)]
    result = await change(desk, "redecide", "m1")
    assert result.done[0].outcome == "ready by rule redone"
    entry = await desk.store.entry("m1.0")
    assert (entry.state, entry.treatment.floor, entry.treatment.rule) == (EntryState.READY, Level.VERIFIED, "redone")
    assert entry.method is MethodName.TLS


async def test_what_is_decided_anew_lasts_as_long_as_its_new_rule_says(desk):
    await desk.hold("m1", expires_at=NOW + 50, warn_at=NOW + 10)
    desk.decided = [replace(treatment(Level.CLEAR), expire_after=900.0, warn_after=300.0)]
    await change(desk, "redecide", "m1")
    entry = await desk.store.entry("m1.0")
    assert (entry.expires_at, entry.warn_at) == (desk.clock() + 900, desk.clock() + 300)


async def test_a_notice_of_our_own_is_not_decided_anew(desk):
    message = a_message("m1", origin=Origin.DSN)
    await desk.store.commit((Keep(message=message, content=BODY, entries=(an_entry(message),)),))
    desk.decided = [treatment(action=Action.REJECT)]
    result = await change(desk, "redecide", "m1")
    assert "no policy decides it" in result.refused[0].outcome
    assert await desk.store.entry("m1.0") is not None


async def test_redecide_can_split_hold_and_reject(desk):
    message = a_message("m1", recipients=(*TWO, "planted-joe@example.org"))
    entry = an_entry(message, 1, state=EntryState.HELD)
    await desk.store.commit((Keep(message=message, content=BODY, entries=(entry,)),))
    desk.decided = [
        treatment(Level.VERIFIED),
        treatment(action=Action.HOLD, reason="still odd"),
        treatment(action=Action.REJECT, reason="not allowed"),
    ]
    result = await change(desk, "redecide", "m1")
    assert result.done[0].outcome == "ready by rule redone, held by rule redone, 1 rejected"
    first, second = await desk.store.entry("m1.1"), await desk.store.entry("m1.2")
    assert [state.number for state in first.recipients] == [0]
    assert (second.state, second.reason) == (EntryState.HELD, "still odd")
    assert [state.number for state in second.recipients] == [1]
    assert desk.notified[0][2:] == ([2], "not allowed")


async def test_a_new_decision_to_reject_everyone_ends_the_entry(desk):
    await desk.hold("m1")
    desk.decided = [treatment(action=Action.REJECT)]
    assert (await change(desk, "redecide", "m1")).done[0].outcome == "1 rejected"
    assert await desk.store.message("m1") is None
    (fate,) = [event for event in await desk.audit() if event.kind == "fate"]
    assert (fate.facts["fate"], fate.facts["rule"]) == ("rejected", "redone")


async def test_unseal_shows_held_messages_alone_and_alerts_first(desk):
    await desk.hold("m1")
    await desk.keep("m2")
    result = await desk.operations.run(UnsealRequest(id="m1.0", reason="sender asks"), ALICE)
    assert base64.b64decode(result.content) == BODY
    assert not result.truncated
    assert [event.kind for event in await desk.audit()] == ["operator", "alert"]
    assert ("postern_alerts_total", {"kind": "unsealed"}, 1) in desk.metrics.counted
    assert "planted" not in repr(result)
    with pytest.raises(ControlError, match="not held"):
        await desk.operations.run(UnsealRequest(id="m2", reason="sender asks"), ALICE)


async def test_unseal_shows_nothing_when_the_audit_cannot_be_written(desk):
    from relay.core.errors import StoreUnavailableError

    await desk.hold("m1")

    async def fail(unit):
        raise StoreUnavailableError("no")

    desk.store.commit = fail
    with pytest.raises(StoreUnavailableError):
        await desk.operations.run(UnsealRequest(id="m1", reason="sender asks"), ALICE)


async def test_a_listing_and_its_filter_speak_of_states_as_the_figures_do(desk):
    await desk.keep("m1")
    await desk.keep("m2", due_at=NOW + 1000)
    await desk.hold("m3")
    await desk.hold("m4", due_at=NOW + 1000)
    result = await desk.operations.run(ListRequest(), ALICE)
    assert [entry.state for entry in result.entries] == ["ready", "deferred", "held", "held"]
    stats = await desk.operations.run(StatsRequest(), ALICE)
    for state, ids in (("ready", ["m1.0"]), ("deferred", ["m2.0"]), ("held", ["m3.0", "m4.0"])):
        chosen = await desk.operations.run(ListRequest(where=Selection(state=state)), ALICE)
        assert [entry.id for entry in chosen.entries] == ids
        assert getattr(stats, state) == len(ids)
    assert [view.state for view in (await desk.operations.run(ShowRequest(id="m2"), ALICE)).entries] == ["deferred"]
    assert [done.id for done in (await change(desk, "retry", state="deferred")).done] == ["m2.0"]


async def test_stats_count_states_and_age(desk):
    await desk.keep("m1")
    await desk.keep("m2", due_at=NOW + 1000)
    await desk.hold("m3")
    result = await desk.operations.run(StatsRequest(), ALICE)
    assert (result.ready, result.deferred, result.held) == (1, 1, 1)
    assert result.oldest_age == 100.0
    assert dict(result.destinations) == {"example.org": 3}
