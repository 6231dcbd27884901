"""From a condition of the format to a tree of closures; every fault is reported at its place."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Final, TypeVar

from relay.core.errors import AddressError, Problem
from relay.core.phi import FindingGroup
from relay.policy import leaves
from relay.policy.copy import Copy, Shared
from relay.policy.lists import CompiledList
from relay.policy.near import MAX_MEMBERS
from relay.policy.nodes import Check, Detail, Named, Node, always, every, joined, negate, remembered, say, some
from relay.policy.read import closest
from relay.policy.schema import (
    AttachmentCondition,
    ClientCondition,
    Condition,
    DomainMatch,
    FindingCondition,
    HeaderCondition,
    MailboxCondition,
    SizeCondition,
    SubjectCondition,
    TimeCondition,
)
from relay.policy.source import Document, Path

T = TypeVar("T")
_GROUPS: Final = tuple(group.value for group in FindingGroup)
_SENSITIVE: Final = ("any", "mental-health", "hiv", "substance-use", "reproductive", "genetic")
_SIDES: Final = frozenset({"sender", "recipient"})
_NEVER: Final = Node("", lambda _copy: False, say("could not be compiled"))


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a condition stands.

    Attributes:
        document, path: its place in the file.
        label: its place under its rule or floor, for explanations.
        positive: whether it stands under an even number of ``not``.
        floor: whether it decides over a floor.
    """

    document: Document
    path: Path
    label: str = "when"
    positive: bool = True
    floor: bool = False

    def at(self, *steps: str | int, negated: bool = False) -> "Scope":
        """The scope of something inside."""
        label = self.label + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
        return Scope(self.document, (*self.path, *steps), label, self.positive is not negated, self.floor)


@dataclass(slots=True)
class ConditionCompiler:
    """Compiles the conditions of one policy; ``problems`` collects what is wrong.

    Attributes:
        lists: the policy's lists.
        floors: ids of all its floors.
        zone: time zones by name; raises ``LookupError`` or ``ValueError`` for an unknown one.
        used: names of lists that some condition uses.
        named: what all conditions name and only the configuration or the scan knows.
        tags: subject tags that the condition compiled last asks for (not those under ``not``).
    """

    lists: Mapping[str, CompiledList]
    floors: frozenset[str]
    zone: Callable[[str], tzinfo]
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    named: list[Named] = field(default_factory=list)
    tags: list[tuple[str, Callable[[Shared], bool]]] = field(default_factory=list)
    _slots: int = 0

    def compile(self, condition: Condition | None, scope: Scope) -> Node:
        """The tree of a rule's or floor's condition."""
        self.tags = []
        return always(scope.label) if condition is None else self._node(condition, scope)

    def _node(self, condition: Condition, scope: Scope) -> Node:
        name = next(iter(condition.model_fields_set))
        value = getattr(condition, name)
        key = {"not_": "not"}.get(name, name)
        inside = scope.at(key, negated=key == "not")
        if key in {"all", "any"}:
            children = [self._node(child, inside.at(number)) for number, child in enumerate(value)]
            return every(inside.label, children) if key == "all" else some(inside.label, children)
        if key == "not":
            return negate(inside.label, self._node(value, inside))
        build: Callable[[object, Scope], Node] = getattr(self, f"_{'mailbox' if key in _SIDES else key}")
        try:
            return build(value, inside)
        except (ValueError, AddressError) as error:
            self._fault(inside, f"`{key}`: {error}")
            return _NEVER

    # --- leaves -------------------------------------------------------

    def _client(self, value: ClientCondition, scope: Scope) -> Node:
        nodes = [
            self._session_word(attribute, getattr(value, attribute), scope.at(attribute))
            for attribute in ("name", "identity", "listener", "tenant")
            if getattr(value, attribute) is not None
        ]
        if value.network is not None:
            inside = scope.at("network")
            check = self._guard(inside, lambda: leaves.networks(value.network or ()))
            nodes.append(self._remember(inside, check, lambda copy: copy.facts.session.network or "unknown"))
        return joined(scope.label, nodes)

    def _session_word(self, attribute: str, words: tuple[str, ...], scope: Scope) -> Node:
        wanted = frozenset(words)
        source = {"name": "client"}.get(attribute, attribute)
        if source != "identity":
            self._name(source, words, scope)
        return Node(
            scope.label,
            lambda copy: getattr(copy.facts.session, source) in wanted,
            lambda copy: getattr(copy.facts.session, source) or "none",
        )

    def _mailbox(self, value: MailboxCondition, scope: Scope) -> Node:
        side, nodes = str(scope.path[-1]), []
        if value.address is not None:
            inside = scope.at("address")
            check = self._guard(inside, lambda: leaves.addresses(side, value.address or ()))
            nodes.append(Node(inside.label, check or _never, _domain_of(side)))
        if value.domain is not None:
            nodes.append(self._domain(side, value.domain, scope.at("domain")))
        if value.in_ is not None:
            inside = scope.at("in")
            check = leaves.in_lists(side, self._lists(value.in_, inside))
            nodes.append(Node(inside.label, check, say(f"lists {', '.join(value.in_)}")))
        return joined(scope.label, nodes)

    def _domain(self, side: str, value: DomainMatch, scope: Scope) -> Node:
        members = self._lists(value.in_ or (), scope.at("in"))
        for one in members:
            if one.holds_no_domain():
                hint = f"for addresses write {side}: {{ in: {one.name} }}"
                self._warn(scope.at("in"), f"the list `{one.name}` has addresses only; no domain is in it", hint)
        near = self._lists(value.near or (), scope.at("near"))
        for one in near:
            if len(one.domains()) > MAX_MEMBERS:
                self._fault(scope.at("near"), f"the list `{one.name}` has more than {MAX_MEMBERS} domains")
            else:
                one.prepare_near()
        check = self._guard(scope, lambda: leaves.domains(side, value.is_ or (), members, near))

        def detail(copy: Copy) -> str:
            mailbox = copy.mailbox(side)
            if mailbox is None:
                return "null sender"
            close = next((found for one in near if (found := one.near(mailbox.domain))), "")
            return f"{mailbox.domain}, near {close}" if close else mailbox.domain

        return Node(scope.label, check or _never, detail)

    def _subject(self, value: SubjectCondition, scope: Scope) -> Node:
        nodes = []
        if value.tag is not None:
            found = [(text, leaves.tag(text)) for text in value.tag]
            if scope.positive:
                self.tags += found
            checks = tuple(check for _, check in found)
            inside = scope.at("tag")
            nodes.append(
                self._remember(inside, lambda shared: any(check(shared) for check in checks), say(", ".join(value.tag)))
            )
        if value.matches is not None:
            inside = scope.at("matches")
            searches = self._guard(inside, lambda: tuple(leaves.pattern(text) for text in value.matches or ())) or ()
            nodes.append(
                self._remember(
                    inside, lambda shared: any(search(shared.subject) for search in searches), say("subject")
                )
            )
        return joined(scope.label, nodes)

    def _header(self, value: HeaderCondition, scope: Scope) -> Node:
        check = self._guard(scope.at("matches"), lambda: leaves.header(value))
        return self._remember(scope, check, say(f"header {value.name}"))

    def _size(self, value: SizeCondition, scope: Scope) -> Node:
        self._bounds(value, scope)
        return Node(scope.label, lambda copy: leaves.within(copy.facts.size, value), lambda c: f"{c.facts.size} octets")

    def _phi(self, value: str, scope: Scope) -> Node:
        self._evidence(scope, rising=True)
        return Node(scope.label, leaves.at_least(value, subject=False), lambda c: c.facts.verdict.phi.word)

    def _subject_phi(self, value: str, scope: Scope) -> Node:
        self._evidence(scope, rising=True)
        return Node(scope.label, leaves.at_least(value, subject=True), lambda c: c.facts.verdict.subject_phi.word)

    def _finding(self, value: FindingCondition, scope: Scope) -> Node:
        self._evidence(scope, rising=True)
        count = leaves.counter(value)
        self._name("finding", value.kind or (), scope.at("kind"))
        for kind in value.kind or ():
            if kind.lower() not in _GROUPS and (near := difflib.get_close_matches(kind.lower(), _GROUPS, 1, 0.8)):
                self._warn(scope.at("kind"), f"`{kind}` is taken for a kind of finding", f"did you mean `{near[0]}`?")
        for kind in value.sensitive or ():
            if kind.lower() not in _SENSITIVE:
                self._warn(
                    scope.at("sensitive"), f"the scan knows no sensitive kind `{kind}`", closest(kind, _SENSITIVE)
                )

        def detail(copy: Copy) -> str:
            more = " or more (truncated)" if copy.facts.verdict.truncated else ""
            return f"{count(copy.shared, -1)}{more} of at least {value.count}"

        return self._remember(scope, leaves.finding(value), detail)

    def _floor(self, value: tuple[str, ...], scope: Scope) -> Node:
        if scope.floor:
            self._fault(scope, "a floor cannot depend on a floor", "repeat the other floor's condition")
        for floor in value:
            if floor not in self.floors:
                self._fault(scope, f"there is no floor `{floor}`", closest(floor, self.floors))
        wanted = frozenset(value)
        return Node(
            scope.label,
            lambda copy: not wanted.isdisjoint(copy.held),
            lambda c: f"holding: {', '.join(c.held) or 'none'}",
        )

    def _attachment(self, value: AttachmentCondition, scope: Scope) -> Node:
        if value.unreadable is not None:
            self._evidence(scope, rising=value.unreadable)
        if value.size is not None:
            self._bounds(value.size, scope.at("size"))
        return self._remember(scope, leaves.attachment(value), lambda c: f"{len(c.facts.attachments)} attached")

    def _stream(self, value: str, scope: Scope) -> Node:
        return Node(scope.label, lambda copy: copy.facts.stream == value, lambda copy: copy.facts.stream)

    def _time(self, value: TimeCondition, scope: Scope) -> Node:
        if value.days is None and value.hours is None:
            self._fault(scope, "`time` needs days or hours")
        try:
            zone = self.zone(value.zone)
        except (LookupError, ValueError, OSError):
            hint = "a name of the IANA time zone database: Europe/Berlin; is the package tzdata installed?"
            self._fault(scope.at("zone"), f"there is no time zone `{value.zone[:60]}`", hint)
            return _NEVER
        return self._remember(scope, leaves.when(value.days, value.hours, zone), say(f"time in {value.zone}"))

    # --- helpers ------------------------------------------------------

    def _lists(self, names: tuple[str, ...], scope: Scope) -> tuple[CompiledList, ...]:
        for name in names:
            self.used.add(name)
            if name not in self.lists:
                self._fault(scope, f"there is no list `{name}`", closest(name, self.lists))
        return tuple(self.lists[name] for name in names if name in self.lists)

    def _name(self, what: str, words: tuple[str, ...], scope: Scope) -> None:
        where = scope.document.where(*scope.path)
        self.named += [Named(what, word, where) for word in words]

    def _remember(self, scope: Scope, check: Callable[[Shared], bool] | None, detail: Detail) -> Node:
        self._slots += 1
        compiled: Check = remembered(self._slots, check) if check else _never
        return Node(scope.label, compiled, detail)

    def _bounds(self, value: SizeCondition, scope: Scope) -> None:
        if value.over is not None and value.under is not None and value.over + 1 >= value.under:
            self._fault(scope, "no size is over the one and under the other", "swap over and under")

    def _evidence(self, scope: Scope, *, rising: bool) -> None:
        """A floor must not yield when the scan finds more or can read less (law 3)."""
        if scope.floor and scope.positive is not rising:
            hint = "turn the condition round: name what must be protected"
            self._fault(scope, "this floor would be lifted by a worse verdict of the scan", hint)

    def _guard(self, scope: Scope, build: Callable[[], T]) -> T | None:
        try:
            return build()
        except (ValueError, AddressError) as error:
            self._fault(scope, str(error), "a list's name goes under in:" if isinstance(error, AddressError) else "")
            return None

    def _fault(self, scope: Scope, what: str, hint: str = "") -> None:
        self.problems.append(Problem(where=scope.document.where(*scope.path), what=what, hint=hint))

    def _warn(self, scope: Scope, what: str, hint: str = "") -> None:
        self.warnings.append(Problem(where=scope.document.where(*scope.path), what=what, hint=hint))


def _never(_copy: Copy) -> bool:
    return False


def _domain_of(side: str) -> Detail:
    def detail(copy: Copy) -> str:
        mailbox = copy.mailbox(side)
        return f"a mailbox at {mailbox.domain}" if mailbox else "null sender"

    return detail
