"""What one kind of database must do for the portal's tables: a cursor, a connection, a driver."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol


class Cursor(Protocol):
    """What a function of tables may do, inside a transaction."""

    def run(self, sql: str, *bindings: Any) -> int:
        """Execute; how many rows it changed."""

    def rows(self, sql: str, *bindings: Any) -> list[tuple[Any, ...]]:
        """Execute; all rows it gives."""

    def row(self, sql: str, *bindings: Any) -> tuple[Any, ...] | None:
        """Execute; the first row, or ``None``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The tables of one module.

    Attributes:
        module: whose; its version is kept under this name.
        steps: the statements that lead from version N to N + 1; what has been released is never edited, only added to.
    """

    module: str
    steps: tuple[tuple[str, ...], ...]


class Link(Cursor, Protocol):
    """One connection, of one thread at a time."""

    def close(self) -> None:
        """Close it; never raises."""


class Driver(Protocol):
    """A kind of database."""

    def prepare(self, schemas: Sequence[Schema]) -> None:
        """Make and migrate the tables.

        Raises:
            ProblemsError: it cannot be used as it is.
        """

    def connect(self, *, writing: bool) -> Link:
        """Open a connection."""

    def turn(self) -> AbstractContextManager[None]:
        """Wait for this process's turn to write."""

    def begin(self, link: Link, *, writing: bool) -> None:
        """Begin a transaction; reads within one see one state."""

    def commit(self, link: Link) -> Link:
        """Commit: on disk when this returns. The connection to go on with.

        Raises:
            StoreUnavailableError: the database was lost, and whether it committed cannot be learnt.
        """

    def require(self, size: int) -> None:
        """Make sure that there is room for so many octets of what can be refused; from the writer's thread.

        Raises:
            StoreFullError: there is not.
        """

    def is_again(self, error: BaseException) -> bool:
        """Whether the same transaction may go through when it is tried again."""

    def is_lost(self, error: BaseException) -> bool:
        """Whether the connection is of no use any more."""

    def translate(self, error: BaseException) -> BaseException:
        """The store's error for a database's; ends the process where no answer can be trusted (law 1)."""

    def wait(self, seconds: float) -> bool:
        """Block until another process has written something, or the time is over; whether one has. One thread's."""

    def tell(self, link: Link) -> None:
        """Let other processes know at the next commit that there is something to take."""

    def scrub(self) -> bool:
        """Get rid of what deleted rows leave behind, as far as this kind of database lets us; whether it was done."""

    def end_wait(self) -> None:
        """Let :meth:`wait` return soon, now and from now on."""

    def close(self) -> None:
        """Let go of everything but the connections handed out."""
