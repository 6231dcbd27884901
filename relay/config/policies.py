"""Policy files on disk: reads the root, its includes and lists, and notices when any of them changes."""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from relay.config.stamps import Stamp, stamps
from relay.core.address import Address
from relay.core.decision import Explanation, MethodName, PolicyDecision
from relay.core.envelope import MessageFacts
from relay.core.errors import Problem, ProblemsError
from relay.core.level import Level
from relay.core.ports import Clock, ScanReport
from relay.policy.compile import SourceFile, Sources, compile_policy
from relay.policy.engine import CompiledPolicy
from relay.policy.read import read
from relay.policy.selftest import run_tests
from relay.policy.source import parse

MAX_FILES: Final = 100
MAX_FILE_OCTETS: Final = 1024 * 1024
MAX_LIST_OCTETS: Final = 64 * 1024 * 1024
_BUILTIN: Final = ("consumer-mailbox-providers",)


def load_policy(path: Path, *, methods: frozenset[MethodName], now: float) -> CompiledPolicy:
    """Read and compile a policy: its root, its includes and its list files.

    Args:
        path: the root file.
        methods: the methods that are configured.
        now: unix seconds.

    Raises:
        ProblemsError: with every fault's file:line:column and a hint, all at once.
    """
    reader = _Reader()
    reader.include(path, (), "")
    return reader.compile(methods, now)


def prove_mode(policy: CompiledPolicy, path: Path) -> Iterator[Problem]:
    """Why a policy that compiles cannot be in force: it is there to be asked only."""
    if policy.mode == "shadow":
        hint = "set mode: enforce, or name another as the policy"
        yield Problem(where=str(path), what="a policy in `mode: shadow` decides nothing", hint=hint)


class _Reader:
    def __init__(self) -> None:
        self.files: list[SourceFile] = []
        self.csv: dict[tuple[str, str], tuple[str, str]] = {}
        self.names: list[str] = []
        self.stamps: list[Stamp] = []
        """Taken before each file was read, so that an edit meanwhile is seen at the next look."""
        self.problems: list[Problem] = []
        self._seen: set[Path] = set()

    def sources(self) -> Sources:
        return Sources(files=tuple(self.files), csv=self.csv, builtin=builtin_lists(), names=tuple(self.names))

    def include(self, path: Path, chain: tuple[Path, ...], where: str) -> None:
        real = Path(os.path.realpath(path))  # Path.resolve() of 3.11 raises on a ring of links
        if real in chain:
            names = " -> ".join(step.name for step in (*chain, real))
            self.problems.append(Problem(where=where, what=f"files include each other: {names}", hint="remove one"))
            return
        if real in self._seen:
            return
        if len(self._seen) >= MAX_FILES:
            self.problems.append(Problem(where=where, what=f"more than {MAX_FILES} files", hint="join some"))
            return
        self._seen.add(real)
        text = self._text(path, where, MAX_FILE_OCTETS, "a policy file")
        if text is None:
            return
        try:
            document = parse(text, os.path.normpath(path))
        except ProblemsError as error:
            self.problems += error.problems
            return
        content = read(document, self.problems)
        if content is None:
            return
        for number, name in enumerate(content.include):
            place = document.where("include", number)
            if Path(name).is_absolute():
                hint = "give it relative to this file"
                self.problems.append(Problem(where=place, what=f"`{name}` is an absolute path", hint=hint))
            else:
                self.include(path.parent / name, (*chain, real), place)
        for name, source in content.lists.items():
            if source.file is not None:
                file = path.parent / source.file
                rows = self._text(file, document.where("lists", name, "file"), MAX_LIST_OCTETS, "a list file")
                if rows is not None:
                    self.csv[document.name, name] = (os.path.normpath(file), rows)
        self.files.append(SourceFile(document, content))

    def compile(self, methods: frozenset[MethodName], now: float) -> CompiledPolicy:
        """Compile what was read; what could not be read is told of together with what does not compile.

        Not when a policy file is missing from the picture: what it defines would be missed everywhere.
        """
        if len(self.files) == len(self._seen):
            try:
                policy = compile_policy(self.sources(), methods=methods, now=now, zone=ZoneInfo)
            except ProblemsError as error:
                self.problems += error.problems
        if self.problems:
            raise ProblemsError(*dict.fromkeys(self.problems))
        return policy

    def _text(self, path: Path, where: str, limit: int, kind: str) -> str | None:
        self.names.append(str(path))
        self.stamps += stamps((str(path),))
        hint = ""
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                what = "not a file"
            elif status.st_size > limit:
                what, hint = f"larger than {limit // 1024} KiB", "split it"
            else:
                return path.read_text(encoding="utf-8")
        except FileNotFoundError:
            near = [one.name for one in sorted(path.parent.glob(f"*{path.suffix}"))[:8]] if path.parent.is_dir() else []
            what, hint = "there is no such file", f"beside it: {', '.join(near)}" if near else ""
        except (OSError, ValueError) as error:
            what = error.strerror or "cannot be read" if isinstance(error, OSError) else "not UTF-8 text"
        told = f"{kind}, {path}: {what}" if where else what
        self.problems.append(Problem(where=where or str(path), what=told, hint=hint))
        return None


def builtin_lists() -> Mapping[str, str]:
    """Contents of the lists that ship with Postern."""
    data = resources.files("relay.policy") / "data"
    return {name: (data / f"{name}.txt").read_text(encoding="utf-8") for name in _BUILTIN}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """What looking at the files led to.

    Attributes:
        changed: whether the running policy is another one now.
        version: of the running policy.
        problems: why the files were refused; the policy that ran before still runs.
    """

    changed: bool
    version: str
    problems: tuple[Problem, ...] = ()


class RunningPolicy:
    """The policy in force, a ``PolicyEngine``: replaced only by files that compile and whose tests all pass.

    Args:
        path: the root file.
        methods: the methods that are configured.
        clock: unix seconds.
        scan: reads a test's message; without it the tests inside are not run.

    Raises:
        ProblemsError: the first load is refused: there is nothing to fall back to.
    """

    def __init__(
        self,
        path: Path,
        *,
        methods: frozenset[MethodName],
        clock: Clock,
        scan: Callable[[bytes, str], ScanReport] | None = None,
    ) -> None:
        self._path, self._methods, self._clock, self._scan = path, methods, clock, scan
        self._stamps: tuple[Stamp, ...] = ()
        self.current = self._load()

    @property
    def version(self) -> str:
        """SHA-256 of the canonical form with the contents of its lists, hex."""
        return self.current.version

    def decide(self, facts: MessageFacts, recipient: Address) -> PolicyDecision:
        """Judge one recipient's copy; see :meth:`CompiledPolicy.decide`."""
        return self.current.decide(facts, recipient)

    def floor(self, facts: MessageFacts, recipient: Address) -> Level:
        """The floor now; see :meth:`CompiledPolicy.floor`."""
        return self.current.floor(facts, recipient)

    @property
    def stamps(self) -> tuple[Stamp, ...]:
        """Of the files that it was read from, as they stood before each was read."""
        return self._stamps

    def explain(self, facts: MessageFacts, recipient: Address) -> Explanation:
        """The decision with every condition's value; see :meth:`CompiledPolicy.explain`."""
        return self.current.explain(facts, recipient)

    def reload(self, *, force: bool = False) -> Reload:
        """Look at the files; take them up when they changed (or ``force``), compile, and all their tests pass.

        Never raises: files that cannot be taken up are told of in ``problems``, once for each change of the files.
        """
        if not force and self._stamps == stamps(tuple(stamp[0] for stamp in self._stamps)):
            return Reload(changed=False, version=self.version)
        before = self.version
        try:
            self.current = self._load()
        except ProblemsError as error:
            return Reload(changed=False, version=before, problems=error.problems)
        return Reload(changed=self.version != before, version=self.version)

    def _load(self) -> CompiledPolicy:
        reader = _Reader()
        reader.include(self._path, (), "")
        self._stamps = tuple(reader.stamps)
        policy = reader.compile(self._methods, self._clock())
        if refused := tuple(prove_mode(policy, self._path)):
            raise ProblemsError(*refused)
        results = run_tests(policy, self._scan) if self._scan else ()
        if failed := [problem for result in results for problem in result.problems]:
            raise ProblemsError(*failed)
        return policy
