"""Law 2: a recipient's copy is sent only in a way that meets its floor."""

import ast
import asyncio
import json
import ssl
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import relay
from relay.core.entry import EntryState
from relay.core.level import Level
from relay.core.phi import FindingGroup, Phi, PhiVerdict
from relay.delivery.routing import Route, RouteTable
from relay.demo.authority import Authority
from relay.demo.behaviour import PeerBehaviour, StartTls
from relay.net.clear import CLEAR_TOTAL, send_in_the_clear
from tests.support.delivering import delivering, named_recipients
from tests.support.net import contexts, transaction
from tests.support.policies import compile_text, finding
from tests.support.queue import KINDS as STORES

pytestmark = pytest.mark.law

MX = "mx.every.example"
CERTIFICATES = ("good", "wrong-name", "expired", "not-yet", "self-signed", "untrusted", "none")
KINDS = [kind for kind in StartTls if kind is not StartTls.STALLS]
DROPS = ("", "banner", "ehlo", "starttls", "mail", "rcpt", "data", "final")
DESTINATIONS = ("open.example", "partner.example")


@pytest.fixture(scope="module")
def world():
    with tempfile.TemporaryDirectory() as directory:
        authority = Authority(Path(directory))
        certificates = {
            "good": authority.issue(MX),
            "wrong-name": authority.issue("mx.other.example"),
            "expired": authority.issue(MX, expired=True),
            "not-yet": authority.issue(MX, not_yet=True),
            "self-signed": authority.issue(MX, self_signed=True),
            "untrusted": authority.untrusted.issue(MX),
            "none": None,
        }
        yield contexts(authority), certificates


# --- policies, and a judge of them that is not the engine ---


@dataclass(frozen=True)
class When:
    """A condition, as the policy writes it and as this test reads it."""

    kind: str
    value: str = ""

    def written(self):
        return {
            "phi": {"phi": self.value},
            "health": {"finding": {"kind": "health"}},
            "domain": {"recipient": {"domain": self.value}},
        }[self.kind]

    def holds(self, copy):
        if self.kind == "phi":
            return copy.phi >= Phi[self.value.upper()]
        return copy.health if self.kind == "health" else copy.domain == self.value


@dataclass(frozen=True)
class Floor:
    when: When
    require: Level
    overridable: bool


@dataclass(frozen=True)
class Rule:
    when: When | None
    tls: str
    override: bool = False
    otherwise: str = "defer"
    within: str | None = None
    hold: bool = False


@dataclass(frozen=True)
class Policy:
    floors: tuple[Floor, ...]
    rules: tuple[Rule, ...]

    def compiled(self):
        overridable = [f"f{number}" for number, floor in enumerate(self.floors) if floor.overridable]
        rules = [self._rule(number, rule, overridable) for number, rule in enumerate(self.rules)]
        floors = [
            {
                "id": f"f{number}",
                "when": one.when.written(),
                "require": one.require.word,
                "overridable": one.overridable,
            }
            for number, one in enumerate(self.floors)
        ]
        return compile_text(json.dumps({"policy": "p", "floor": floors, "rules": rules}))

    @staticmethod
    def _rule(number, rule, overridable):
        written = {"id": f"r{number}"} | ({"when": rule.when.written()} if rule.when else {})
        if rule.hold:
            return written | {"hold": {"reason": "look at it"}}
        deliver = {"methods": ["tls"], "tls": rule.tls, "otherwise": rule.otherwise}
        if rule.within:
            deliver["within"] = rule.within
        override = {"override": {"floors": overridable, "reason": "a lawful reason"}}
        return written | {"deliver": deliver} | (override if rule.override and overridable else {})

    def floor(self, copy):
        """What the policy gives a copy, read from its text and not by the engine."""
        rule = next(rule for rule in self.rules if rule.when is None or rule.when.holds(copy))
        levels = [
            floor.require
            for floor in self.floors
            if floor.when.holds(copy) and not (floor.overridable and rule.override and not rule.hold)
        ]
        return max(Level.CLEAR if rule.hold else Level.from_word(rule.tls), *levels, Level.CLEAR)


@dataclass
class Copy:
    """One recipient's copy, and the floor that was last decided for it."""

    number: int
    domain: str
    phi: Phi
    health: bool
    decided: Level = Level.CLEAR

    @property
    def sender(self):
        return f"sender{self.number}@clinic.example"

    @property
    def recipient(self):
        return f"copy{self.number}@{self.domain}"

    @property
    def content(self):
        head = f"From: {self.sender}\r\nTo: {self.recipient}\r\nSubject: token{self.number}x\r\n"
        return f"{head}\r\ntoken{self.number}x\r\n".encode()

    @property
    def verdict(self):
        findings = (finding(group=FindingGroup.HEALTH),) if self.health else ()
        return PhiVerdict(phi=self.phi, findings=findings)


@dataclass
class Tally:
    """What the examples came to, so that a property that never bites shows."""

    delivered: Counter = field(default_factory=Counter)
    attempts: int = 0
    withheld: int = 0
    notices: int = 0


WHENS = st.one_of(
    st.builds(When, kind=st.just("phi"), value=st.sampled_from([phi.word for phi in Phi if phi])),
    st.just(When("health")),
    st.builds(When, kind=st.just("domain"), value=st.sampled_from(DESTINATIONS)),
)
WORDS = st.sampled_from(["opportunistic", "clear", "encrypted", "verified", "authenticated"])
RULES = st.builds(
    Rule,
    when=WHENS,
    tls=WORDS,
    override=st.booleans(),
    otherwise=st.sampled_from(["defer", "hold", "bounce"]),
    within=st.sampled_from([None, "3s"]),
    hold=st.booleans(),
)
POLICIES = st.builds(
    lambda floors, rules, rest: Policy(tuple(floors), (*rules, replace(rest, when=None, hold=False))),
    st.lists(
        st.builds(Floor, when=WHENS, require=st.sampled_from(list(Level)[1:]), overridable=st.booleans()), max_size=3
    ),
    st.lists(RULES, max_size=2),
    RULES,
)
BEHAVIOURS = st.lists(
    st.tuples(
        st.sampled_from(CERTIFICATES),
        st.sampled_from(KINDS),
        st.sampled_from(DROPS),
        st.sampled_from([False] * 4 + [True]),
    ),
    min_size=1,
    max_size=6,
)
COPIES = st.lists(
    st.tuples(st.sampled_from(DESTINATIONS), st.sampled_from(list(Phi)), st.booleans()), min_size=1, max_size=3
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["attempt", "attempt", "attempt", "reload", "release", "redecide", "retry", "bounce"]),
        st.integers(0, 2),
        st.integers(0, 2),
    ),
    min_size=4,
    max_size=10,
)


def behaviour_of(kinds, certificates):
    """One behaviour a connection, the last for all that follow."""
    whole = None
    for certificate, starttls, drop_at, too_old in reversed(kinds):
        one = PeerBehaviour(
            hostname=MX,
            certificate=certificates[certificate],
            starttls=starttls,
            drop_at=drop_at,
            minimum_tls=ssl.TLSVersion.TLSv1 if too_old else ssl.TLSVersion.TLSv1_2,
            maximum_tls=ssl.TLSVersion.TLSv1_1 if too_old else ssl.TLSVersion.MAXIMUM_SUPPORTED,
        )
        whole = one if whole is None else replace(one, connections=1, then=whole)
    return whole


def reachable(kinds, connection, tls_version, destination):
    """The best level that a connection to this peer can truly have reached, by what the peer itself knows."""
    if not tls_version:
        return Level.CLEAR
    certificate, _, _, too_old = kinds[min(connection, len(kinds)) - 1]
    assert not too_old, "TLS below 1.2 was spoken"
    if certificate != "good":
        return Level.ENCRYPTED
    return Level.AUTHENTICATED if destination.startswith("route:") else Level.VERIFIED


# --- the property ---


class Run:
    """One example: copies, policies and a peer, and every attempt judged by what the peer heard."""

    def __init__(self, it, kinds, policies, copies, tally):
        self.it, self.kinds, self.policies, self.tally = it, kinds, policies, tally
        self.running = policies[0]
        self.copies = [Copy(number, *one) for number, one in enumerate(copies)]

    async def accept(self):
        for copy in self.copies:
            reply = await self.it.accept(copy.sender, copy.recipient, copy.content, copy.verdict)
            assert reply.code == 250
            copy.decided = self.running.floor(copy)
            assert (await self.it.entry_to(copy.recipient)).treatment.floor is copy.decided

    async def step(self, what, who, which):
        if what == "reload":
            self.running = self.policies[which % len(self.policies)]
            self.it.policy.current = self.running.compiled()
            return
        copy = self.copies[who % len(self.copies)]
        entry = await self.it.entry_to(copy.recipient)
        if entry is None:
            return
        if what == "attempt":
            await self.it.due()
            await self.attempt(copy, entry)
            return
        result = await self.it.operate(what, entry.id)
        if what == "redecide" and result.done:
            copy.decided = max(copy.decided, self.running.floor(copy))
        entry = await self.it.entry_to(copy.recipient)
        assert entry is None or entry.treatment.floor is copy.decided

    async def attempt(self, copy, entry):
        floor = max(copy.decided, self.running.floor(copy))
        heard = await self.it.attempt(entry)
        self.judge(heard, entry, floor, (copy.sender, copy.recipient, f"token{copy.number}x"))
        if entry.state is EntryState.HELD:
            assert not named_recipients(heard)

    def judge(self, heard, entry, floor, tokens):
        self.tally.attempts += 1
        spoken = {}
        for piece in heard:
            key = (piece.connection, piece.tls_version)
            spoken[key] = spoken.get(key, b"") + piece.octets
        for (connection, tls_version), octets in spoken.items():
            level = reachable(self.kinds, connection, tls_version, entry.destination)
            if level < floor:
                self.tally.withheld += 1
                assert b"MAIL FROM" not in octets.upper()
                assert not any(token.encode() in octets for token in tokens)
            elif b"\r\n.\r\n" in octets:
                self.tally.delivered[level] += 1

    async def notices(self, inside):
        """Our own notices need ``verified``, or an internal route with the floor that it states."""
        floor = Level.VERIFIED if inside is None else inside
        for entry in await self.it.entries():
            recipient = str(entry.recipients[0].recipient.address)
            if recipient.endswith("@clinic.example"):
                self.tally.notices += 1
                self.judge(await self.it.attempt(entry), entry, floor, (recipient, "token", "copy"))

    def clear_copies_are_counted(self):
        peer = self.it.peer
        clear = sum(1 for message in (*peer.messages, *peer.refused) if message.clear)
        assert self.it.clear_counts.get(CLEAR_TOTAL, 0) >= clear


async def play(world, kind, kinds, policies, copies, steps, inside, tally):
    tls, certificates = world
    behaviour = behaviour_of(kinds, certificates)
    first = policies[0].compiled()
    async with delivering(behaviour, tls, first, hostname=MX, notices_inside=inside, kind=kind) as it:
        run = Run(it, kinds, policies, copies, tally)
        await run.accept()
        for step in steps:
            await run.step(*step)
        await run.notices(inside)
        run.clear_copies_are_counted()


EXAMPLES = {"memory": 400, "sqlite": 15, "postgres": 15}
"""The store has no say in the floor: the others run to show that what they keep comes back as it was decided."""


@pytest.mark.parametrize("kind", STORES)
def test_nothing_whatsoever_sends_a_copy_below_its_floor(world, kind):
    tally = Tally()

    @settings(max_examples=EXAMPLES[kind], deadline=None)
    @given(
        kinds=BEHAVIOURS,
        policies=st.lists(POLICIES, min_size=1, max_size=3),
        copies=COPIES,
        steps=STEPS,
        inside=st.sampled_from([None, Level.CLEAR, Level.ENCRYPTED, Level.VERIFIED]),
    )
    def every_example(kinds, policies, copies, steps, inside):
        asyncio.run(play(world, kind, kinds, policies, copies, steps, inside, tally))

    every_example()
    assert tally.withheld > 0, tally
    if kind != "memory":
        return  # so few examples need not meet everything
    assert tally.notices > 0, tally
    assert set(tally.delivered) >= {Level.CLEAR, Level.ENCRYPTED, Level.VERIFIED}, tally


# --- examples that show that the property can be met, and how ---

GOOD, BARE = ("good", StartTls.OFFERED, "", False), ("none", StartTls.ABSENT, "", False)
SELF_SIGNED = ("self-signed", StartTls.OFFERED, "", False)
BROKEN = ("good", StartTls.BROKEN, "", False)
REST = Rule(None, "opportunistic", otherwise="defer")
PLAIN = Policy((), (REST,))


def phi_floor(level):
    return Policy((Floor(When("phi", "likely"), level, overridable=False),), (REST,))


REACHED = [
    ("open.example", Level.CLEAR, [GOOD], "TLSv1.3"),
    ("open.example", Level.CLEAR, [SELF_SIGNED], "TLSv1.3"),
    ("open.example", Level.CLEAR, [BARE], ""),
    ("open.example", Level.CLEAR, [BROKEN], ""),
    ("open.example", Level.ENCRYPTED, [SELF_SIGNED], "TLSv1.3"),
    ("open.example", Level.ENCRYPTED, [BARE], None),
    ("open.example", Level.ENCRYPTED, [BROKEN], None),
    ("open.example", Level.VERIFIED, [GOOD], "TLSv1.3"),
    ("open.example", Level.VERIFIED, [SELF_SIGNED], None),
    ("open.example", Level.AUTHENTICATED, [GOOD], None),
    ("partner.example", Level.AUTHENTICATED, [GOOD], "TLSv1.3"),
    ("partner.example", Level.AUTHENTICATED, [SELF_SIGNED], None),
]


@pytest.mark.parametrize(("domain", "floor", "kinds", "version"), REACHED)
async def test_a_copy_goes_as_well_as_its_peer_can_or_waits(world, domain, floor, kinds, version):
    tls, certificates = world
    policy = phi_floor(floor) if floor else PLAIN
    compiled = policy.compiled()
    async with delivering(behaviour_of(kinds, certificates), tls, compiled, hostname=MX, notices_inside=None) as it:
        run = Run(it, kinds, [policy], [(domain, Phi.CERTAIN, False)], Tally())
        await run.accept()
        for _ in range(3):
            await run.step("attempt", 0, 0)
        sent = [message.tls_version for message in it.peer.messages]
        assert sent == ([] if version is None else [version])
        assert (await it.entry_to(run.copies[0].recipient) is None) is bool(sent)
        assert it.clear_counts.get(CLEAR_TOTAL, 0) == (version == "")


@pytest.mark.parametrize("kind", STORES)
async def test_a_floor_raised_after_acceptance_holds_and_a_lowered_one_does_not_lower(world, kind):
    tls, certificates = world
    low, high = PLAIN, phi_floor(Level.VERIFIED)
    copy = [("open.example", Phi.CERTAIN, True)]
    for before, after, decided in [(low, high, Level.CLEAR), (high, low, Level.VERIFIED)]:
        compiled = before.compiled()
        async with delivering(
            behaviour_of([BARE], certificates), tls, compiled, hostname=MX, notices_inside=None, kind=kind
        ) as it:
            run = Run(it, [BARE], [before, after], copy, Tally())
            await run.accept()
            assert run.copies[0].decided is decided
            await run.step("reload", 0, 1)
            for operation in ("attempt", "retry", "attempt", "redecide", "attempt"):
                await run.step(operation, 0, 0)
            entry = await it.entry_to(run.copies[0].recipient)
            assert entry.treatment.floor is Level.VERIFIED
            assert it.peer.messages == []
            it.peer.behaviour = behaviour_of([GOOD], certificates)
            run.kinds = [GOOD]
            await run.step("attempt", 0, 0)
            assert [message.tls_version for message in it.peer.messages] == ["TLSv1.3"]


async def test_a_kept_connection_in_the_clear_is_not_used_for_a_protected_copy(world):
    tls, certificates = world
    policy = phi_floor(Level.ENCRYPTED)
    compiled = policy.compiled()
    async with delivering(behaviour_of([BARE], certificates), tls, compiled, hostname=MX, notices_inside=None) as it:
        copies = [("open.example", Phi.NONE, False), ("open.example", Phi.LIKELY, False)]
        run = Run(it, [BARE, SELF_SIGNED], [policy], copies, Tally())
        await run.accept()
        await run.step("attempt", 0, 0)
        it.peer.behaviour = behaviour_of([SELF_SIGNED], certificates)
        await run.step("attempt", 1, 0)
        versions = [(message.connection > 1, bool(message.tls_version)) for message in it.peer.messages]
        assert versions == [(False, False), (True, True)]


@pytest.mark.parametrize("kind", STORES)
async def test_a_notice_written_for_an_internal_route_needs_more_when_the_route_is_internal_no_more(world, kind):
    tls, certificates = world
    compiled = PLAIN.compiled()
    bare = behaviour_of([BARE], certificates)
    async with delivering(bare, tls, compiled, hostname=MX, notices_inside=Level.CLEAR, kind=kind) as it:
        run = Run(it, [BARE], [PLAIN], [("open.example", Phi.NONE, False)], Tally())
        await run.accept()
        await run.step("bounce", 0, 0)
        (notice,) = await it.entries()
        assert notice.treatment.floor is Level.CLEAR
        inside = it.attempter._routes
        outside = Route(name="inside", domains=("clinic.example",), floor=Level.CLEAR)
        it.attempter._routes = RouteTable((outside,))
        assert named_recipients(await it.attempt(notice)) == set()
        it.attempter._routes = inside
        await it.due()
        assert named_recipients(await it.attempt(notice)) == {"sender0@clinic.example"}


# --- sending in the clear is one function ---


def test_sending_in_the_clear_has_one_caller_and_the_caller_asks_first():
    calls, uses = [], []
    root = Path(relay.__file__).parent
    for file in sorted(root.rglob("*.py")):
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "send_in_the_clear":
                calls.append((file.relative_to(root), tree, node))
            if isinstance(node, ast.Name | ast.Attribute) and "send_in_the_clear" in ast.unparse(node).split("."):
                uses.append(file.relative_to(root))
    assert len(calls) == len(uses) == 1, uses
    place, tree, call = calls[0]
    assert place == Path("net/session.py")
    transact = next(
        node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef) and call in list(ast.walk(node))
    )
    assert transact.name == "transact"
    tests = [node for node in transact.body if isinstance(node, ast.If)]
    guard = next(node for node in tests if call in list(ast.walk(node)))
    assert ast.unparse(guard.test) == "self._proof.level is Level.CLEAR"
    earlier = [node for node in tests if node.lineno < guard.lineno]
    below = next(node for node in earlier if ast.unparse(node.test) == "self._proof.level < transaction.floor")
    assert isinstance(below.body[-1], ast.Return), "below the floor nothing goes on"
    after = [node for node in transact.body if node.lineno > guard.lineno]
    assert "self._tls is None" in ast.unparse(after[0]), "with TLS, the live object is compared before anything is sent"
    exchanges = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "_exchange"]
    assert len(exchanges) == 2
    assert all(node in list(ast.walk(transact)) for node in exchanges), "nothing else sends a transaction"


@pytest.mark.parametrize("floor", [level for level in Level if level > Level.CLEAR])
async def test_the_function_itself_refuses_every_floor_but_clear(floor):
    async def never(sent):
        raise RuntimeError("it was sent")

    with pytest.raises(AssertionError, match="was about to be sent in the clear"):
        await send_in_the_clear(never, transaction(floor=floor), None)
