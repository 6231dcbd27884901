"""Which processes of this machine are dead: known at once from their locks, long before their leases run out."""

from collections.abc import Iterable
from pathlib import Path

from relay.core.errors import Problem, ProblemsError
from relay.store.sqlite.lock import LifeLock


class Lives:
    """Locks below the run directory, one a living process; without a directory nothing is known here.

    Only a lock file that is there says anything: another machine that was given the same name by mistake has none.
    """

    def __init__(self, run_dir: Path | None) -> None:
        self._directory = None if run_dir is None else run_dir / "incarnations"
        self._own: LifeLock | None = None

    def begin(self, incarnation: str) -> None:
        """Take this process's lock, for its life.

        Raises:
            ProblemsError: the directory cannot be used.
        """
        if self._directory is None:
            return
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._own = LifeLock(self._directory / incarnation)
        except OSError as error:
            hint = "the run directory must belong to the user Postern runs as"
            what = f"cannot be used: {error.strerror}"
            raise ProblemsError(Problem(where=str(self._directory), what=what, hint=hint)) from error

    def of_the_dead(self, names: Iterable[str]) -> dict[str, LifeLock]:
        """The locks of those that are dead, taken over; the caller closes them once their leases are free."""
        if self._directory is None:
            return {}
        found = {}
        for name in names:
            path = self._directory / name
            lock = LifeLock.of_the_dead(path) if path.exists() else None
            if lock is not None:
                found[name] = lock
        return found

    def end(self) -> None:
        """Give this process's lock up."""
        if self._own is not None:
            self._own.close()
            self._own = None
