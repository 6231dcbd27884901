"""A compiled policy at work: decides, says the floor, explains. It never raises; what it cannot decide it holds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from relay.core.address import Address
from relay.core.decision import Action, ConditionTrace, Explanation, PolicyDecision, Treatment
from relay.core.envelope import MessageFacts
from relay.core.errors import Problem
from relay.core.level import Level
from relay.core.phi import Phi
from relay.policy.copy import Copy, Shared
from relay.policy.nodes import Check, Named, Node
from relay.policy.schema import PolicyTest

_MAX_TREATMENTS: Final = 4096


_Key = tuple[str, tuple[str, ...], tuple[str, ...], bool, bool]
"""What a treatment depends on: rule, floors held, tags, and whether it passes over and masks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledFloor:
    """A guarantee."""

    id: str
    node: Node
    require: Level
    overridable: bool
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledRule:
    """A rule.

    Attributes:
        treatment: what it asks for, before floors.
        overrides: ids of floors that it sets aside.
        override_reason: why.
        tags: subject tags that its condition asks for, each with its check.
        masks_from: the verdict over the subject from which the subject is masked; ``None``: it never is.
    """

    id: str
    node: Node
    treatment: Treatment
    overrides: frozenset[str]
    override_reason: str
    tags: tuple[tuple[str, Callable[[Shared], bool]], ...]
    masks_from: Phi | None
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedTest:
    """A test inside the policy, with its place."""

    test: PolicyTest
    where: str


@dataclass(slots=True, kw_only=True, eq=False)
class CompiledPolicy:
    """Implements ``relay.core.ports.PolicyEngine``.

    Attributes:
        name: the policy's name.
        mode: ``enforce``; ``shadow`` is compiled for those who ask about it, and never taken up.
        version: SHA-256 of the canonical form with the contents of its lists, hex.
        loaded_at: unix seconds; list rows that expired before never count.
        floors, rules: in order.
        tests: the tests of all its files.
        warnings: what an operator should look at; none keeps the policy from running.
        files: the files it was made of, as given to the loader.
        named: words of its conditions that only the configuration or the scan knows.
    """

    name: str
    mode: Literal["enforce", "shadow"]
    version: str
    loaded_at: float
    floors: tuple[CompiledFloor, ...]
    rules: tuple[CompiledRule, ...]
    tests: tuple[LocatedTest, ...] = ()
    warnings: tuple[Problem, ...] = ()
    files: tuple[str, ...] = ()
    named: tuple[Named, ...] = ()
    _floor_checks: tuple[tuple[str, Check], ...] = field(init=False, repr=False)
    _rule_checks: tuple[tuple[CompiledRule, Check], ...] = field(init=False, repr=False)
    _treatments: dict[_Key, Treatment] = field(init=False, repr=False)
    _last: Shared | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        self._floor_checks = tuple((floor.id, floor.node.check) for floor in self.floors)
        self._rule_checks = tuple((rule, rule.node.check) for rule in self.rules)
        self._treatments = {}

    def decide(self, facts: MessageFacts, recipient: Address) -> PolicyDecision:
        """Judge one recipient's copy. Never raises: an error holds the message and is in ``error`` (law 3)."""
        try:
            copy = self._copy(facts, recipient)
            for rule, check in self._rule_checks:
                if check(copy):
                    return PolicyDecision(recipient=recipient, treatment=self._treat(rule, copy))
        except Exception as error:  # noqa: BLE001 (law 3: whatever goes wrong here must hold the message)
            return self._hold(recipient, type(error).__name__)
        return self._hold(recipient, "no rule matched")

    def floor(self, facts: MessageFacts, recipient: Address) -> Level:
        """The floor the running policy gives this copy now; ``AUTHENTICATED`` when it cannot be decided."""
        return self.decide(facts, recipient).treatment.floor

    def treatment(self, rule: CompiledRule, held: tuple[str, ...]) -> Treatment:
        """What a rule makes of a copy for which these floors hold, apart from what depends on the message's headers."""
        return self._combine(rule, held, (), passes_over=False, masks=False)

    def explain(self, facts: MessageFacts, recipient: Address) -> Explanation:
        """The decision with every condition's value: all floors, then the rules up to the one that decides.

        Steps are named ``floor ID`` and ``rule ID``. Never raises; a condition that fails says so.
        """
        decision = self.decide(facts, recipient)
        try:
            copy = self._copy(facts, recipient)
        except Exception as error:  # noqa: BLE001 (an explanation must come out even of facts that hold the message)
            copy = Copy(Shared(facts, self.loaded_at), recipient)
            decision = self._hold(recipient, type(error).__name__)
        steps = [(f"floor {floor.id}", *_traced(floor.node, copy)) for floor in self.floors]
        for rule in self.rules:
            matched, traces = _traced(rule.node, copy)
            steps.append((f"rule {rule.id}", matched, traces))
            if matched or rule.id == decision.treatment.rule:
                break
        return Explanation(decision=decision, steps=tuple(steps))

    def _copy(self, facts: MessageFacts, recipient: Address) -> Copy:
        shared = self._last
        if shared is None or shared.facts is not facts:
            self._last = shared = Shared(facts, self.loaded_at)
        copy = Copy(shared, recipient)
        copy.held = tuple([floor for floor, check in self._floor_checks if check(copy)])
        return copy

    def _treat(self, rule: CompiledRule, copy: Copy) -> Treatment:
        tags = tuple([text for text, check in rule.tags if check(copy.shared)]) if rule.tags else ()
        passes_over = rule.treatment.passes_over and copy.shared.tls_not_required
        masks = rule.masks_from is not None and _tells(copy.shared, rule.masks_from)
        key = (rule.id, copy.held, tags, passes_over, masks)
        treatment = self._treatments.get(key)
        if treatment is None:
            if len(self._treatments) >= _MAX_TREATMENTS:
                self._treatments.clear()
            treatment = self._treatments[key] = self._combine(
                rule, copy.held, tags, passes_over=passes_over, masks=masks
            )
        return treatment

    def _combine(
        self, rule: CompiledRule, held: tuple[str, ...], tags: tuple[str, ...], *, passes_over: bool, masks: bool
    ) -> Treatment:
        """A rule's treatment under the floors that hold: the highest binds, save those lawfully set aside."""
        floor = rule.treatment.tls
        overridden = []
        for one in self.floors:
            if one.id not in held:
                continue
            if one.overridable and one.id in rule.overrides:
                overridden.append(one.id)
            else:
                floor = max(floor, one.require)
        return replace(
            rule.treatment,
            floor=floor,
            floors=held,
            overridden=tuple(overridden),
            override_reason=rule.override_reason if overridden else "",
            strip_subject_tags=tags,
            mask_subject=masks,
            # Who passes over what is published reaches `authenticated` never: such a copy would wait for nothing.
            passes_over=passes_over and floor < Level.AUTHENTICATED,
            policy_version=self.version,
        )

    def _hold(self, recipient: Address, why: str) -> PolicyDecision:
        treatment = Treatment(
            action=Action.HOLD,
            tls=Level.AUTHENTICATED,
            floor=Level.AUTHENTICATED,
            reason=f"the policy could not be evaluated: {why}",
            policy_version=self.version,
        )
        return PolicyDecision(recipient=recipient, treatment=treatment, error=why)


def _tells(shared: Shared, least: Phi) -> bool:
    """Whether the subject tells so much of a patient; one that the scan could not read does (law 3)."""
    facts = shared.facts
    return facts.verdict.subject_phi >= least or (shared.unreadable and not facts.subject)


def _traced(node: Node, copy: Copy) -> tuple[bool, tuple[ConditionTrace, ...]]:
    traces = tuple(_trace(node, copy))
    return traces[0].value, traces


def _trace(node: Node, copy: Copy) -> Iterator[ConditionTrace]:
    try:
        value, detail = node.check(copy), node.detail(copy)
    except Exception as error:  # noqa: BLE001 (said in the explanation, and the decision holds the message)
        value, detail = False, f"failed: {type(error).__name__}"
    yield ConditionTrace(path=node.path, value=value, detail=detail)
    for child in node.children:
        yield from _trace(child, copy)
