"""Conditions as trees of closures: one call answers, a walk explains."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relay.policy.copy import Copy, Shared

Check = Callable[[Copy], bool]
Detail = Callable[[Copy], str]


@dataclass(frozen=True, slots=True)
class Node:
    """One condition.

    Attributes:
        path: where it stands under its rule or floor: ``when.all[1].phi``.
        check: whether it holds for a copy.
        detail: the value it judged, in words fit for an operator: no subject, no header value, no matched text.
        children: conditions it combines.
    """

    path: str
    check: Check
    detail: Detail
    children: tuple["Node", ...] = ()


@dataclass(frozen=True, slots=True)
class Named:
    """A word of a condition that only the configuration or the scan knows.

    Attributes:
        what: what it names: ``client``, ``listener``, ``tenant`` or ``finding``.
        word: as the policy has it.
        where: its place in the file.
    """

    what: str
    word: str
    where: str


def say(text: str) -> Detail:
    """A detail that is the same for every copy."""
    return lambda _copy: text


def always(path: str) -> Node:
    """The condition of a rule without ``when``."""
    return Node(path, lambda _copy: True, say("always"))


def every(path: str, children: Sequence[Node]) -> Node:
    """Holds when each child does."""
    return Node(path, _every(tuple(child.check for child in children)), say("all of"), tuple(children))


def joined(path: str, children: Sequence[Node]) -> Node:
    """The keys of one condition, each of which must hold: a single one stands for itself."""
    return children[0] if len(children) == 1 else every(path, children)


def _every(checks: tuple[Check, ...]) -> Check:
    if len(checks) == 1:
        return checks[0]
    if len(checks) == 2:
        first, second = checks
        return lambda copy: first(copy) and second(copy)

    def check(copy: Copy) -> bool:
        for one in checks:  # noqa: SIM110 (all() with a generator costs twice as much on the hot path)
            if not one(copy):
                return False
        return True

    return check


def some(path: str, children: Sequence[Node]) -> Node:
    """Holds when a child does."""
    return Node(path, _some(tuple(child.check for child in children)), say("any of"), tuple(children))


def _some(checks: tuple[Check, ...]) -> Check:
    if len(checks) == 1:
        return checks[0]
    if len(checks) == 2:
        first, second = checks
        return lambda copy: first(copy) or second(copy)

    def check(copy: Copy) -> bool:
        for one in checks:  # noqa: SIM110 (any() with a generator costs twice as much on the hot path)
            if one(copy):
                return True
        return False

    return check


def negate(path: str, child: Node) -> Node:
    """Holds when the child does not."""
    inner = child.check
    return Node(path, lambda copy: not inner(copy), say("not"), (child,))


def remembered(slot: int, check: Callable[[Shared], bool]) -> Check:
    """A check that looks at the message alone: answered once for all its recipients."""

    def remember(copy: Copy) -> bool:
        memo = copy.shared.memo
        value = memo.get(slot)
        if value is None:
            value = memo[slot] = check(copy.shared)
        return value

    return remember
