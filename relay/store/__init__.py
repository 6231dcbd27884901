"""The queue's durable state behind ``relay.core.ports.QueueStore``: SQLite for one machine, PostgreSQL for several."""

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from relay.store.memory import MemoryData, MemoryStore
    from relay.store.options import StoreOptions
    from relay.store.sqlite.lock import DirectoryLock
    from relay.store.sqlite.store import SqliteStore

__all__ = ["DirectoryLock", "MemoryData", "MemoryStore", "SqliteStore", "StoreOptions"]

_FROM: Final = {
    "DirectoryLock": "sqlite.lock",
    "MemoryData": "memory",
    "MemoryStore": "memory",
    "SqliteStore": "sqlite.store",
    "StoreOptions": "options",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for: the supervisor wants the lock alone, and no process but a test's the store in memory."""
    if name not in _FROM:
        raise AttributeError(name)
    return getattr(importlib.import_module(f"{__name__}.{_FROM[name]}"), name)
