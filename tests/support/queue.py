"""Messages and entries for tests of the queue, and stores to put them in."""

import asyncio
import itertools
import uuid
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

import pytest

from relay.core.address import Address, ReversePath
from relay.core.change import AuditEvent, Keep, Note
from relay.core.decision import MethodName, Treatment
from relay.core.entry import EntryState, QueueEntry, RecipientState
from relay.core.envelope import ClientSession, Envelope, Message, Origin, Recipient
from relay.core.errors import StoreUnavailableError
from relay.core.ports import QueueFilter, QueueStore
from relay.store import MemoryData, MemoryStore, SqliteStore, StoreOptions
from relay.store.postgres.options import PostgresOptions
from relay.store.postgres.store import PostgresStore
from tests.support.postgres import shared
from tests.support.vault import FakeVault

T = TypeVar("T")
NOW = 1_000_000.0
DAY = 86_400.0
BODY = b"Subject: planted-subject\r\n\r\nplanted-body\r\n"


class ManualClock:
    """A clock that moves when told."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def a_message(name: str = "m1", *, recipients: Iterable[str] = ("planted-bob@example.org",), **fields) -> Message:
    return Message(
        **{
            "id": name,
            "origin": Origin.CLIENT,
            "received_at": NOW,
            "session": ClientSession(client="ehr", listener="relay", network="127.0.0.1", helo="planted-helo"),
            "envelope": Envelope(
                reverse_path=ReversePath(Address.parse("planted-al@clinic.example")),
                recipients=tuple(Recipient(address=Address.parse(text)) for text in recipients),
            ),
            "size": len(BODY),
        }
        | fields
    )


def an_entry(message: Message, number: int = 0, *, priority: int = 0, numbers=None, **fields) -> QueueEntry:
    everyone = message.envelope.recipients
    return QueueEntry(
        **{
            "id": f"{message.id}.{number}",
            "message_id": message.id,
            "destination": "example.org",
            "treatment": Treatment(rule="default", priority=priority, notify=("planted-officer@clinic.example",)),
            "method": MethodName.TLS,
            "recipients": tuple(
                RecipientState(number=place, recipient=everyone[place])
                for place in (range(len(everyone)) if numbers is None else numbers)
            ),
            "state": EntryState.READY,
            "created_at": NOW,
            "due_at": NOW,
            "expires_at": NOW + 5 * DAY,
        }
        | fields
    )


def an_event(kind: str = "accepted", message_id: str = "m1", **facts) -> AuditEvent:
    return AuditEvent(kind=kind, at=NOW, message_id=message_id, facts=facts)


def keeping(name: str = "m1", *, content: bytes = BODY, leased: bool = False, note: bool = False, **fields):
    """A unit that keeps one message with one entry, and the entry."""
    message = a_message(name, size=len(content))
    entry = an_entry(message, **fields)
    keep = Keep(message=message, content=content, entries=(entry,), leased=frozenset({entry.id} if leased else ()))
    events = (Note(events=(an_event(message_id=name, recipients=["planted-bob@example.org"]),)),) if note else ()
    return (keep, *events), entry


async def listed(store: QueueStore) -> list[str]:
    """The ids of what is in the queue."""
    return [entry.id async for entry in store.entries(QueueFilter())]


async def until_there(call: Callable[[], Awaitable[T]]) -> T:
    """What a call answers once the database is back."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await call()
            except StoreUnavailableError:
                await asyncio.sleep(0.02)


class MemoryHarness:
    """Opens memory stores over one shared state."""

    kind = "memory"

    def __init__(self, directory: Path, clock: ManualClock, options: StoreOptions) -> None:
        self.clock = clock
        self._options = options
        self._data = MemoryData()
        self._names = (f"node-{number}" for number in itertools.count())
        self._opened: list = []

    def _build(self):
        return MemoryStore(FakeVault(), self.clock, self._options, self._data)

    async def open(self):
        store = self._build()
        await store.open(next(self._names))
        self._opened.append(store)
        return store

    async def close(self, store) -> None:
        self._opened.remove(store)
        await store.close()

    async def die(self, store) -> None:
        """What a kill -9 leaves: leases in place, nobody alive to hold them."""
        self._opened.remove(store)
        self._data.alive.discard(store._name)

    async def damage(self, table: str, key: str) -> None:
        if table == "details":
            stored = self._data.entries[key]
            stored.row = stored.row._replace(sealed=b"\0" * len(stored.row.sealed))
        else:
            kept = self._data.messages[key]
            self._data.messages[key] = kept._replace(body=b"\0" * len(kept.body))

    async def mislay(self, table: str, key: str) -> None:
        """Change a row's key, as one flipped bit does: nobody finds the row any more."""
        if table == "details":
            stored = self._data.entries[key]
            stored.row = stored.row._replace(sealed=b"")
        else:
            self._data.messages[key] = self._data.messages[key]._replace(facts=b"")

    async def end(self) -> None:
        for store in list(self._opened):
            await self.close(store)


class SqliteHarness(MemoryHarness):
    """Opens SQLite stores on one directory, each as a process of its own would."""

    kind = "sqlite"

    def __init__(self, directory: Path, clock: ManualClock, options: StoreOptions) -> None:
        super().__init__(directory, clock, options)
        self.directory = directory

    def _build(self):
        return SqliteStore(self.directory / "data", self.directory / "run", FakeVault(), self._options, self.clock)

    async def die(self, store) -> None:
        self._opened.remove(store)
        await store._writer.stop()
        store._reader.close()
        store._opened.close(remove=False)

    async def damage(self, table: str, key: str) -> None:
        import apsw

        column = "entry_id" if table == "details" else "message_id"
        connection = apsw.Connection(str(self.directory / "data/queue.db"))
        connection.execute(f"UPDATE {table} SET sealed = zeroblob(length(sealed)) WHERE {column} = ?", (key,))
        connection.close()

    async def mislay(self, table: str, key: str) -> None:
        import apsw

        column = "entry_id" if table == "details" else "id"
        connection = apsw.Connection(str(self.directory / "data/queue.db"))
        connection.execute(f"UPDATE {table} SET {column} = {column} || 'p' WHERE {column} = ?", (key,))
        connection.close()


class PostgresHarness(MemoryHarness):
    """Opens PostgreSQL stores on one schema of the tests' own server, each as a process of its own would."""

    kind = "postgres"

    def __init__(self, directory: Path, clock: ManualClock, options: StoreOptions, *, cluster=None) -> None:
        super().__init__(directory, clock, options)
        self.cluster = shared() if cluster is None else cluster
        self.schema = f"t{uuid.uuid4().hex}"
        self.postgres = PostgresOptions(dsn=self.cluster.dsn, node="node", schema=self.schema)

    def _build(self):
        return PostgresStore(self.postgres, FakeVault(), self._options, self.clock)

    async def die(self, store) -> None:
        """A process that is killed, and whose lease has run out since."""
        self._opened.remove(store)
        number = store._pulse.number
        await store._writer.stop()
        await store._close_lines()
        self.sql("UPDATE incarnations SET ends_at = clock_timestamp() - interval '1 s' WHERE number = %s", (number,))

    async def damage(self, table: str, key: str) -> None:
        column = "entry_id" if table == "details" else "message_id"
        query = f"UPDATE {table} SET sealed = decode(repeat('00', length(sealed)), 'hex') WHERE {column} = %s"
        self.sql(query, (key,))

    async def mislay(self, table: str, key: str) -> None:
        column = "entry_id" if table == "details" else "id"
        self.sql(f"UPDATE {table} SET {column} = {column} || 'p' WHERE {column} = %s", (key,))

    def sql(self, query: str, values=()) -> list[tuple]:
        return self.cluster.sql(query, values, schema=self.schema)

    async def end(self) -> None:
        await super().end()
        self.sql(f'DROP SCHEMA IF EXISTS "{self.schema}" CASCADE')


HARNESSES = {"memory": MemoryHarness, "sqlite": SqliteHarness, "postgres": PostgresHarness}
KINDS = ["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.peers)]
