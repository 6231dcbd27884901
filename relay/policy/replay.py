"""What a policy would make of mail that was decided before, from the little that the audit trail keeps of it.

The trail holds who gave a message to whom, its size, the verdict and how many of each kind were found; it holds no
subject, header or attachment (law 4). So a condition has three values here: it holds, it does not, or it cannot be
told. What was decided then often tells: rules before the one that decided did not match, and every floor either held
or not. That counts for a condition that stands unchanged in both policies.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relay.core.address import Address
from relay.core.decision import Treatment
from relay.core.envelope import MessageFacts
from relay.policy.copy import Copy, Shared
from relay.policy.engine import CompiledPolicy
from relay.policy.nodes import Node
from relay.policy.source import parse, walk

_UNSEEN: Final = frozenset({"subject", "header", "attachment"})
_INDEX: Final = re.compile(r"\[\d+\]")
_LISTS: Final = frozenset({"in", "near"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """A policy's conditions as they are written, to see which stand unchanged in another.

    Attributes:
        floors, rules: conditions by id, in a canonical form.
        lists: inline lists by name, in a canonical form.
        before: ids of the rules that are tried before a rule, by its id.
    """

    floors: Mapping[str, str]
    rules: Mapping[str, str]
    lists: Mapping[str, str]
    before: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What was decided then: the rule (empty: none did), the ids of the floors that held, and how the policy read."""

    rule: str
    floors: frozenset[str]
    wording: Wording | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the policy would say.

    Attributes:
        treatment: provided that all of ``unsure`` is as it was then.
        unsure: of what the trail cannot tell whether it matches or holds: ``rule ID``, ``floor ID``.
    """

    treatment: Treatment
    unsure: tuple[str, ...] = ()


def wording(texts: Sequence[str]) -> Wording:
    """Read a policy's files, the root first.

    Raises:
        ProblemsError: one is no YAML.
    """
    floors, rules, lists = dict[str, str](), dict[str, str](), dict[str, str]()
    before: dict[str, frozenset[str]] = {}
    order: list[list[str]] = []
    for text in texts:
        data = parse(text, "policy").data
        floors |= {str(one["id"]): _canonical(one.get("when")) for one in _items(data, "floor")}
        rules |= {str(one["id"]): _canonical(one.get("when")) for one in _items(data, "rules")}
        order.append([str(one["id"]) for one in _items(data, "rules")])
        named = data.get("lists") if isinstance(data, Mapping) else None
        lists |= {name: _canonical(one) for name, one in (named or {}).items() if "file" not in (one or ())}
    included = frozenset(one for ids in order[1:] for one in ids)  # these come before the root's own
    for number, ids in enumerate(order):
        before |= {one: frozenset(ids[:place]) | (included if not number else set()) for place, one in enumerate(ids)}
    return Wording(floors=floors, rules=rules, lists=lists, before=before)


def judge(
    policy: CompiledPolicy, now: Wording, facts: MessageFacts, recipient: Address, then: Decided, *, found: bool
) -> Outcome:
    """What the policy says of a copy that was decided before.

    Args:
        policy: to ask.
        now: how it reads.
        facts: of the message, without subject, headers, attachments and findings.
        recipient: whose copy.
        then: what was decided.
        found: whether the scan found anything: conditions on findings then cannot be told.
    """
    held, matched = _known(now, then)
    copy = Copy(Shared(facts, policy.loaded_at), recipient)
    seen = {floor.id: _truth(floor.node, copy, frozenset(), found=found) for floor in policy.floors}
    floors = {one: held.get(one) if holds is None else holds for one, holds in seen.items()}
    unknown = frozenset(one for one, holds in floors.items() if holds is None)
    copy.held = tuple(one for one, holds in floors.items() if holds or (one in unknown and one in then.floors))
    unsure = [f"floor {one}" for one in floors if one in unknown]
    decides = policy.rules[-1]  # it always matches
    for rule in policy.rules:
        matches = _truth(rule.node, copy, unknown, found=found)
        if matches is None:
            matches = matched.get(rule.id)
        if matches is None:
            unsure.append(f"rule {rule.id}")
        if matches or (matches is None and rule.id == then.rule):
            decides = rule
            break
    return Outcome(treatment=policy.treatment(decides, copy.held), unsure=tuple(unsure))


def _known(now: Wording, then: Decided) -> tuple[Mapping[str, bool], Mapping[str, bool]]:
    """Which floors held and which rules matched then, of those that stand unchanged."""
    old = then.wording
    if old is None or then.rule not in old.rules:
        return {}, {}
    held = {one: one in then.floors for one, when in now.floors.items() if _stands(when, old.floors.get(one), now, old)}
    tried = old.before[then.rule] | {then.rule}
    same = (one for one, when in now.rules.items() if one in tried and _stands(when, old.rules[one], now, old))
    return held, {one: one == then.rule for one in same}


def _stands(when: str, before: str | None, now: Wording, old: Wording) -> bool:
    """Whether a condition is the same, and what it refers to as well."""
    if when != before:
        return False
    for path, value in walk(json.loads(when)):
        if path and path[-1] == "floor":
            return False
        if path and path[-1] in _LISTS:
            names = [value] if isinstance(value, str) else value
            if any(now.lists.get(name) != old.lists.get(name) or name not in old.lists for name in names):
                return False
    return True


def _truth(node: Node, copy: Copy, unknown: frozenset[str], *, found: bool) -> bool | None:
    """Whether a condition holds; ``None`` where the trail cannot tell (Kleene's logic)."""
    steps = _INDEX.sub("", node.path).split(".")
    if node.children:
        values = [_truth(child, copy, unknown, found=found) for child in node.children]
        if steps[-1] == "not":
            return None if values[0] is None else not values[0]
        decides = steps[-1] == "any"  # one that holds decides `any`; one that does not, all else
        return decides if decides in values else None if None in values else not decides
    if not _UNSEEN.isdisjoint(steps) or (found and "finding" in steps):
        return None
    holds = node.check(copy)
    return None if steps[-1] == "floor" and not holds and unknown else holds


def _items(data: Any, key: str) -> Iterator[Mapping[str, Any]]:
    listed = data.get(key) if isinstance(data, Mapping) else None
    yield from (one for one in listed or () if isinstance(one, Mapping) and "id" in one)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
