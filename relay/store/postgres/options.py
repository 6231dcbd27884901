"""Where the database is, and how long each thing may take."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


def _no_password() -> str | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresOptions:
    """Where the database is, and how long each thing may take. Times are seconds.

    Attributes:
        dsn: a libpq connection URI without a password.
        node: this machine's name among the nodes.
        password: asked at every connection, so that a changed file needs no restart; ``None``: libpq looks for one
            itself (PGPASSFILE, a client certificate, peer authentication).
        run_dir: holds a lock a living process of this machine; ``None``: leases of the dead end by the clock alone.
        schema: the schema that holds the tables.
        lease: how long leases outlive the last sign of life, by the database's clock.
        hold: how long this process trusts its leases after its last sign of life was sent, by its own monotonic clock,
            which goes on while the machine sleeps. What is left to ``lease`` bridges differences between clocks after a
            failover, and a message's last bytes.
        beat: between signs of life.
        connect: for one connection.
        statement: for anything the database is asked; past it the connection is given up.
        settle: for finding out whether a commit whose answer was lost took place.
        notify: between two wake-ups told to the other nodes.
        by_database_clock: whether counters' windows go by the database's clock, so that nodes whose clocks differ count
            in the same ones.
    """

    dsn: str
    node: str
    password: Callable[[], str | None] = field(default=_no_password, repr=False)
    run_dir: Path | None = None
    schema: str = "postern"
    lease: float = 45.0
    hold: float = 30.0
    beat: float = 5.0
    connect: float = 5.0
    statement: float = 20.0
    settle: float = 20.0
    notify: float = 0.2
    by_database_clock: bool = False
