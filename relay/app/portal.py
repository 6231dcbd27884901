"""The portal's process: the page for recipients, and what happens by the clock. It has no access to the queue."""

import asyncio
import os
import ssl
from pathlib import Path
from typing import Final

import structlog

from relay.app import scanning
from relay.app.base import CLOCK, Life, every
from relay.app.portal_limits import compose_options, limit_options, pdf_limits, view_limits
from relay.app.portal_store import PortalStore, logo_of, open_portal, open_portal_vault
from relay.app.stock import shared_metrics
from relay.config.portal import LOGO_TYPES, BrandSettings, PortalSettings, ProxyHeader
from relay.core.address import Address
from relay.core.errors import PosternError, Problem, ProblemsError
from relay.intake.tls import server_context
from relay.portal.app import application
from relay.portal.brand import Brand
from relay.portal.furnish import furnish
from relay.portal.letters import letter_routes
from relay.portal.options import CodeOptions, PassphraseOptions, PortalOptions, ProxyOptions, SessionOptions
from relay.portal.server import PortalServer, ServerOptions
from relay.portal.sweep import Sweeper, SweepOptions
from relay.store.portal import drafts, retention

log = structlog.get_logger("portal")

_OURSELVES: Final = ("127.0.0.0/8", "::1/128")
"""A proxy on this machine that was not named, and health checks: none of them is a stranger."""
_SWEEP: Final = 60.0
"""Seconds between looks for what is due."""
_FORGET_MOST: Final = 50
"""Steps of one round, of some thousand rows each."""
_LISTED: Final = 500
"""Rows of one transaction that lists anew what an older version wrote."""
_DRAFT_LIFE: Final = 7 * 86_400.0
"""Seconds that an answer is kept which nobody goes on with."""


class PortalService:
    """Composes and runs the portal."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Open the store, and answer.

        Raises:
            PosternError: something that all of this needs cannot be used.
        """
        self._life.configure_log()
        settings = self._life.settings
        self._metrics = shared_metrics(settings)
        if settings.portal is None:
            what, hint = "no portal is configured", "write a section portal:, or do not start this role"
            raise ProblemsError(Problem(where="portal", what=what, hint=hint))
        self._store = store = await open_portal(
            settings, settings.portal, self._metrics, drafts.SCHEMA, retention.SCHEMA
        )
        try:
            self._retention = retention.Retention(store.database, store.vault)
            self._drafts = drafts.StoredDrafts(store.database, store.vault)
            self._server = self._compose(store)
            await self._server.start()
        except BaseException:
            await store.close()
            raise
        sweeper = Sweeper(
            store.deposits,
            store.ledger,
            forget=self._forget,
            options=SweepOptions(remind_before=store.settings.remind_before, keep_records=store.settings.keep_records),
            clock=CLOCK,
        )
        self._tasks = [asyncio.create_task(every(_SWEEP, sweeper.sweep, self._metrics))]
        log.info("portal listens", port=self._server.port, origin=store.settings.origin)

    def _compose(self, store: PortalStore) -> PortalServer:
        portal = store.settings
        rooms = furnish(
            portal_options(portal),
            deposits=store.deposits,
            accounts=store.accounts,
            ledger=store.ledger,
            vault=store.vault,
            clock=CLOCK,
            entropy=os.urandom,
            metrics=self._metrics,
        )
        scanner = scanning.service(self._life.settings, store.vault.digest)
        pages = letter_routes(
            rooms,
            self._drafts,
            scanner,
            view=view_limits(portal.limits),
            options=compose_options(portal.limits),
            pdf=pdf_limits(portal.limits),
        )
        self._tls = _context(portal)
        return PortalServer(server_options(portal), application(rooms, pages), self._tls)

    async def _forget(self) -> None:
        """Delete what accounts, sessions, counters and drafts leave behind; list what an older version wrote."""
        now = CLOCK()
        for _ in range(_FORGET_MOST):
            if not await self._store.deposits.list_anew(limit=_LISTED):
                break
        for _ in range(_FORGET_MOST):
            if not await self._store.accounts.sweep(now=now):
                break
        await self._drafts.sweep(before=now - _DRAFT_LIFE)
        keep = self._store.settings.keep_accounts
        for _ in range(_FORGET_MOST):
            if not await self._retention.sweep(now=now, keep=keep, limit=_LISTED):
                break

    async def reload(self) -> None:
        """Take up the key ring, a renewed certificate and the log; the rest comes with the process's next start."""
        try:
            site = self._life.site.again()
            portal = site.settings.portal
            ring = open_portal_vault(portal).ring if portal is not None else None
            files = _proven(self._store.settings)  # before the ring is taken, which may be refused as well
            if ring is not None:
                self._store.vault.adopt(ring)
        except PosternError as error:
            log.error("reload refused, what runs stays", problems=str(error))
            return
        if self._tls is not None and files is not None:
            self._tls.load_cert_chain(*files)  # for whoever comes from here on
        if portal != self._store.settings:
            log.warning("the portal's settings are taken up when its process starts anew")
        self._life.adopt(site)
        log.info("reloaded", snapshot=site.version)

    async def stop(self) -> None:
        """Answer what is under way, and close the store last."""
        await self._server.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._store.close()
        self._metrics.close()


def portal_options(portal: PortalSettings) -> PortalOptions:
    """What the pages are told.

    Raises:
        ProblemsError: a logo cannot be read.
    """
    proxy, header = portal.proxy, portal.proxy.header
    return PortalOptions(
        origin=portal.origin,
        mail_from=Address.parse(portal.mail_from),
        other_hosts=frozenset(portal.more_hosts),
        brands={brand.tenant: _brand(brand) for brand in portal.brands},
        brand=Brand(name=portal.name),
        time_zone=portal.time_zone,
        codes=CodeOptions(life=portal.code_life),
        sessions=SessionOptions(
            idle=portal.session_idle, warn=min(120.0, portal.session_idle / 2), life=portal.session_life
        ),
        limits=limit_options(portal.limits),
        passphrase=PassphraseOptions(breached=portal.breached_passphrases),
        proxy=ProxyOptions(
            networks=tuple(map(str, proxy.networks)),
            header="" if header is ProxyHeader.NONE else header.value,
            protocol=proxy.protocol,
        ),
        max_upload=portal.max_upload,
    )


def _brand(brand: BrandSettings) -> Brand:
    return Brand(
        name=brand.name,
        address=brand.address,
        phone=brand.phone,
        accent=brand.accent or Brand().accent,
        logo=logo_of(brand.logo),
        logo_type=LOGO_TYPES[brand.logo.suffix.lower()] if brand.logo else Brand().logo_type,
    )


def server_options(portal: PortalSettings) -> ServerOptions:
    """Where and how the page listens."""
    return ServerOptions(
        address=str(portal.address),
        port=portal.port,
        proxies=tuple(map(str, portal.proxy.networks)) if portal.proxy.protocol else (),
        speakers=(*map(str, portal.proxy.networks), *_OURSELVES),
        connections=portal.requests_at_once,
    )


def _context(portal: PortalSettings) -> ssl.SSLContext | None:
    files = _certificate(portal)
    return server_context(*files, minimum="1.2", legacy=False) if files is not None else None


def _proven(portal: PortalSettings) -> tuple[Path, Path] | None:
    """Certificate and key, tried: a pair that does not fit would leave the live context without a key.

    Raises:
        ProblemsError: they cannot be used.
    """
    files = _certificate(portal)
    if files is not None:
        server_context(*files)
    return files


def _certificate(portal: PortalSettings) -> tuple[Path, Path] | None:
    if portal.certificate is None or portal.key is None:
        return None
    key = portal.key.path()
    if key is None:
        hint = "start through the systemd unit that loads it, or name a file instead"
        raise ProblemsError(Problem(where=str(portal.key), what="CREDENTIALS_DIRECTORY is not set", hint=hint))
    return portal.certificate, key
