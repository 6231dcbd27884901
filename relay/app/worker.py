"""A worker: listeners and delivery over one store, in one process."""

import asyncio
import contextlib
import random
import ssl
import time
from collections.abc import Sequence
from typing import Final

import structlog

from relay.app import options, scanning
from relay.app.base import CLOCK, Life, every
from relay.app.belonging import prove_ring
from relay.app.entropy import ENTROPY, new_id
from relay.app.node import NodeSwitch
from relay.app.pages import keep_freed_memory, use_huge_pages
from relay.app.portal_worker import WorkerPortal
from relay.app.queue import build_store, incarnation, node_position, on_nodes
from relay.app.reputation import Returns, Standing
from relay.app.stock import dsn_writer, load_signers, open_vault, shared_metrics
from relay.app.trust import Outward
from relay.config.clients import load_clients
from relay.config.delivery import RequireTls
from relay.config.methods import configured_methods
from relay.config.policies import RunningPolicy
from relay.config.settings import Settings
from relay.core.address import Address
from relay.core.decision import MethodName, Treatment
from relay.core.entry import Claimed
from relay.core.errors import PosternError
from relay.core.returning import REPORTS
from relay.delivery.limits import Pacer
from relay.intake.accept import Acceptor, Parts
from relay.intake.limits import ByteBudget, ConnectionCount, ConnectionLimits
from relay.intake.listener import Listener, Rooms
from relay.intake.throttle import AuthThrottle, RateLimiter
from relay.intake.tls import server_context
from relay.intake.turns import InTurn
from relay.methods.tls import TlsMethod
from relay.net.resolver import Resolver
from relay.reputation.load import load_classifier, load_providers
from relay.worker.attempt import Attempter
from relay.worker.dispatch import Dispatcher
from relay.worker.notices import Notices
from relay.worker.outgoing import Outgoing
from relay.worker.record import Recorder

log = structlog.get_logger("worker")

_REAP: Final = 5.0
"""Seconds between looks for leases of dead workers."""
_REFRESH: Final = 600.0
"""Seconds between looks for policies to refresh."""
_RENEW: Final = 300.0
"""Seconds between looks for suppressions that are sealed under older keys."""
_POLITE: Final = 1.0
"""Seconds between two policies that are refreshed."""
_WRITE: Final = 60.0
"""Seconds between two writings of what was counted for reports about TLS: what a process that is killed may lose."""
_RECORDING: Final = 7.0
"""Seconds after the drain in which outcomes may still be recorded; 8 later whoever stops us kills us."""
_CHANCE: Final = random.SystemRandom()


class WorkerService:
    """Composes and runs one worker."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._tasks: list[asyncio.Task[None]] = []
        self._listeners: list[Listener] = []

    # --- composing ---------------------------------------------------------

    async def start(self) -> None:
        """Open the store, load policy and keys, claim, and only then listen.

        Raises:
            PosternError: something that all of this needs cannot be used.
        """
        self._life.configure_log()
        settings = self._life.settings
        self._vault = open_vault(settings)
        self._metrics = shared_metrics(settings)
        self._store = build_store(
            settings,
            self._vault,
            observe_batch=lambda size: self._metrics.observe("postern_commit_batch_units", size),
        )
        await self._store.open(incarnation(settings, self._life.name))
        try:
            await prove_ring(self._store, self._vault, settings.keys_dir)
        except PosternError:
            await self._store.close()
            self._metrics.close()
            raise
        self._policy = RunningPolicy(settings.policy, methods=configured_methods(settings), clock=CLOCK)
        self._portal = await WorkerPortal.open(settings, self._metrics)
        self._switch = NodeSwitch(self._store, self._serve, self._cease)
        await self._switch.start()
        on_nodes(self._store, self._share_anew)
        self._share_anew()  # for who came or went meanwhile
        keep_freed_memory()
        log.debug("memory on huge pages", pages=use_huge_pages())  # now: tables and code are loaded, no mail waits
        self._reaping = asyncio.create_task(every(_REAP, self._reap, self._metrics))

    async def _serve(self) -> None:
        settings = self._life.settings
        self._dispatcher = self._compose_delivery(settings)
        self._acceptor = self._compose_accept(settings)
        await self._standing.start()
        await self._listen(settings)
        self._tasks = [asyncio.create_task(self._dispatcher.run())]
        self._tasks += self._portal.tasks(settings, self._store, lambda: self._routes, self._life.name)
        if self._outward.sessions is not None:
            self._tasks.append(asyncio.create_task(every(_WRITE, self._outward.sessions.flush, self._metrics)))
        if not 1 < self._number() <= settings.workers:  # the first, or one run by hand
            self._tasks.append(asyncio.create_task(every(_REFRESH, self._refresh_policies, self._metrics)))
            self._tasks.append(asyncio.create_task(every(_RENEW, self._standing.renew, self._metrics)))

    def _compose_delivery(self, settings: Settings) -> Dispatcher:
        retry = options.retry_options(settings)
        self._routes = options.route_table(settings)
        self._outgoing = Outgoing(load_signers(settings), CLOCK, self._metrics)
        self._notices = Notices(dsn_writer(settings), self._routes, retry, new_id)
        self._resolver = Resolver(options.resolver_options(settings), metrics=self._metrics)
        self._outward = Outward.of(
            settings,
            self._resolver,
            self._store,
            self._metrics,
            writer=incarnation(settings, self._life.name),
        )
        providers, rules = load_providers(), load_classifier(settings.bounces.rules)
        self._standing = Standing(settings, self._store, self._vault, self._metrics, providers)
        self._returns = Returns(settings, self._store, self._vault, self._metrics, self._standing)
        self._recorder = Recorder(
            self._notices, retry, _CHANCE.random, self._metrics, classifier=rules, providers=providers
        )
        self._recorder.meanings.listen(self._standing.keeper.heed)
        self._attempter = Attempter(
            store=self._store,
            policy=self._policy,
            methods={MethodName.TLS: TlsMethod(), **self._portal.methods},
            connector=self._outward.connector,
            routes=self._routes,
            outgoing=self._outgoing,
            recorder=self._recorder,
            settled=self._on_settled,
            set_aside=self._on_aside,
            clock=CLOCK,
            metrics=self._metrics,
            strict_require_tls=settings.delivery.require_tls is RequireTls.STRICT,
            portal=self._portal.ledger,
            returning=self._returns.leaving(self._routes),
            reports=self._returns.reader(
                dsn_writer(settings), self._notices, self._recorder.meanings, providers, self._portal.came_back
            ),
        )
        self._position = position = node_position(self._store)
        self._pacer = Pacer(options.pace(settings, position[1]))
        return Dispatcher(
            self._store,
            self._attempter,
            self._pace,
            options.dispatch_options(settings, self._number(), position),
            CLOCK,
            self._metrics,
        )

    def _pace(self, destination: str) -> float:
        """What comes to report addresses goes to nobody, so no rate holds it back."""
        return 0.0 if destination.startswith(REPORTS) else self._pacer.take(destination, time.monotonic())

    def _share_anew(self) -> None:
        """A node came or went: limits by destination are divided over those that serve now."""
        settings, position = self._life.settings, node_position(self._store)
        if self._switch.is_on and position != self._position:
            self._position = position
            log.info("limits shared anew", node=position[0] + 1, nodes=position[1])
            self._pacer.adopt(options.pace(settings, position[1]))
            self._dispatcher.adopt(options.dispatch_options(settings, self._number(), position))

    def _on_settled(self) -> None:
        self._dispatcher.settled()

    def _on_aside(self, claimed: Claimed) -> None:
        self._dispatcher.set_aside(claimed)

    def _number(self) -> int:
        digits = self._life.name.rpartition("-")[2]
        return int(digits) if digits.isdigit() else 0

    def _compose_accept(self, settings: Settings) -> Acceptor:
        parts = Parts(
            scanner=scanning.service(settings, self._vault.digest),
            policy=self._policy,
            store=self._store,
            hand=self._dispatcher,
            metrics=self._metrics,
            route_for=self._route_for,
            bounce=self._notices.refused,
            tell=self._notices.decided,
            clock=CLOCK,
            entropy=ENTROPY,
            reports=self._returns.desk,
        )
        return Acceptor(options.accept_options(settings), parts)

    def _route_for(self, address: Address, treatment: Treatment) -> str:
        return self._routes.destination(address, treatment.route)

    async def _listen(self, settings: Settings) -> None:
        throttle = options.throttle_options(settings)
        self._rates = RateLimiter(self._store, CLOCK, throttle)
        rooms = Rooms(
            accept=InTurn(self._acceptor.accept, self._dispatcher.behind),
            throttle=AuthThrottle(self._store, CLOCK, throttle),
            rates=self._rates,
            budget=ByteBudget(settings.limits.bytes_in_flight),
            connections=ConnectionCount(ConnectionLimits(total=settings.limits.connections, per_address=None)),
            metrics=self._metrics,
            clock=CLOCK,
            suppressed=self._standing.view.refusal,
            reports=self._returns.desk,
        )
        directory = options.clients(load_clients(settings.clients_dir))
        for configured in settings.listeners:
            files = options.certificate_files(configured)
            context = (
                server_context(*files, minimum=configured.minimum_tls, legacy=configured.legacy_tls) if files else None
            )
            self._listeners.append(Listener(options.listener_options(settings, configured), rooms, directory, context))
        try:
            for listener in self._listeners:
                await listener.start()
        except PosternError:
            await asyncio.gather(*(listener.drain(0.0) for listener in self._listeners))
            self._listeners.clear()
            raise

    # --- while it runs -------------------------------------------------------

    async def reload(self) -> None:
        """Take up policy, clients, keys, certificates and log of the current snapshot; all of it or nothing.

        Changed listeners, routes and limits come with a new generation of workers.
        """
        try:
            site = self._life.site.again()
            policy = RunningPolicy(site.settings.policy, methods=configured_methods(site.settings), clock=CLOCK)
            directory = options.clients(load_clients(site.settings.clients_dir))
            signers = load_signers(site.settings)
            contexts = [self._context_of(site.settings, listener) for listener in self._listeners]
            vault = open_vault(site.settings)
            await prove_ring(self._store, vault, site.settings.keys_dir)
            classifier = load_classifier(site.settings.bounces.rules)
            self._vault.adopt(vault.ring)
        except PosternError as error:
            self._metrics.count("postern_config_reloads_total", {"result": "failed"})
            log.error("reload refused, what runs stays", problems=str(error))
            return
        self._life.adopt(site)
        self._policy.current = policy.current
        if self._switch.is_on:
            self._outgoing.adopt(signers)
            self._recorder.meanings.adopt(classifier)
        for listener, context in zip(self._listeners, contexts, strict=True):
            listener.directory, listener.tls = directory, context
        self._metrics.count("postern_config_reloads_total", {"result": "ok"})
        log.info("reloaded", policy=self._policy.version[:12], snapshot=site.version)

    @staticmethod
    def _context_of(settings: Settings, listener: Listener) -> ssl.SSLContext | None:
        configured = next((one for one in settings.listeners if one.name == listener.options.name), None)
        files = options.certificate_files(configured) if configured is not None else None
        if configured is None or files is None:
            return listener.tls
        return server_context(*files, minimum=configured.minimum_tls, legacy=configured.legacy_tls)

    async def _reap(self) -> None:
        """Free the leases of workers that died."""
        freed = await self._store.reap()
        if freed:
            log.warning("freed the leases of a dead worker", entries=freed)

    async def _refresh_policies(self) -> None:
        """Fetch known MTA-STS policies anew ahead of need; one worker does it for all."""
        if self._outward.policies is not None:
            await self._outward.policies.refresh(pause=_POLITE)

    async def _cease(self) -> None:
        """Stop accepting and claiming, finish what is under way, give back the rest.

        Sessions and attempts get their time together: soon after it whoever stops us kills us.
        """
        drain = self._life.settings.process.drain
        await asyncio.gather(self._dispatcher.drain(drain), *(listener.drain(drain) for listener in self._listeners))
        self._listeners.clear()
        await self._dispatcher.give_back()
        await self._attempter.finish()
        await self._standing.stop()
        await _ended(self._tasks)
        await self._rates.aclose()
        await self._outward.close()
        await self._resolver.close()

    async def stop(self) -> None:
        """Cease, and close the store last."""
        after = self._life.settings.process.drain + _RECORDING
        late = asyncio.get_running_loop().call_later(after, self._give_up)
        await self._switch.stop()
        late.cancel()
        await _ended([self._reaping])
        await self._portal.close()
        await self._store.close()
        self._metrics.close()

    def _give_up(self) -> None:
        if self._switch.is_on:  # a node that never served has nothing to give up
            self._attempter.give_up()


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)
