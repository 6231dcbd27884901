"""What a worker learns from refusals and from mail that comes back, and the parts that see to it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from relay.app.base import CLOCK
from relay.app.queue import Store
from relay.app.reports import received, signature_check
from relay.config.clients import load_clients
from relay.config.reputation import AutoReplies
from relay.config.settings import Settings
from relay.core.errors import PosternError, StoreError
from relay.core.ports import Knowledge, Metrics, Vault
from relay.core.returning import ReportKind
from relay.delivery.provider import Providers
from relay.delivery.routing import RouteTable
from relay.intake.reports import ReportDesk, ReportOptions
from relay.mail.dsn import DsnWriter
from relay.protect.returnpath import ReturnPaths
from relay.protect.sealing import RingVault
from relay.reputation.counted import DmarcCounter, TlsCounter, recognise
from relay.reputation.reading import ReaderOptions, ReaderParts, ReportReader
from relay.reputation.suppression import KeeperOptions, SuppressionKeeper, SuppressionList, SuppressionView
from relay.worker.meaning import Meanings
from relay.worker.notices import Notices
from relay.worker.passing import PassingOn
from relay.worker.returning import Returning, ReturnOptions

log = structlog.get_logger("worker")


class Standing:
    """One worker's view of the suppression list, and what adds to it."""

    def __init__(
        self,
        settings: Settings,
        knowledge: Knowledge,
        vault: Vault,
        metrics: Metrics,
        providers: Providers | None = None,
    ) -> None:
        self.listed = SuppressionList(knowledge, vault, CLOCK)
        self.view = SuppressionView(self.listed, CLOCK)
        options = KeeperOptions(hard_bounce=settings.suppression.hard_bounce)
        self.keeper = SuppressionKeeper(self.listed, options, CLOCK, metrics, providers)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Read the list once, then keep it current beside everything else."""
        try:
            await self.view.refresh()
        except StoreError as error:
            log.warning("the suppression list cannot be read yet", error=str(error))
        self._tasks = [asyncio.create_task(self.view.run()), asyncio.create_task(self.keeper.run())]

    async def renew(self) -> None:
        """Seal again what is sealed under older key versions, so that those can be retired."""
        renewed = await self.listed.renew()
        if renewed:
            log.info("suppressions sealed anew", rows=renewed)

    async def stop(self) -> None:
        """Note what waits, then end."""
        await self.keeper.aclose()
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []


class Returns:
    """A worker's parts for mail that comes back.

    Attributes:
        leaving: the senders that copies leave under.
        reader: reads messages to report addresses.
        desk: takes them in.
    """

    def __init__(
        self, settings: Settings, store: Store, vault: RingVault, metrics: Metrics, standing: Standing
    ) -> None:
        self._settings = settings
        self._store = store
        self._metrics = metrics
        self._standing = standing
        returns = settings.returns
        self._paths = ReturnPaths(lambda: vault.ring, returns.lifetime)
        kinds = {key: ReportKind(kind) for key, kind in returns.mailboxes().items()}
        options = ReportOptions(
            domains=returns.domains,
            mailboxes=kinds,
            max_size=returns.message_size,
            messages_per_minute=returns.messages_per_minute,
            messages_per_hour=returns.messages_per_hour,
        )
        self.desk = ReportDesk(options, self._paths, recognise, CLOCK, metrics)

    def leaving(self, routes: RouteTable) -> Returning:
        """The senders that copies leave under."""
        returns = self._settings.returns
        options = ReturnOptions(domain=returns.domain or "", by_sender=returns.by_sender, lifetime=returns.lifetime)
        paths = self._paths if returns.domains else None
        return Returning(options, paths, routes, self._standing.view.refusal)

    def reader(
        self,
        writer: DsnWriter,
        notices: Notices,
        meanings: Meanings,
        providers: Providers,
        withdraw: Callable[[str, int], Awaitable[object]] | None = None,
    ) -> ReportReader:
        """What reads messages to report addresses; ``withdraw`` is told whose notice of the portal came back."""
        settings = self._settings
        parts = ReaderParts(
            store=self._store,
            paths=self._paths,
            listed=self._standing.listed,
            teller=PassingOn(writer, notices, settings.returns.domains),
            classifier=lambda: meanings.classifier,
            providers=providers,
            clock=CLOCK,
            metrics=self._metrics,
            counted={
                ReportKind.DMARC: DmarcCounter(
                    self._store, lambda: _own_domains(settings), signature_check(settings, tlsrpt=False)
                ),
                ReportKind.TLS: TlsCounter(received(settings, self._store, self._metrics).take),
            },
            withdraw=withdraw,
        )
        options = ReaderOptions(
            hard_bounce=settings.suppression.hard_bounce,
            complaint=settings.suppression.complaint,
            tell_replies=settings.returns.auto_replies is AutoReplies.TELL,
            postmaster_notices=settings.returns.postmaster_notices,
        )
        return ReportReader(parts, options)


def _own_domains(settings: Settings) -> frozenset[str]:
    """Domains that mail is sent as: what clients may send as, and what is signed for."""
    signed = {one.domain for one in settings.dkim.domains}
    with contextlib.suppress(PosternError):  # a client's file may be half written: the others are read next time
        signed |= {domain for client in load_clients(settings.clients_dir) for domain in client.sender_domains}
    return frozenset(signed)
