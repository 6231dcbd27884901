"""The queue that the settings name, opened for one process."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from relay.app import options
from relay.app.base import CLOCK
from relay.config.portal import PortalSettings
from relay.config.secret import SecretFile
from relay.config.settings import Settings
from relay.config.store import is_postgres
from relay.config.types import AUTO
from relay.core.ports import Vault
from relay.store import SqliteStore
from relay.store.postgres.options import PostgresOptions

if TYPE_CHECKING:
    from relay.store.postgres.store import PostgresStore

Store: TypeAlias = "SqliteStore | PostgresStore"

SCHEMA: Final = "postern"
"""The database's schema that holds our tables."""


def build_store(
    settings: Settings, vault: Vault, *, observe_batch: Callable[[int], None] = lambda _size: None
) -> Store:
    """The store that ``store`` names, not yet opened."""
    limits = options.store_options(settings)
    if is_postgres(settings.store):
        from relay.store.postgres.store import PostgresStore  # noqa: PLC0415  4 MB of driver that most have no use for

        return PostgresStore(postgres_options(settings), vault, limits, CLOCK, observe_batch=observe_batch)
    return SqliteStore(settings.data_dir / "queue", settings.run_dir, vault, limits, CLOCK, observe_batch=observe_batch)


def postgres_options(settings: Settings) -> PostgresOptions:
    """Where the database is; its password is read anew for each connection."""
    return PostgresOptions(
        dsn=settings.store,
        node=settings.node,
        run_dir=settings.run_dir,
        schema=SCHEMA,
        password=Password(settings.store_password),
        by_database_clock=True,
    )


def portal_postgres(settings: Settings, portal: PortalSettings) -> PostgresOptions | None:
    """Where the portal's tables are: the queue's server, or another; ``None`` where they are in a file."""
    own = portal.store != AUTO
    dsn = portal.store if own else settings.store
    if not is_postgres(dsn):
        return None
    secret = portal.store_password if own else portal.store_password or settings.store_password
    return PostgresOptions(dsn=dsn, node=settings.node, schema=f"{SCHEMA}_portal", password=Password(secret))


class Password:
    """Reads the database's password; a class so that it shows nothing when it is printed."""

    def __init__(self, file: SecretFile | None) -> None:
        self._file = file

    def __call__(self) -> str | None:
        """The password; ``None``: libpq looks for one itself."""
        return None if self._file is None else self._file.read_text()


def incarnation(settings: Settings, process: str) -> str:
    """A name unique to one process's life, for its leases."""
    return f"{settings.node}-{process}-{os.getpid()}-{os.urandom(4).hex()}"


def node_is_draining(store: Store) -> bool:
    """Whether an operator told this node to take no more work; never so where there is but one."""
    return not isinstance(store, SqliteStore) and store.is_draining


def node_position(store: Store) -> tuple[int, int]:
    """This node's place among those that serve, from 0, and their number."""
    return (0, 1) if isinstance(store, SqliteStore) else store.position


def on_nodes(store: Store, hear: Callable[[], None]) -> None:
    """Call ``hear`` when a node begins to serve, or serves no more."""
    if not isinstance(store, SqliteStore):
        store.on_nodes(hear)
