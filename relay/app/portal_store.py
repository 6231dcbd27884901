"""The portal's store and what stands right above it: opened by the portal's process, by workers and by admin alike."""

import asyncio
import os
from dataclasses import dataclass

from relay.app.base import CLOCK
from relay.app.queue import portal_postgres
from relay.config.keyfiles import load_portal_ring
from relay.config.portal import LOGO_TYPES, PortalSettings
from relay.config.settings import Settings
from relay.core.address import Address
from relay.core.errors import Problem, ProblemsError
from relay.core.level import Level
from relay.core.portal import Deposit
from relay.core.portal_accounts import SharedSecret
from relay.core.ports import Metrics
from relay.mail.notice import NoticeBrand, NoticeOptions, NoticeWriter
from relay.methods.notice import load_texts
from relay.methods.portal import PortalMethod, PortalMethodOptions
from relay.portal.brand import readable
from relay.portal.gate import deposit_scope
from relay.portal.ledger import Ledger
from relay.portal.passphrase import shared_hash
from relay.portal.sender.links import sender_page
from relay.protect.sealing import RingVault
from relay.store.portal import account_tables, tables
from relay.store.portal.accounts import StoredAccounts
from relay.store.portal.database import Database, Driver, Schema
from relay.store.portal.deposits import StoredDeposits
from relay.store.portal.sqlite import SqliteDriver

_WHITE = "#ffffff"


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalStore:
    """What is open.

    Attributes:
        settings: of the portal.
        vault: over its own key ring.
        database: its tables.
        deposits, accounts: views of them.
        writer: of notices and receipts.
        ledger: changes deposits.
    """

    settings: PortalSettings
    vault: RingVault
    database: Database
    deposits: StoredDeposits
    accounts: StoredAccounts
    writer: NoticeWriter
    ledger: Ledger

    async def close(self) -> None:
        """Let go of the database."""
        await self.database.close()


async def open_portal(settings: Settings, portal: PortalSettings, metrics: Metrics, *more: Schema) -> PortalStore:
    """Open it.

    Args:
        settings: the whole tree.
        portal: of it, the portal's.
        metrics: counts what happens.
        more: tables besides those of deposits and accounts.

    Raises:
        ProblemsError: its key ring or its database cannot be used.
        StoreUnavailableError: its database is away.
    """
    vault = open_portal_vault(portal)
    writer = notice_writer(portal)
    database = Database(_driver(settings, portal))
    await database.open(tables.SCHEMA, account_tables.SCHEMA, *more)
    deposits = StoredDeposits(database, vault, CLOCK, os.urandom)
    return PortalStore(
        settings=portal,
        vault=vault,
        database=database,
        deposits=deposits,
        accounts=StoredAccounts(database, vault),
        writer=writer,
        ledger=Ledger(
            deposits,
            writer,
            clock=CLOCK,
            entropy=os.urandom,
            metrics=metrics,
            page=sender_page(vault, portal.origin),
        ),
    )


def open_portal_vault(portal: PortalSettings) -> RingVault:
    """The vault over the portal's own key ring.

    Raises:
        ProblemsError: there is no ring, others can read it, or it is damaged.
    """
    directory = portal.keys_dir
    return RingVault(load_portal_ring(directory), os.urandom, reload=lambda: load_portal_ring(directory))


def _driver(settings: Settings, portal: PortalSettings) -> Driver:
    """Over ``portal.db``, or a schema of its own in PostgreSQL: of the queue's server, or of another."""
    options = portal_postgres(settings, portal)
    if options is None:
        return SqliteDriver(portal.dir, reserve=settings.limits.disk_reserve)
    from relay.store.portal.postgres import PostgresDriver  # noqa: PLC0415  heavy, and most have no use for it

    return PostgresDriver(options)


def notice_writer(portal: PortalSettings) -> NoticeWriter:
    """Who writes notices, reminders and receipts.

    Raises:
        ProblemsError: a logo cannot be read.
    """
    brands = {
        brand.tenant: NoticeBrand(
            name=brand.name,
            address=brand.address,
            phone=brand.phone,
            accent=readable(brand.accent, _WHITE) if brand.accent else NoticeBrand().accent,
            logo=logo_of(brand.logo),
            logo_type=LOGO_TYPES[brand.logo.suffix.lower()] if brand.logo else NoticeBrand().logo_type,
        )
        for brand in portal.brands
    }
    return NoticeWriter(
        NoticeOptions(
            origin=portal.origin,
            mail_from=Address.parse(portal.mail_from),
            texts=load_texts(),
            brands=brands,
            brand=NoticeBrand(name=portal.name),
        )
    )


def logo_of(path: "os.PathLike[str] | None") -> bytes:
    """A brand's picture; empty for none.

    Raises:
        ProblemsError: it cannot be read.
    """
    if path is None:
        return b""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - any path-like
            return file.read()
    except OSError as error:
        raise ProblemsError(Problem(where=str(path), what=f"cannot be read: {error.strerror}")) from error


def portal_method(store: PortalStore, metrics: Metrics) -> PortalMethod:
    """The method over an open store."""
    portal = store.settings

    async def set_secret(deposit: Deposit, secret: str) -> None:
        scope = deposit_scope(deposit.id)
        if await store.accounts.shared(deposit.mailbox, [scope]) is None:
            verifier = await asyncio.to_thread(shared_hash, secret)
            await store.accounts.set_shared(deposit.mailbox, SharedSecret(scope=scope, verifier=verifier))

    return PortalMethod(
        store.deposits,
        store.writer,
        PortalMethodOptions(
            expire_after=portal.expire_after,
            floor=Level.from_word(portal.notice_tls.value),
            special_floor=Level.from_word(portal.special_notice_tls.value),
            brand_languages={brand.tenant: brand.language.value for brand in portal.brands},
        ),
        set_secret=set_secret,
        clock=CLOCK,
        entropy=os.urandom,
        metrics=metrics,
    )
