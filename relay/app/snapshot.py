"""A validated configuration frozen into one directory: settings and every policy file, named by what they hold.

The supervisor validates and writes; the other processes read just that, so that nothing edited in between can make
two of them differ.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relay.app.current import point_at
from relay.config.settings import Settings
from relay.config.snapshot import from_snapshot, snapshot
from relay.core.errors import Problem, ProblemsError

_SETTINGS: Final = "settings.json"
_POLICY: Final = "policy"
_ROOT: Final = "policy-root"
_TUNING: Final = "tuning.yaml"
_KEPT: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """What a snapshot holds: settings whose ``policy`` is the frozen copy of the root file."""

    settings: Settings
    directory: Path


def home(run_dir: Path) -> Path:
    """Where snapshots are."""
    return run_dir / "config"


def write(
    settings: Settings, policy_version: str, policy_files: Sequence[str], *, version_of: Callable[[Path], str]
) -> Path:
    """Freeze a configuration and point ``current`` at it; the directory.

    Args:
        settings: validated.
        policy_version: of the compiled policy.
        policy_files: every file it was read from, the root first.
        version_of: compiles the policy with this root file; its version.

    Raises:
        ProblemsError: it cannot be written, or a policy file was edited between its proof and its copy.
    """
    _, content = snapshot(settings)
    tuning = tuning_of(settings)
    digest = hashlib.sha256(content + policy_version.encode() + tuning).hexdigest()[:32]
    base = home(settings.run_dir)
    target = base / digest
    try:
        base.mkdir(mode=0o750, parents=True, exist_ok=True)
        if not target.exists():
            fresh = base / f".{digest}.{os.getpid()}"
            shutil.rmtree(fresh, ignore_errors=True)
            _fill(fresh, content, settings.policy, policy_files)
            if settings.scan.tuning is not None:
                (fresh / _TUNING).write_bytes(tuning)
            if version_of((fresh / _ROOT).resolve(strict=True)) != policy_version:
                shutil.rmtree(fresh)
                what, hint = "a policy file was edited while it was read", "reload again"
                raise ProblemsError(Problem(where=str(settings.policy), what=what, hint=hint))
            fresh.replace(target)
        point_at(target)
        _prune(base, keep=target)
    except OSError as error:
        what = f"the snapshot cannot be written: {error.strerror}"
        raise ProblemsError(Problem(where=str(base), what=what, hint="check run_dir")) from error
    return target


def tuning_of(settings: Settings) -> bytes:
    """What the scan's tuning file holds; empty without one.

    Raises:
        OSError: it cannot be read.
    """
    return settings.scan.tuning.read_bytes() if settings.scan.tuning is not None else b""


def _fill(fresh: Path, content: bytes, root: Path, policy_files: Sequence[str]) -> None:
    fresh.mkdir(mode=0o750)
    (fresh / _SETTINGS).write_bytes(content)
    # As named, not as links resolve: what a file includes is found beside its name.
    places = {Path(os.path.abspath(name)): name for name in (str(root), *policy_files)}  # noqa: PTH100  without following links
    files = list(places)
    common = Path(os.path.commonpath([file.parent for file in files]))
    for file, source in places.items():
        copy = fresh / _POLICY / file.relative_to(common)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
    (fresh / _ROOT).symlink_to(Path(_POLICY) / files[0].relative_to(common))


def read(directory: Path) -> Frozen:
    """Read a snapshot.

    Raises:
        ProblemsError: it is missing or damaged.
    """
    try:
        directory = directory.resolve(strict=True)
        content = (directory / _SETTINGS).read_bytes()
        root = (directory / _ROOT).resolve(strict=True)
    except OSError as error:
        what = f"the snapshot cannot be read: {error.strerror}"
        raise ProblemsError(Problem(where=str(directory), what=what, hint="start through `postern run`")) from error
    settings = from_snapshot(content).model_copy(update={"policy": root})
    if settings.scan.tuning is not None:
        scan = settings.scan.model_copy(update={"tuning": directory / _TUNING})
        settings = settings.model_copy(update={"scan": scan})
    return Frozen(settings=settings, directory=directory)


def _prune(base: Path, *, keep: Path) -> None:
    """Forget old snapshots; the newest few stay for processes that are just starting with them."""
    old = sorted(
        (entry for entry in base.iterdir() if entry.is_dir() and not entry.is_symlink() and entry != keep),
        key=lambda entry: entry.stat().st_mtime,
    )
    for entry in old[: max(0, len(old) - _KEPT)]:
        with contextlib.suppress(OSError):  # a leftover costs room alone, and the next reload tries again
            shutil.rmtree(entry)
