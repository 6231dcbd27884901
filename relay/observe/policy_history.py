"""Which policy ran when, on which node, and what it said: kept in the store, for whoever must answer for a decision.

The audit trail names the version of the policy with every decision; here is what that version was. Policy files are
kept as they were written; of list files only their size and digest, for they hold patients' addresses. All of it is
sealed (law 7), and sealed anew once the key ring has a newer key.
"""

import hashlib
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
import structlog

from relay.core.errors import CorruptError, SealError
from relay.core.ports import Clock, Knowledge, Known, Vault

_log = structlog.get_logger("policy")
TEXTS: Final = "policy"
RUNS: Final = "policy-run"
_PURPOSE: Final = "policy"
_MOST: Final = 8 * 1024 * 1024
"""Octets of policy files kept of one version; what comes after is kept as its digest."""
_HEADER: Final = 7
"""Octets that name the key (relay/protect/sealing.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFile:
    """One file of a policy.

    Attributes:
        name: relative to the root file.
        size: octets.
        sha256: of its octets, hex.
        text: what it said; empty for lists, and for what is too large.
    """

    name: str
    size: int
    sha256: str
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyText:
    """What one version was. ``name`` is the policy's."""

    version: str
    name: str
    files: tuple[PolicyFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRun:
    """A version began to run on a node; it did until the node's next run. ``since`` is unix seconds."""

    node: str
    since: float
    version: str


def read_files(names: Sequence[str]) -> tuple[PolicyFile, ...]:
    """Read a policy's files, the root first; what is not YAML is a list.

    Raises:
        OSError: one cannot be read.
    """
    root, left, found = Path(names[0]).parent, _MOST, []
    for name in dict.fromkeys(names):
        path = Path(name)
        content = path.read_bytes()
        shown = path.suffix in {".yaml", ".yml"} and len(content) <= left
        left -= len(content) if shown else 0
        found.append(
            PolicyFile(
                name=str(path.relative_to(root)) if path.is_relative_to(root) else str(path),
                size=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                text=content.decode("utf-8", "replace") if shown else "",
            )
        )
    return tuple(found)


class PolicyHistory:
    """Notes what runs on this node; one process a node does."""

    def __init__(self, store: Knowledge, vault: Vault, node: str, clock: Clock, *, keep: Callable[[], float]) -> None:
        """Prepare.

        Args:
            store: keeps it.
            vault: seals it.
            node: this node's name.
            clock: unix seconds.
            keep: seconds for which it is kept.
        """
        self._store, self._vault, self._node, self._clock, self._keep = store, vault, node, clock, keep
        self._noted = ("", b"")

    async def note(self, version: str, name: str, names: Sequence[str]) -> None:
        """This version runs here from now on; nothing is done when that is known.

        Raises:
            StoreError: it cannot be kept now; try again.
            OSError: a file cannot be read.
        """
        header = self._vault.seal(_PURPOSE, "", b"")[:_HEADER]
        if self._noted == (version, header):
            return
        until = self._clock() + self._keep()
        if await self._store.known(TEXTS, version) is None:
            text = PolicyText(version=version, name=name, files=read_files(names))
            await self._store.learn(Known(kind=TEXTS, name=version, value=self._sealed(text), until=until))
        await self._seal_anew(header)
        if await self._last() != version:
            began = f"{self._node}/{self._clock():017.6f}"
            await self._store.learn(Known(kind=RUNS, name=began, value=version.encode(), until=until))
        self._noted = (version, header)

    async def _last(self) -> str:
        """The version that this node ran last; empty when it is new."""
        last = ""
        async for known in pages(lambda after: self._store.all_known(RUNS, after=after), f"{self._node}/"):
            if not known.name.startswith(f"{self._node}/"):
                break
            last = known.value.decode()
        return last

    async def _seal_anew(self, header: bytes) -> None:
        """Have no key needed for this alone that could be retired."""
        async for known in pages(lambda after: self._store.all_known(TEXTS, after=after), ""):
            if known.value[:_HEADER] != header:
                try:
                    plain = self._vault.open(_PURPOSE, known.name, known.value)
                except SealError as error:
                    _log.warning("policy_text_not_sealed_anew", policy=known.name[:12], error=str(error))
                    continue
                value = self._vault.seal(_PURPOSE, known.name, plain)
                await self._store.learn(Known(kind=TEXTS, name=known.name, value=value, until=known.until))

    def _sealed(self, text: PolicyText) -> bytes:
        return self._vault.seal(_PURPOSE, text.version, zlib.compress(orjson.dumps(text)))


async def pages(page: Callable[[str], Awaitable[Sequence[Known]]], after: str) -> AsyncIterator[Known]:
    """All that a paged question answers, from behind a name."""
    while found := await page(after):
        for known in found:
            yield known
        after = found[-1].name


def opened(known: Known, vault: Vault) -> PolicyText:
    """What one version was.

    Raises:
        CorruptError: it cannot be opened.
    """
    try:
        fields = orjson.loads(zlib.decompress(vault.open(_PURPOSE, known.name, known.value)))
        files = tuple(PolicyFile(**file) for file in fields["files"])
        return PolicyText(version=fields["version"], name=fields["name"], files=files)
    except (SealError, zlib.error, orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise CorruptError(f"policy {known.name[:12]} cannot be opened: {error}") from error


def run_of(known: Known) -> PolicyRun:
    """One run.

    Raises:
        CorruptError: it was not written by :class:`PolicyHistory`.
    """
    node, _, since = known.name.rpartition("/")
    try:
        return PolicyRun(node=node, since=float(since), version=known.value.decode("ascii"))
    except ValueError as error:
        raise CorruptError(f"a run of the policy history cannot be read: {known.name}") from error
