"""The queue's durable state behind ``relay.core.ports.QueueStore``: SQLite for one machine, PostgreSQL for several."""

from relay.store.memory import MemoryData, MemoryStore
from relay.store.options import StoreOptions
from relay.store.sqlite.lock import DirectoryLock
from relay.store.sqlite.store import SqliteStore

__all__ = ["DirectoryLock", "MemoryData", "MemoryStore", "SqliteStore", "StoreOptions"]
