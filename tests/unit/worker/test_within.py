"""Falling from method to method, and ``within``: what holds over any sequence of what peers do."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.core.decision import MethodName, Otherwise, Treatment
from relay.core.entry import EntryState
from relay.core.fate import FateKind
from relay.core.level import Level
from relay.core.outcome import Stage, Trouble
from relay.core.ports import Rendering, Unavailable
from relay.methods.tls import TlsMethod
from tests.support.attempting import Attempting, FakeSession, refusal, trouble
from tests.support.queue import NOW

MISSED = {
    "no-starttls": lambda: trouble(Trouble.BELOW_FLOOR, Stage.TLS),
    "policy": lambda: trouble(Trouble.BELOW_FLOOR, Stage.DNS),
}
OTHER = {
    "refused": lambda: trouble(Trouble.NETWORK),
    "dns": lambda: trouble(Trouble.DNS, Stage.DNS),
    "greylisted": lambda: FakeSession(refusal(451, "4.7.1", "Greylisted")),
    "not-smtp": lambda: trouble(Trouble.PROTOCOL, Stage.EHLO),
    "ours": lambda: trouble(Trouble.LOCAL, Stage.PLAN),
}
PEERS = MISSED | OTHER | {"taken": FakeSession}
FLOORS = (Level.ENCRYPTED, Level.VERIFIED, Level.AUTHENTICATED)


class Portal:
    """A method that needs no level of its transport."""

    name = MethodName.PORTAL

    def __init__(self, *, works=True):
        self.works = works
        self.taken_as = FateKind.DELIVERED
        self.rendered = []

    async def render(self, entry, message, content):
        self.rendered.append(entry.id)
        notice = Rendering(content=content, floor=Level.CLEAR, fate_on_delivery=self.taken_as)
        return notice if self.works else Unavailable(reason="nobody is known")


async def play(treatment, story, *, works=True):
    """Let peers act the story; each step is (when, entry before, entry after or None, what was asked of connecting)."""
    portal = Portal(works=works)
    steps = []
    async with Attempting(methods={MethodName.TLS: TlsMethod(), MethodName.PORTAL: portal}) as it:
        await it.keep(treatment=treatment, expires_at=NOW + 10_000)
        for act in story:
            before = (await it.left()).get("m1.0")
            if before is None or before.state is EntryState.HELD:
                break
            it.clock.now = max(it.clock.now + 1, before.due_at)
            it.connector.next.clear()
            it.connector.asked.clear()
            peer = PEERS[act]()
            if isinstance(peer, FakeSession):
                wanted = treatment.floor if before.method is MethodName.TLS else Level.CLEAR
                peer.proof = FakeSession(level=max(wanted, Level.ENCRYPTED)).proof
            it.connector.next.append(peer)
            session = await it.attempt("m1.0")
            if session is not None:
                await session.close()
            steps.append((act, it.clock.now, before, (await it.left()).get("m1.0"), list(it.connector.asked)))
        return steps, await it.fates(), portal


async def test_the_trail_tells_the_floor_of_the_copy_and_beside_it_that_of_its_notice():
    treatment = Treatment(floor=Level.VERIFIED, methods=(MethodName.PORTAL,))
    portal = Portal()
    portal.taken_as = FateKind.NOTIFIED
    async with Attempting(methods={MethodName.PORTAL: portal}) as it:
        await it.keep(treatment=treatment, method=MethodName.PORTAL)
        await it.over(refusal(451, "4.7.1", "Greylisted"))
        it.clock.now = (await it.left())["m1.0"].due_at
        await it.over(FakeSession(level=Level.CLEAR))
        assert await it.fates() == {0: "notified"}
        told = [*await it.events("attempt"), *await it.events("fate")]
    assert [(event.facts["floor"], event.facts["notice_floor"]) for event in told] == [("verified", "clear")] * 2


STORY = st.lists(st.sampled_from(sorted(PEERS)), min_size=1, max_size=14)
WITHIN = st.sampled_from([None, 30.0, 300.0, 2000.0])


@settings(max_examples=150, deadline=None)
@given(STORY, WITHIN, st.sampled_from(FLOORS))
def test_a_copy_falls_to_its_next_method_when_its_time_is_over_and_never_lower(story, within, floor):
    treatment = Treatment(
        floor=floor, tls=floor, within=within, methods=(MethodName.TLS, MethodName.PORTAL), otherwise=Otherwise.HOLD
    )
    steps, fates, portal = asyncio.run(play(treatment, story))
    missed = 0
    for act, now, before, after, asked in steps:
        over = within is not None and now >= NOW + within
        if before.method is MethodName.TLS:
            assert before.tls_failures == missed, "only a missed level spends the time"
            assert all(level >= floor for _, level, _ in asked), "it was connected to below its floor"
            if over and missed:
                assert (after.method, asked, after.due_at) == (MethodName.PORTAL, [], now), (
                    "the fall is due, and at once"
                )
            elif after is not None:
                assert after.method is MethodName.TLS, "nothing but a missed level and the end of the time is a reason"
            missed += act in MISSED and bool(asked)
        else:
            assert after is None or after.method is MethodName.PORTAL, "a fall is final"
    assert not (portal.rendered and not missed)
    assert set(fates.values()) <= {"delivered", "expired"}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(sorted(OTHER)), min_size=1, max_size=10))
def test_greylisting_and_unreachable_servers_never_cause_a_fall(story):
    treatment = Treatment(floor=Level.VERIFIED, within=1.0, methods=(MethodName.TLS, MethodName.PORTAL))
    steps, _, portal = asyncio.run(play(treatment, story))
    assert portal.rendered == []
    assert all(after is None or after.method is MethodName.TLS for _, _, _, after, _ in steps)


@settings(max_examples=60, deadline=None)
@given(STORY, st.sampled_from(Otherwise))
def test_when_no_method_is_left_the_rule_says_what_comes_and_nothing_goes_lower(story, otherwise):
    treatment = Treatment(
        floor=Level.VERIFIED, within=30.0, methods=(MethodName.TLS, MethodName.PORTAL), otherwise=otherwise
    )
    steps, fates, _ = asyncio.run(play(treatment, story, works=False))
    for _, _, before, after, asked in steps:
        assert all(level >= Level.VERIFIED for _, level, _ in asked)
        if before.method is MethodName.PORTAL:
            assert asked == []
            if otherwise is Otherwise.BOUNCE:
                assert after is None
            else:
                assert after.state is (EntryState.HELD if otherwise is Otherwise.HOLD else EntryState.READY)
    if any(before.method is MethodName.PORTAL for _, _, before, _, _ in steps) and otherwise is Otherwise.BOUNCE:
        assert fates == {0: "bounced"}
