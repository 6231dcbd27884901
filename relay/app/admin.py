"""The admin process: metrics and health, the operators' socket, the archiver, and the store's housekeeping."""

import asyncio
import os
from collections.abc import Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final

import structlog

from relay.admin import checks
from relay.admin.control import ControlOptions, ControlServer
from relay.admin.http import Check, HttpOptions, HttpServer, application
from relay.admin.operations import Operations, Parts, Redecision
from relay.app import options
from relay.app.base import CLOCK, Life, every
from relay.app.belonging import prove_ring
from relay.app.certificates import ExpiryWatch
from relay.app.entropy import new_id
from relay.app.portal_admin import AdminPortal
from relay.app.publish import policy_context, policy_files, policy_host
from relay.app.queue import build_store, incarnation, node_is_draining, portal_postgres
from relay.app.reports import ReportMail, received, reporter
from relay.app.stock import dsn_writer, label_limits, open_vault, shared_metrics
from relay.app.trust import Outward, Probes
from relay.config.methods import configured_methods
from relay.config.policies import RunningPolicy
from relay.config.settings import Settings
from relay.core.change import AuditEvent, Change, Note
from relay.core.entry import QueueEntry
from relay.core.envelope import Message
from relay.core.errors import PosternError, StoreError
from relay.core.reply import EnhancedStatus
from relay.crew import REFUSED
from relay.delivery.plan import first_method
from relay.delivery.trouble import Course, Disposition
from relay.net.resolver import Found, Resolver
from relay.observe import exposition
from relay.observe.archiver import Archiver, ArchiverOptions
from relay.observe.policy_history import PolicyHistory
from relay.observe.segments import SyncError
from relay.portal.deadlines import Deadlines
from relay.protect.keyring import KeyRing
from relay.reputation.suppression import SuppressionList
from relay.worker.facts import facts_of
from relay.worker.notices import Notices

if TYPE_CHECKING:
    from relay.extract.client import ScanService

log = structlog.get_logger("admin")

_CHECKPOINT: Final = 10.0
"""Seconds between checkpoints: the write-ahead log grows by what is written meanwhile."""
_WATCH: Final = 15.0
"""Seconds between looks at our certificates, and at whether a configuration was refused."""
_PROBE: Final = 600.0
"""Seconds between looks for mail servers that nobody met for long."""
_REPORT: Final = 600.0
"""Seconds between looks for reports about TLS that are due."""
_POLITE: Final = 5.0
"""Seconds between two destinations that are probed unasked."""
_FSYNC_FAILED: Final = 70
"""Exit status when the disk failed to confirm a write (EX_SOFTWARE, sysexits.h): a retry may report false success."""


class AdminService:
    """Composes and runs the admin process."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Open the store and the audit trail, then answer.

        Raises:
            PosternError: something that all of this needs cannot be used.
        """
        self._life.configure_log()
        settings = self._life.settings
        self._metrics = shared_metrics(settings)
        self._vault = open_vault(settings)
        self._store = build_store(settings, self._vault)
        await self._store.open(incarnation(settings, self._life.name))
        try:
            await prove_ring(self._store, self._vault, settings.keys_dir)
        except PosternError:
            await self._store.close()
            raise
        self._policy = RunningPolicy(settings.policy, methods=configured_methods(settings), clock=CLOCK)
        self._resolver = Resolver(options.resolver_options(settings))
        self._outward = Outward.of(settings, self._resolver, self._store, self._metrics)
        self._received = received(settings, self._store, self._metrics)
        self._expiry = ExpiryWatch(self._tell, self._metrics, CLOCK)
        self._portal = await AdminPortal.open(settings, self._metrics)
        self._archiver = self._compose_archiver(settings)
        self._history = PolicyHistory(
            self._store, self._vault, settings.node, CLOCK, keep=lambda: self._life.settings.audit.retention
        )
        await self._archiver.open()
        self._control = ControlServer(_control_options(settings), Operations(self._parts(settings)), self._metrics)
        await self._control.start()
        address = HttpOptions(address=str(settings.admin.address), port=settings.admin.port)
        self._http = HttpServer(address, application(self._render, self._checks()), Deadlines)
        await self._http.start()
        self._policy_host = policy_host(settings, self._metrics)
        if self._policy_host is not None:
            await self._policy_host.start()
        self._tasks = [
            asyncio.create_task(self._archive()),
            asyncio.create_task(every(_CHECKPOINT, self._store.checkpoint, self._metrics)),
            asyncio.create_task(every(_WATCH, self._watch, self._metrics)),
            asyncio.create_task(every(_WATCH, self._note_policy, self._metrics)),
            asyncio.create_task(every(_PROBE, self._probe, self._metrics)),
            asyncio.create_task(every(_REPORT, self._report, self._metrics)),
        ]

    # --- composing ---------------------------------------------------------

    def _compose_archiver(self, settings: Settings) -> Archiver:
        audit = settings.audit
        return Archiver(
            store=self._store,
            vault=self._vault,
            ring=self._ring,
            clock=CLOCK,
            options=ArchiverOptions(
                directory=audit.dir,
                retention=audit.retention,
                sign_interval=audit.sign_interval,
                heads_file=audit.heads_file,
                heads_syslog=audit.heads_syslog,
            ),
            metrics=self._metrics,
        )

    async def _tell(self, event: AuditEvent) -> None:
        await self._store.commit((Note(events=(event,)),))

    def _ring(self) -> KeyRing:
        return self._vault.ring

    def _parts(self, settings: Settings) -> Parts:
        self._write_notices(settings)
        return Parts(
            store=self._store,
            clock=CLOCK,
            metrics=self._metrics,
            redecide=self._redecide,
            notify=self._notify,
            suppressions=SuppressionList(self._store, self._vault, CLOCK),
            portal=self._portal.desk,
            retry=options.retry_options(settings),
            tls=Probes(lambda: self._outward, lambda: self._routes, self._received),
        )

    def _write_notices(self, settings: Settings) -> None:
        self._routes = options.route_table(settings)
        self._notices = Notices(dsn_writer(settings), self._routes, options.retry_options(settings), new_id)

    @cached_property
    def _scanner(self) -> "ScanService":
        """Loaded when an operator first has a message decided anew."""
        from relay.app import scanning  # noqa: PLC0415  most of these processes never scan

        return scanning.service(self._life.settings, self._vault.digest)

    async def _redecide(self, entry: QueueEntry, message: Message, content: bytes) -> Sequence[Redecision]:
        report = await self._scanner.scan(content, message.session.client)
        facts = facts_of(message, content, verdict=report.verdict, attachments=report.attachments)
        decided = []
        for state in entry.recipients:
            treatment = self._policy.decide(facts, state.recipient.address).treatment
            decided.append(
                Redecision(
                    state=state,
                    treatment=treatment,
                    destination=self._routes.destination(state.recipient.address, treatment.route),
                    method=first_method(treatment, configured_methods(self._life.settings)),
                )
            )
        return decided

    def _notify(
        self, message: Message, content: bytes | None, entry: QueueEntry, reason: str, now: float
    ) -> Sequence[Change]:
        course = Disposition(course=Course.FAIL, status=EnhancedStatus(5, 7, 1), why=reason)
        return self._notices.failure(message, content, [(state, course) for state in entry.recipients], now=now).changes

    # --- answering -----------------------------------------------------------

    async def _render(self) -> bytes:
        try:
            stats = await self._store.stats()
        except StoreError as error:
            log.warning("no figures of the store", error=str(error))
            stats = None
        settings = self._life.settings
        return await asyncio.to_thread(
            exposition.render, settings.run_dir / "metrics", stats, now=CLOCK(), limits=label_limits(settings)
        )

    def _checks(self) -> dict[str, Check]:
        return {
            "store": lambda: checks.store_answers(self._store),
            "node": self._check_node,
            **disk_checks(self._life.settings),
            "workers": lambda: checks.listeners_answer(
                (one.name, str(one.address), one.port) for one in self._life.settings.listeners
            ),
            "dns": self._check_dns,
            "certificates": lambda: checks.certificates_hold(self._certificates()),
        }

    async def _check_node(self) -> str:
        return "an operator drained this node" if node_is_draining(self._store) else ""

    async def _check_dns(self) -> str:
        answer = await self._resolver.lookup(".", "NS")
        return f"no usable answer: {answer.detail}" if answer.found is Found.FAILED else ""

    def _certificates(self) -> list[tuple[str, float]]:
        settings = self._life.settings
        ours = [(one.name, one.certificate) for one in settings.listeners]
        ours += [(f"client:{rule.destinations[0]}", rule.client_certificate) for rule in settings.tls.rules]
        ours.append(("mta-sts", settings.tls.publish.certificate))
        ours.append(("portal", settings.portal.certificate if settings.portal is not None else None))
        return [(name, checks.certificate_end(path)) for name, path in ours if path is not None]

    async def _probe(self) -> None:
        """Meet servers that nobody met for long, so that a downgrade is known before mail waits for it."""
        age = self._life.settings.tls.probe_known

        async def mine(destination: str) -> bool:
            return await self._store.count(f"tls-probe/{destination}", window=age, now=CLOCK()) == 1

        if age:
            await Probes(lambda: self._outward, lambda: self._routes, self._received).meet_known(
                older_than=CLOCK() - age, pause=_POLITE, mine=mine
            )

    async def _report(self) -> None:
        """Send reports about TLS that are due, as the settings say now."""
        settings = self._life.settings
        mail = ReportMail(
            store=self._store, routes=lambda: self._routes, settings=lambda: self._life.settings, new_id=new_id
        )
        sends = reporter(settings, self._store, self._resolver, self._outward, mail, self._metrics)
        if sends is not None:
            await sends.run()

    async def _watch(self) -> None:
        """Figures that nobody else counts: ends of our certificates, and whether an edit was refused."""
        refused = (self._life.settings.run_dir / REFUSED).exists()
        self._metrics.set("postern_config_refused", float(refused))
        await self._portal.measure()
        await self._expiry.look(self._certificates())

    async def _note_policy(self) -> None:
        """Keep which policy runs here, for those who must answer for its decisions."""
        policy = self._policy.current
        await self._history.note(policy.version, policy.name, policy.files)

    # --- while it runs -------------------------------------------------------

    async def _archive(self) -> None:
        try:
            await self._archiver.run(self._stopping)
        except SyncError:
            log.critical("the disk failed to confirm an audit segment; the process ends")
            os._exit(_FSYNC_FAILED)

    async def reload(self) -> None:
        """Take up policy, scan, key ring, DNS, TLS, routes, operators and log of the current snapshot."""
        try:
            site = self._life.site.again()
            policy = RunningPolicy(site.settings.policy, methods=configured_methods(site.settings), clock=CLOCK)
            vault = open_vault(site.settings)
            await prove_ring(self._store, vault, site.settings.keys_dir)
            context = policy_context(site.settings)
            resolver = Resolver(options.resolver_options(site.settings))
            outward = Outward.of(site.settings, resolver, self._store, self._metrics)
            self._vault.adopt(vault.ring)
        except PosternError as error:
            log.error("reload refused, what runs stays", problems=str(error))
            return
        self._life.adopt(site)
        self.__dict__.pop("_scanner", None)  # made anew by the settings in force when it is next asked for
        self._policy.current = policy.current
        self._write_notices(site.settings)
        self._resolver, self._outward = resolver, outward  # what is under way by the old ones ends with them
        if self._policy_host is not None and context is not None:
            self._policy_host.adopt(policy_files(site.settings), context)
        control = site.settings.control
        self._control.admit(control.operators, control.operator_groups)
        log.info("reloaded", policy=self._policy.version[:12], snapshot=site.version)

    async def stop(self) -> None:
        """Stop answering; archive what is in the outbox, sign the head, close the store last."""
        await self._control.stop()
        await self._http.stop()
        if self._policy_host is not None:
            await self._policy_host.stop()
        self._stopping.set()
        await self._tasks[0]
        for task in self._tasks[1:]:
            task.cancel()
        await asyncio.gather(*self._tasks[1:], return_exceptions=True)
        await self._outward.close()
        try:
            await self._archiver.close()
        except StoreError as error:
            log.warning("audit events stay in the outbox", error=str(error))
        await self._resolver.close()
        try:
            await self._store.checkpoint()
        except StoreError as error:
            log.warning("the last housekeeping was left out", error=str(error))
        await self._portal.close()
        await self._store.close()
        self._metrics.close()


def disk_checks(settings: Settings) -> dict[str, Check]:
    """Readiness checks of the disks that mail needs: the queue's, and the one that the portal's file is on."""
    disks = {"disk": settings.data_dir}
    portal = settings.portal
    if portal is not None and portal_postgres(settings, portal) is None:
        disks["portal_disk"] = portal.dir
    reserve = settings.limits.disk_reserve
    return {name: partial(checks.disk_has_room, directory, reserve) for name, directory in disks.items()}


def _control_options(settings: Settings) -> ControlOptions:
    control = settings.control
    return ControlOptions(path=control.socket, operators=control.operators, operator_groups=control.operator_groups)
