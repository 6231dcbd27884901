"""The portal's messages in memory, quick, for tests of the rooms above the store; and databases for its tables' tests.

The contract suite (tests/contract/test_portal_contract.py) holds over the memory and over both databases.
"""

import asyncio
import dataclasses
import functools
import os
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence

import pytest

from relay.core.address import Address, ReversePath
from relay.core.change import AuditEvent
from relay.core.errors import StoreError
from relay.core.portal import (
    FINAL_STATES,
    Deposit,
    DepositFilter,
    DepositState,
    OutboxItem,
    PortalFigures,
    Post,
    taken_over,
)
from relay.protect.keyring import KeyRing
from relay.protect.sealing import RingVault
from relay.store.portal.database import Database
from relay.store.portal.deposits import StoredDeposits
from relay.store.portal.sqlite import SqliteDriver
from relay.store.portal.tables import SCHEMA

PIECE = 64 * 1024


def a_deposit(number: int = 0, **changes) -> Deposit:
    """A deposit as the method makes it; ``changes`` override."""
    values = {
        "id": f"deposit-{number:014d}",
        "message_id": "01J00000000000000000",
        "number": number,
        "mailbox": Address.parse("pat@mail.example"),
        "tenant": "clinic",
        "sender": ReversePath(Address.parse("doctor@clinic.example")),
        "origin_from": "Dr. Ada Example <doctor@clinic.example>",
        "origin_to": ("pat@mail.example",),
        "origin_cc": (),
        "subject": "Your result",
        "date": "Mon, 02 Mar 2026 09:00:00 +0000",
        "size": 0,
        "deposited_at": 1_772_442_000.0,
        "expires_at": 1_772_442_000.0 + 30 * 86_400,
        "reason": "policy",
        "rule": "phi",
    }
    return Deposit(**(values | changes))


class MemoryDeposits:
    """Implements :class:`relay.core.portal.Deposits`; nothing survives it."""

    def __init__(self, *, now=lambda: 0.0) -> None:
        self._now = now
        self._deposits: dict[str, Deposit] = {}
        self._contents: dict[str, bytes] = {}
        self._outbox: dict[int, OutboxItem] = {}
        self._leases: dict[int, tuple[str, float]] = {}
        self._ended: dict[str, float] = {}
        self._word = asyncio.Event()
        self._seq = 0

    @property
    def outbox(self) -> tuple[OutboxItem, ...]:
        """What was handed out and not taken away yet: for asserts."""
        return tuple(self._outbox.values())

    async def deposit(self, deposit: Deposit, content: bytes, *, events: Sequence[AuditEvent] = ()) -> Deposit:
        for there in self._deposits.values():
            if (there.message_id, there.number) == (deposit.message_id, deposit.number):
                return there
        deposit = dataclasses.replace(deposit, size=len(content))
        self._deposits[deposit.id] = deposit
        self._contents[deposit.id] = content
        self._hand_out((), events)
        return deposit

    async def find(self, deposit_id: str) -> Deposit | None:
        return self._deposits.get(deposit_id)

    async def ended_at(self, deposit_id: str) -> float | None:
        return self._ended.get(deposit_id)

    async def of_message(self, message_id: str) -> Sequence[Deposit]:
        found = [deposit for deposit in self._deposits.values() if deposit.message_id == message_id]
        return sorted(found, key=lambda deposit: deposit.number)

    async def page(
        self, where: DepositFilter, *, after: str = "", limit: int = 50, newest_first: bool = True
    ) -> tuple[Sequence[Deposit], str]:
        found = [deposit for deposit in self._deposits.values() if _matches(deposit, where)]
        found.sort(key=lambda deposit: (deposit.deposited_at, deposit.id), reverse=newest_first)
        ids = [deposit.id for deposit in found]
        start = (ids.index(after) + 1 if after in ids else len(ids)) if after else 0
        page = found[start : start + limit]
        return page, page[-1].id if start + limit < len(found) else ""

    async def content(self, deposit_id: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        if deposit_id not in self._contents:
            raise StoreError("there is no such message in the portal, or it is deleted")
        whole = self._contents[deposit_id][start:end]
        for at in range(0, len(whole), PIECE):
            yield whole[at : at + PIECE]

    async def change(
        self,
        deposit: Deposit,
        *,
        expected: DepositState,
        posts: Sequence[Post] = (),
        events: Sequence[AuditEvent] = (),
    ) -> bool:
        there = self._deposits.get(deposit.id)
        if there is None or there.state is not expected:
            return False
        there = taken_over(there, deposit)
        if there is None:
            return False
        if deposit.state in FINAL_STATES and expected not in FINAL_STATES:
            self._contents.pop(deposit.id, None)
            self._ended[deposit.id] = self._now()
            there = dataclasses.replace(there, origin_from="", origin_to=(), origin_cc=(), subject="", date="")
        self._deposits[deposit.id] = there
        self._hand_out(posts, events)
        return True

    async def hand_out(self, *, posts: Sequence[Post] = (), events: Sequence[AuditEvent] = ()) -> None:
        self._hand_out(posts, events)

    def _hand_out(self, posts: Iterable[Post], events: Iterable[AuditEvent]) -> None:
        posts, events = tuple(posts), tuple(events)
        if posts or events:
            self._seq += 1
            self._outbox[self._seq] = OutboxItem(seq=self._seq, id=uuid.uuid4().hex, posts=posts, events=events)
            self._word.set()

    async def prune(self, *, before: float, limit: int) -> int:
        gone = [deposit_id for deposit_id, ended in self._ended.items() if ended < before][:limit]
        for deposit_id in gone:
            del self._ended[deposit_id], self._deposits[deposit_id]
        return len(gone)

    async def scrub(self) -> None:
        """Memory leaves nothing behind."""

    async def word(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._word.wait()
        except TimeoutError:
            return False
        self._word.clear()
        return True

    async def figures(self) -> PortalFigures:
        states = sorted(deposit.state for deposit in self._deposits.values())
        waiting = [d.deposited_at for d in self._deposits.values() if d.state is DepositState.WAITING]
        return PortalFigures(
            by_state=tuple((state, states.count(state)) for state in dict.fromkeys(states)),
            outbox=len(self._outbox),
            oldest_waiting_at=min(waiting, default=None),
        )

    async def due(self, *, now: float, remind_before: float, limit: int) -> Sequence[Deposit]:
        found = [deposit for deposit in self._deposits.values() if _is_due(deposit, now, remind_before)]
        return sorted(found, key=lambda deposit: (deposit.expires_at, deposit.id))[:limit]

    async def take_outbox(self, *, owner: str, lease: float, limit: int) -> Sequence[OutboxItem]:
        now = self._now()
        free = [
            item
            for seq, item in sorted(self._outbox.items())
            if self._leases.get(seq, (owner, 0.0))[0] == owner or self._leases[seq][1] <= now
        ][:limit]
        for item in free:
            self._leases[item.seq] = (owner, now + lease)
        return free

    async def forget_outbox(self, seqs: Sequence[int]) -> None:
        for seq in seqs:
            self._outbox.pop(seq, None)
            self._leases.pop(seq, None)


def _is_due(deposit: Deposit, now: float, remind_before: float) -> bool:
    if deposit.state in FINAL_STATES:
        return False
    if deposit.expires_at <= now:
        return True
    is_unread = deposit.state is DepositState.WAITING and deposit.reminded_at is None
    return is_unread and deposit.expires_at - remind_before <= now


def _matches(deposit: Deposit, where: DepositFilter) -> bool:
    sender = f"{deposit.origin_from} {deposit.sender}".casefold()
    return (
        (where.mailbox is None or deposit.mailbox.key == where.mailbox.key)
        and (where.sender is None or deposit.sender.address == where.sender)
        and (not where.message_id or deposit.message_id == where.message_id)
        and (not where.tenant or deposit.tenant == where.tenant)
        and (not where.states or deposit.state in where.states)
        and (not where.text or where.text.casefold() in sender)
        and (where.since is None or deposit.deposited_at >= where.since)
        and (where.until is None or deposit.deposited_at < where.until)
    )


# --- databases ---


def portal_ring() -> KeyRing:
    """A key ring of the portal's own."""
    return KeyRing.create(now=1_772_000_000.0, random=os.urandom)


class PortalHarness:
    """Opens the portal's store as several processes would; subclasses say which."""

    def __init__(self, directory, now) -> None:
        self.directory, self.now = directory, now
        self.ring = portal_ring()
        self.opened = []

    async def open(self):
        """Another process's view of the same deposits."""
        return StoredDeposits(await self.database(), RingVault(self.ring, os.urandom), self.now, os.urandom)

    async def database(self, *schemas) -> Database:
        """A database opened with these modules' tables, and those of the deposits."""
        database = Database(self.driver())
        await database.open(SCHEMA, *schemas)
        self.opened.append(database)
        return database

    async def end(self) -> None:
        for database in self.opened:
            await database.close()


class MemoryPortal(PortalHarness):
    def __init__(self, directory, now) -> None:
        super().__init__(directory, now)
        self._deposits = MemoryDeposits(now=now)

    async def open(self):
        return self._deposits


class SqlitePortal(PortalHarness):
    def driver(self):
        return SqliteDriver(self.directory / "portal")

    def at_rest(self) -> bytes:
        """Every byte that is on disk."""
        return b"".join(path.read_bytes() for path in sorted((self.directory / "portal").iterdir()))


@functools.cache
def _shared_database():
    """One cluster and one database for all tests of this process; each has a schema of its own in it."""
    from tests.support.postgres import shared

    cluster = shared()
    return cluster, cluster.database()


class PostgresPortal(PortalHarness):
    def __init__(self, directory, now) -> None:
        super().__init__(directory, now)
        self._cluster, self._dsn = _shared_database()
        self._schema = f"portal_{uuid.uuid4().hex}"

    def driver(self):
        from relay.store.portal.postgres import PostgresDriver
        from relay.store.postgres.options import PostgresOptions

        return PostgresDriver(PostgresOptions(dsn=self._dsn, node="n1", schema=self._schema))

    def at_rest(self) -> bytes:
        """Every byte of the tables' files."""
        self._cluster.sql("CHECKPOINT")
        return b"".join(path.read_bytes() for path in sorted(self._cluster.files_of(self._dsn).iterdir()))

    async def end(self) -> None:
        import psycopg

        await super().end()
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {self._schema} CASCADE")


PORTALS = {"memory": MemoryPortal, "sqlite": SqlitePortal, "postgres": PostgresPortal}
PORTAL_KINDS = ["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.peers)]
