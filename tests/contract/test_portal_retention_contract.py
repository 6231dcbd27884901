"""Accounts of the portal that nobody uses are deleted, over both databases."""

import os
from dataclasses import replace

import pytest

from relay.core.address import Address
from relay.core.portal import DepositState
from relay.core.portal_accounts import Account, Assurance, Device, Session, SharedSecret
from relay.protect.sealing import RingVault
from relay.store.portal.account_tables import SCHEMA
from relay.store.portal.accounts import StoredAccounts
from relay.store.portal.deposits import StoredDeposits
from relay.store.portal.retention import SCHEMA as RETENTION
from relay.store.portal.retention import Retention
from tests.support.portal import PORTAL_KINDS, PORTALS, a_deposit

NOW = 1_772_442_000.0
DAY = 86_400.0
KEEP = 548 * DAY
PAT, SAM = Address.parse("pat@mail.example"), Address.parse("sam@mail.example")


class Store:
    def __init__(self, harness, database) -> None:
        vault = RingVault(harness.ring, os.urandom)
        self.database = database
        self.accounts = StoredAccounts(database, vault)
        self.deposits = StoredDeposits(database, vault, lambda: NOW, os.urandom)
        self.retention = Retention(database, vault)

    async def account(self, mailbox):
        return await self.accounts.save(Account(mailbox=mailbox, handle=f"handle of {mailbox}", created_at=NOW))

    async def sweep(self, days, limit=50):
        while await self.retention.sweep(now=NOW + days * DAY, keep=KEEP, limit=limit):
            pass

    async def there(self):
        return [mailbox for mailbox in (PAT, SAM) if await self.accounts.account(mailbox) is not None]

    async def events(self):
        items = await self.deposits.take_outbox(owner="w", lease=60, limit=100)
        return [(event.facts["event"], event.facts["recipients"]) for item in items for event in item.events]


@pytest.fixture(params=[kind for kind in PORTAL_KINDS if kind != "memory"])
async def store(request, tmp_path):
    harness = PORTALS[request.param](tmp_path, lambda: NOW)
    yield Store(harness, await harness.database(SCHEMA, RETENTION))
    await harness.end()


async def test_an_account_that_nobody_uses_goes_with_all_that_is_its_own(store):
    for mailbox in (PAT, SAM):
        await store.account(mailbox)
        await store.accounts.set_shared(mailbox, SharedSecret(scope="tenant:clinic", verifier="x"))
    await store.sweep(0, limit=1)
    await store.sweep(300)
    await sign_in(store, SAM, 400)
    await store.sweep(401)
    await store.sweep(549)
    assert await store.there() == [SAM]
    assert await store.events() == [("account-deleted", [str(PAT)])]
    assert await store.accounts.shared(PAT, ["tenant:clinic"]) is None
    assert await store.accounts.shared(SAM, ["tenant:clinic"]) is not None
    rows = await store.database.read(lambda cursor: cursor.rows("SELECT handle FROM account_use"))
    assert rows == [(f"handle of {SAM}",)]


async def test_a_sign_in_counts_after_its_device_is_forgotten(store):
    await store.account(PAT)
    await store.sweep(0)
    await sign_in(store, PAT, 200)
    await store.sweep(201)
    while await store.accounts.sweep(now=NOW + 700 * DAY):
        pass
    assert await store.accounts.devices(PAT) == []
    await store.sweep(200 + 547)
    assert await store.there() == [PAT]
    await store.sweep(200 + 549)
    assert await store.there() == []


async def test_a_message_that_waits_keeps_the_account(store):
    await store.account(PAT)
    await store.sweep(0)
    deposit = await store.deposits.deposit(a_deposit(mailbox=PAT, expires_at=NOW + 2000 * DAY), b"x")
    await store.sweep(1000)
    assert await store.there() == [PAT]
    await store.deposits.change(replace(deposit, state=DepositState.RECALLED), expected=DepositState.WAITING)
    await store.sweep(1000 + 547)
    assert await store.there() == [PAT]
    await store.sweep(1000 + 549)
    assert await store.there() == []


async def test_an_account_from_before_it_was_counted_begins_now(store):
    await store.account(PAT)
    await store.sweep(2000)
    await store.sweep(2000 + 547)
    assert await store.there() == [PAT]


async def test_a_damaged_account_is_left_alone(store):
    await store.account(PAT)
    await store.sweep(0)
    await store.database.transact(lambda cursor: cursor.run("UPDATE accounts SET sealed = ?", b"damaged"))
    await store.sweep(2000)
    rows = await store.database.read(lambda cursor: cursor.rows("SELECT handle FROM accounts"))
    assert len(rows) == 1


async def sign_in(store, mailbox, day):
    at = NOW + day * DAY
    device = Device(id="d", token=f"token {mailbox}", name="Firefox", first_seen=at, last_seen=at)
    session = Session(
        key=f"key {mailbox} {day}",
        mailbox=mailbox,
        assurance=Assurance.MAILED,
        device="d",
        created_at=at,
        seen_at=at,
        expires_at=at + 3600,
    )
    assert await store.accounts.start(session, device=device) is not False
