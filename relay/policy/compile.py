"""From files to a policy that runs: everything that is wrong is reported at once."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any, Final

from relay.core.address import Address
from relay.core.decision import Action, HeaderEdit, MethodName, Otherwise, PortalTerms, Treatment
from relay.core.errors import AddressError, Problem, ProblemsError
from relay.core.level import Level
from relay.core.phi import Phi
from relay.policy.conditions import ConditionCompiler, Scope
from relay.policy.engine import CompiledFloor, CompiledPolicy, CompiledRule, LocatedTest
from relay.policy.lists import CompiledList, Members, Row, domain_key, member_key, read_csv, read_lines
from relay.policy.read import closest
from relay.policy.schema import Condition, Deliver, PolicyFile, Portal, Rule
from relay.policy.source import Document, Path

_PRIORITY: Final = {"bulk": -1, "ordinary": 0, "urgent": 1}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One policy file, read and checked against the format."""

    document: Document
    content: PolicyFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """All that a policy is made of.

    Attributes:
        files: included files before those that include them; the root is last.
        csv: (document name, list name) to (name as problems show it, contents) of the list's file.
        builtin: contents of the lists that ship with Postern.
        names: every file read, for watching.
    """

    files: tuple[SourceFile, ...]
    csv: Mapping[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    builtin: Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()


def compile_policy(
    sources: Sources, *, methods: frozenset[MethodName], now: float, zone: Callable[[str], tzinfo]
) -> CompiledPolicy:
    """Compile a policy.

    Args:
        sources: the files.
        methods: the methods that are configured.
        now: unix seconds: list rows that expired before do not count.
        zone: time zones by name; raises ``LookupError`` or ``ValueError`` for an unknown one.

    Raises:
        ProblemsError: with every fault's place and a hint.
    """
    return _Build(sources, methods, now, zone).policy()


class _Build:
    def __init__(
        self, sources: Sources, methods: frozenset[MethodName], now: float, zone: Callable[[str], tzinfo]
    ) -> None:
        self.sources = sources
        self.methods = methods
        self.now = now
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.members: dict[str, tuple[Members, str]] = {}
        for file in sources.files:
            self._lists(file)
        self.floor_ids = [floor.id for file in sources.files for floor in file.content.floor]
        lists = {name: CompiledList(members) for name, (members, _) in self.members.items()}
        self.conditions = ConditionCompiler(
            lists=lists, floors=frozenset(self.floor_ids), zone=zone, problems=self.problems, warnings=self.warnings
        )

    def policy(self) -> CompiledPolicy:
        floors = tuple(floor for file in self.sources.files for floor in self._floors(file))
        overridable = {floor.id: floor.overridable for floor in floors}
        rules = tuple(rule for file in self.sources.files for rule in self._rules(file, overridable))
        self._unique((floor.id, floor.where, "floor") for floor in floors)
        self._unique((rule.id, rule.where, "rule") for rule in rules)
        tests = tuple(test for file in self.sources.files for test in self._tests(file, {rule.id for rule in rules}))
        self._root()
        self._reachable()
        for name, (_, where) in self.members.items():
            if name not in self.conditions.used:
                self.warnings.append(Problem(where=where, what=f"no rule uses the list `{name}`", hint="remove it"))
        if self.problems:
            raise ProblemsError(*_in_order(self.problems))
        root = self.sources.files[-1].content
        return CompiledPolicy(
            name=root.policy or "",
            mode=root.mode,
            version=self._version(),
            loaded_at=self.now,
            floors=floors,
            rules=rules,
            tests=tests,
            warnings=tuple(_in_order(self.warnings)),
            files=self.sources.names,
            named=tuple(self.conditions.named),
        )

    # --- lists --------------------------------------------------------

    def _lists(self, file: SourceFile) -> None:
        for name, source in file.content.lists.items():
            where = file.document.where("lists", name)
            if name in self.members:
                hint = f"first given at {self.members[name][1]}"
                self.problems.append(Problem(where=where, what=f"the list `{name}` is given twice", hint=hint))
                continue
            members = Members(name)
            self.members[name] = (members, where)
            for number, text in enumerate(source.items or ()):
                self._item(members, text, file.document.where("lists", name, "items", number))
            if source.builtin:
                read_lines(members, self.sources.builtin[source.builtin])
            if (file.document.name, name) in self.sources.csv:
                shown, text = self.sources.csv[file.document.name, name]
                faults, warnings = read_csv(members, text, shown, now=self.now)
                self.problems += faults
                self.warnings += warnings

    def _item(self, members: Members, text: str, where: str) -> None:
        try:
            members.add(member_key(text), Row())
        except AddressError as error:
            hint = "an item is a domain, *.domain or an address"
            self.problems.append(Problem(where=where, what=f"`{text[:80]}`: {error}", hint=hint))

    # --- floors -------------------------------------------------------

    def _floors(self, file: SourceFile) -> list[CompiledFloor]:
        compiled = []
        for number, floor in enumerate(file.content.floor):
            scope = Scope(file.document, ("floor", number, "when"), floor=True)
            where = file.document.where("floor", number)
            if floor.require == "clear":
                hint = "the least that binds is encrypted"
                self.warnings.append(Problem(where=where, what=f"the floor `{floor.id}` requires nothing", hint=hint))
            node = self.conditions.compile(floor.when, scope)
            require = Level.from_word(floor.require)
            compiled.append(
                CompiledFloor(id=floor.id, node=node, require=require, overridable=floor.overridable, where=where)
            )
        return compiled

    # --- rules --------------------------------------------------------

    def _rules(self, file: SourceFile, overridable: Mapping[str, bool]) -> list[CompiledRule]:
        compiled = []
        for number, rule in enumerate(file.content.rules):
            path: Path = ("rules", number)
            node = self.conditions.compile(rule.when, Scope(file.document, (*path, "when")))
            tags = tuple(self.conditions.tags)
            self._override(rule, overridable, file.document, path)
            if rule.deliver:
                self._methods(rule, rule.deliver, file.document, path)
            compiled.append(
                CompiledRule(
                    id=rule.id,
                    node=node,
                    treatment=self._treatment(rule, file.document, path),
                    overrides=frozenset(rule.override.floors) if rule.override else frozenset(),
                    override_reason=rule.override.reason if rule.override else "",
                    tags=tags,
                    masks_from=Phi[rule.deliver.mask_subject.upper()]
                    if rule.deliver and rule.deliver.mask_subject
                    else None,
                    where=file.document.where(*path),
                )
            )
        return compiled

    def _override(self, rule: Rule, overridable: Mapping[str, bool], document: Document, path: Path) -> None:
        for number, floor in enumerate(rule.override.floors if rule.override else ()):
            where = document.where(*path, "override", "floors", number)
            if floor not in overridable:
                what, hint = f"there is no floor `{floor}`", closest(floor, overridable)
                self.problems.append(Problem(where=where, what=what, hint=hint))
            elif not overridable[floor]:
                hint = "only a floor with `overridable: true` yields to a rule"
                self.problems.append(Problem(where=where, what=f"the floor `{floor}` is not overridable", hint=hint))

    def _methods(self, rule: Rule, deliver: Deliver, document: Document, path: Path) -> None:
        def where(key: str) -> str:
            return document.where(*path, "deliver", key)

        if len(set(deliver.methods)) != len(deliver.methods):
            what, hint = f"the rule `{rule.id}` names a method twice", "name each once, in order"
            self.problems.append(Problem(where=where("methods"), what=what, hint=hint))
        missing = [method.value for method in deliver.methods if method not in self.methods]
        if len(missing) == len(deliver.methods) and deliver.otherwise is not Otherwise.HOLD:
            what = f"the rule `{rule.id}` is left without a method: {', '.join(missing)} not configured"
            hint = "configure one, or add `otherwise: hold`: such mail then waits for an operator"
            self.problems.append(Problem(where=where("methods"), what=what, hint=hint))
        elif missing:
            what = f"the rule `{rule.id}` names what is not configured: {', '.join(missing)}"
            left = [method.value for method in deliver.methods if method in self.methods]
            hint = f"left: {', '.join(left)}" if left else "all its mail is held for an operator"
            self.warnings.append(Problem(where=where("methods"), what=what, hint=hint))
        if deliver.tls is not None and MethodName.TLS not in deliver.methods:
            what, hint = f"the rule `{rule.id}` gives `tls` and does not use the method tls", "add tls to methods"
            self.warnings.append(Problem(where=where("tls"), what=what, hint=hint))
        if MethodName.TLS in deliver.methods[:-1] and deliver.within is None:
            what = f"the rule `{rule.id}` tries tls until the copy expires, so the methods after it are never taken"
            self.warnings.append(Problem(where=where("methods"), what=what, hint="add within: 15m"))
        if deliver.expire is not None and deliver.within is not None and deliver.within >= deliver.expire:
            what = f"the rule `{rule.id}` lets a copy expire before `within` has passed"
            self.warnings.append(Problem(where=where("within"), what=what, hint="make within shorter than expire"))

    def _treatment(self, rule: Rule, document: Document, path: Path) -> Treatment:
        edits = tuple(HeaderEdit(name=name, value=value) for name, value in rule.add_header.items())
        edits += tuple(HeaderEdit(name=name) for name in rule.remove_header)
        common: dict[str, Any] = {
            "rule": rule.id,
            "headers": edits,
            "route": rule.route,
            "sign_as": self._checked(domain_key, rule.sign, document.where(*path, "sign")) if rule.sign else "",
            "notify": tuple(
                self._checked(lambda text: str(Address.parse(text)), text, document.where(*path, "notify", number))
                for number, text in enumerate(rule.notify)
            ),
        }
        if rule.deliver is None:
            action = Action.HOLD if rule.hold else Action.REJECT
            return Treatment(action=action, reason=(rule.hold or rule.reject).reason, **common)  # type: ignore[union-attr]  # the format asks for one
        deliver = rule.deliver
        return Treatment(
            methods=deliver.methods,
            tls=Level.from_word(deliver.tls or "opportunistic"),
            within=deliver.within,
            otherwise=deliver.otherwise,
            expire_after=deliver.expire,
            warn_after=deliver.warn_after,
            priority=_PRIORITY[deliver.priority],
            passes_over=deliver.tls_required_no,
            portal=_terms(rule.portal),
            **common,
        )

    def _checked(self, read: Callable[[str], str], text: str, where: str) -> str:
        try:
            return read(text)
        except AddressError as error:
            self.problems.append(Problem(where=where, what=f"`{text[:80]}`: {error}", hint=""))
            return ""

    # --- the whole ----------------------------------------------------

    def _tests(self, file: SourceFile, rules: set[str]) -> list[LocatedTest]:
        located = []
        for number, test in enumerate(file.content.tests):
            for key, known in (("rule", rules), ("floors", set(self.floor_ids)), ("overridden", set(self.floor_ids))):
                value = getattr(test.expect, key)
                for name in (value,) if isinstance(value, str) else value or ():
                    if name not in known:
                        where = file.document.where("tests", number, "expect", key)
                        kind = "rule" if key == "rule" else "floor"
                        what, hint = f"there is no {kind} `{name}`", closest(name, known)
                        self.problems.append(Problem(where=where, what=what, hint=hint))
            located.append(LocatedTest(test=test, where=file.document.where("tests", number)))
        return located

    def _unique(self, items: Iterable[tuple[str, str, str]]) -> None:
        seen: dict[str, str] = {}
        for name, where, kind in items:
            if name in seen:
                what, hint = f"the {kind} `{name}` is given twice", f"first given at {seen[name]}; ids are unique"
                self.problems.append(Problem(where=where, what=what, hint=hint))
            seen.setdefault(name, where)

    def _root(self) -> None:
        root = self.sources.files[-1]
        if root.content.policy is None:
            where = root.document.where()
            hint = "begin the root file with: policy: NAME"
            self.problems.append(Problem(where=where, what="the policy has no name", hint=hint))
        rules = root.content.rules
        if not rules or not _always(rules[-1].when):
            path = ("rules", len(rules) - 1) if rules else ()
            self.problems.append(
                Problem(
                    where=root.document.where(*path),
                    what="the root must end with a rule that always matches",
                    hint="end with: - { id: rest, deliver: { methods: [tls], tls: opportunistic } }",
                )
            )
        for file in self.sources.files[:-1]:
            if file.content.mode != "enforce":
                where, hint = file.document.where("mode"), "set it in the root file"
                self.problems.append(Problem(where=where, what="`mode` in an included file", hint=hint))

    def _reachable(self) -> None:
        before = ""
        for file in self.sources.files:
            for number, rule in enumerate(file.content.rules):
                where = file.document.where("rules", number)
                if before:
                    hint = f"`{before}` above it always matches: move this rule up"
                    self.warnings.append(Problem(where=where, what=f"the rule `{rule.id}` never fires", hint=hint))
                elif _always(rule.when):
                    before = rule.id

    def _version(self) -> str:
        rules = [_plain(rule) for file in self.sources.files for rule in file.content.rules]
        floors = [_plain(floor) for file in self.sources.files for floor in file.content.floor]
        lists = sorted((members.canonical() for members, _ in self.members.values()), key=lambda one: str(one[0]))
        mode = self.sources.files[-1].content.mode
        canonical = json.dumps({"floors": floors, "lists": lists, "mode": mode, "rules": rules}, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()


def _terms(portal: Portal | None) -> PortalTerms:
    if portal is None:
        return PortalTerms()
    return PortalTerms(
        reply=portal.reply,
        forward=portal.forward,
        secret=portal.secret or "",
        receipts=portal.receipts,
        expire_after=portal.expire,
    )


def _plain(model: Any) -> dict[str, Any]:
    plain: dict[str, Any] = model.model_dump(mode="json", by_alias=True, exclude={"description"}, exclude_defaults=True)
    return plain


def _always(condition: Condition | None) -> bool:
    """Whether a condition holds for every copy, as far as its form shows."""
    if condition is None or condition.phi == "none" or condition.subject_phi == "none":
        return True
    if condition.any is not None:
        return any(_always(one) for one in condition.any)
    return condition.all is not None and all(_always(one) for one in condition.all)


def _in_order(problems: Iterable[Problem]) -> list[Problem]:
    def key(problem: Problem) -> tuple[str, list[int]]:
        name, *numbers = problem.where.split(":")
        return name, [int(number) for number in numbers if number.isdigit()]

    return sorted(dict.fromkeys(problems), key=key)
