"""Settings to the option values of each room: one function a room, nothing else."""

import ssl
from pathlib import Path

from relay.app.addresses import own_addresses
from relay.config.clients import ClientDirectory as ClientFiles
from relay.config.delivery import RouteSettings
from relay.config.methods import configured_methods
from relay.config.reception import ClientSettings, ListenerAuth, ListenerSettings, ListenerTls
from relay.config.settings import Settings
from relay.core.address import Address
from relay.core.level import Level
from relay.delivery.limits import Rate
from relay.delivery.routing import Route, RouteTable
from relay.delivery.schedule import RetryOptions
from relay.delivery.share import servers
from relay.intake.accept import AcceptOptions
from relay.intake.clients import Client, ClientDirectory
from relay.intake.entries import QueueTimes
from relay.intake.limits import ConnectionLimits
from relay.intake.listener import ListenerOptions
from relay.intake.throttle import ThrottleOptions
from relay.net.deadlines import Deadlines
from relay.net.mx import MxOptions
from relay.net.options import ConnectorOptions, RouteHost
from relay.net.options import Route as HostRoute
from relay.net.resolver import ResolverOptions
from relay.net.tls import TlsOptions
from relay.smtp.endofdata import BareNewlines
from relay.smtp.server_limits import SessionLimits
from relay.store.options import StoreOptions
from relay.worker.dispatch import DispatchOptions
from relay.worker.lanes import LaneOptions

TLS_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_CLAIM_BATCH = 100
_POLL = 0.5
_BACKLOG = 50
"""Fresh entries of one destination a worker keeps in hand before the rest is left to all workers."""


def store_options(settings: Settings) -> StoreOptions:
    """Limits of the store."""
    return StoreOptions(reserve_bytes=settings.limits.disk_reserve, max_bytes=settings.limits.queue_size)


def session_limits(settings: Settings, listener: ListenerSettings) -> SessionLimits:
    """What one session of a listener may do."""
    limits = settings.limits
    return SessionLimits(
        hostname=settings.hostname,
        max_size=limits.message_size,
        max_recipients=limits.recipients,
        max_command=limits.command_line,
        max_auth_line=limits.auth_line,
        max_line=limits.message_line,
        max_errors=limits.errors_per_connection,
        max_idle_commands=limits.idle_commands_per_connection,
        max_commands=limits.commands_per_connection,
        max_messages=limits.messages_per_connection,
        max_auth_failures=limits.auth_failures_per_connection,
        bare_newlines=BareNewlines(listener.bare_newlines.value),
        starttls=listener.tls in (ListenerTls.OPTIONAL, ListenerTls.REQUIRED),
        require_tls=listener.tls is ListenerTls.REQUIRED,
        auth=listener.auth is not ListenerAuth.OFF,
        auth_equals=listener.auth_equals,
    )


def listener_options(settings: Settings, listener: ListenerSettings) -> ListenerOptions:
    """One listener."""
    return ListenerOptions(
        name=listener.name,
        address=str(listener.address),
        port=listener.port,
        limits=session_limits(settings, listener),
        implicit_tls=listener.tls is ListenerTls.IMPLICIT,
        networks=listener.networks,
        trusted=tuple(listener.trust_networks.items()),
        connections=ConnectionLimits(total=listener.max_connections, per_address=listener.max_connections_per_address),
        idle_timeout=listener.idle_timeout,
        command_timeout=listener.command_timeout,
        data_timeout=listener.data_timeout,
        reports=listener.reports,
    )


def certificate_files(listener: ListenerSettings) -> tuple[Path, Path] | None:
    """Certificate and key of a listener that speaks TLS."""
    key = listener.key.path() if listener.key is not None else None
    return (listener.certificate, key) if listener.certificate is not None and key is not None else None


def throttle_options(settings: Settings) -> ThrottleOptions:
    """Failed AUTH and client rates."""
    auth = settings.auth
    return ThrottleOptions(
        failures_per_address=auth.failures_per_address,
        failures_per_account=auth.failures_per_account,
        window=auth.window,
    )


def clients(files: ClientFiles) -> ClientDirectory:
    """The systems that may send."""
    return ClientDirectory(_client(client) for client in files)


def _client(client: ClientSettings) -> Client:
    return Client(
        name=client.name,
        tenant=client.tenant,
        secret_sha256=client.secret_sha256,
        previous_secret_sha256=client.previous_secret_sha256 or "",
        previous_until=client.previous_until.timestamp() if client.previous_until else 0.0,
        senders=frozenset(Address.parse(sender) for sender in client.senders),
        sender_domains=client.sender_domains,
        null_sender=client.null_sender,
        networks=client.networks,
        messages_per_minute=client.messages_per_minute,
        messages_per_hour=client.messages_per_hour,
        max_size=client.message_size,
        max_recipients=client.recipients,
        stream=client.stream,
        check_from=client.check_from,
    )


def retry_options(settings: Settings) -> RetryOptions:
    """How retries are spaced."""
    delivery = settings.delivery
    return RetryOptions(
        first=delivery.retry.first,
        factor=delivery.retry.factor,
        longest=delivery.retry.max,
        jitter=delivery.retry.jitter,
        expire_after=delivery.expire,
        warn_after=delivery.warn,
    )


def accept_options(settings: Settings) -> AcceptOptions:
    """Acceptance."""
    delivery = settings.delivery
    return AcceptOptions(
        hostname=settings.hostname,
        max_hops=settings.limits.received_hops,
        max_header=settings.limits.header_size,
        times=QueueTimes(expire_after=delivery.expire, warn_after=delivery.warn or None),
        methods=configured_methods(settings),
    )


def route_table(settings: Settings) -> RouteTable:
    """Fixed next hops, for the queue's destination keys."""
    return RouteTable(
        tuple(
            Route(
                name=route.name,
                domains=route.domains,
                internal=route.internal,
                floor=Level.from_word(route.tls.value),
            )
            for route in settings.routes
        )
    )


def connector_options(settings: Settings) -> ConnectorOptions:
    """How peers are connected to.

    Raises:
        ProblemsError: a route's password cannot be read.
    """
    delivery = settings.delivery
    return ConnectorOptions(
        helo=settings.hostname,
        port=delivery.port,
        source_addresses=tuple(str(one) for one in (delivery.source_ipv4, delivery.source_ipv6) if one),
        routes={route.name: _host_route(route) for route in settings.routes},
        max_connections=delivery.hosts_per_attempt * delivery.addresses_per_host,
        deadlines=deadlines(settings),
    )


def _host_route(route: RouteSettings) -> HostRoute:
    return HostRoute(
        hosts=tuple(RouteHost(host=one.host, port=one.port or route.port) for one in route.hosts),
        username=route.auth.username if route.auth else "",
        password=route.auth.password_file.read_text() if route.auth else "",
        floor=Level.from_word(route.tls.value),
        implicit_tls=route.implicit_tls,
        internal=route.internal,
        source_addresses=(str(route.source),) if route.source else (),
    )


def deadlines(settings: Settings) -> Deadlines:
    """How long each phase of a delivery is waited for."""
    waits = settings.delivery.timeouts
    return Deadlines(
        connect=waits.connect,
        greeting=waits.greeting,
        ehlo=waits.ehlo,
        handshake=waits.tls,
        auth=waits.ehlo,
        mail=waits.mail,
        rcpt=waits.rcpt,
        data=waits.data,
        block=waits.block,
        final=waits.final,
        quit=waits.quit,
        attempt=settings.delivery.attempt_deadline,
        transaction=settings.delivery.attempt_deadline,
    )


def mx_options(settings: Settings) -> MxOptions:
    """How hosts are found, and which of them are ourselves."""
    return MxOptions(
        own_names=frozenset({settings.hostname}),
        own_addresses=own_addresses(settings),
        allowed_networks=tuple(str(network) for network in settings.delivery.allowed_special_networks),
        ipv4=settings.delivery.ipv4,
        ipv6=settings.delivery.ipv6,
        max_hosts=settings.delivery.hosts_per_attempt,
        max_addresses=settings.delivery.addresses_per_host,
    )


def resolver_options(settings: Settings) -> ResolverOptions:
    """How names are looked up."""
    dns = settings.dns
    return ResolverOptions(
        nameservers=tuple(str(server) for server in dns.nameservers),
        port=dns.port,
        timeout=dns.timeout,
        lifetime=dns.lifetime,
        cache_size=dns.cache_entries,
        min_ttl=dns.min_ttl,
        max_ttl=dns.max_ttl,
        max_negative_ttl=dns.negative_ttl,
        failure_ttl=dns.failure_ttl,
        validating=dns.validating,
    )


def tls_options(settings: Settings) -> TlsOptions:
    """What certificates of other servers are checked against."""
    tls = settings.tls
    roots = (tls.trust_roots,) if tls.trust_roots else ()
    return TlsOptions(
        system_trust=tls.trust_roots is None,
        trust_files=tuple(str(path) for path in (*roots, *tls.extra_roots)),
        minimum=TLS_VERSIONS[tls.minimum],
    )


def dispatch_options(settings: Settings, number: int, position: tuple[int, int] = (0, 1)) -> DispatchOptions:
    """What one worker has in hand; per-destination limits are this worker's share, over all nodes.

    Args:
        settings: the settings.
        number: the worker's, from 1; any other is a worker run by hand, which serves all destinations.
        position: this node's among those that serve, from 0, and their number; each has as many workers.
    """
    delivery = settings.delivery
    limit, rank, workers = delivery.concurrency_per_destination, position[0], settings.workers * position[1]
    by_hand = not 1 <= number <= settings.workers
    mine = rank * settings.workers + number
    share, rest = divmod(limit, workers)
    lane = LaneOptions(
        concurrency=max(1, share + (mine <= rest)),  # below one a worker, ``servers`` picks who serves
        idle=delivery.session_idle,
        messages_per_session=delivery.messages_per_session,
    )
    return DispatchOptions(
        in_hand=delivery.in_hand,
        batch=min(_CLAIM_BATCH, delivery.in_hand),
        poll=_POLL,
        lane=lambda _: lane,
        lane_backlog=_backlog(settings),
        behind=max(1, delivery.in_hand // 8),
        serves=lambda destination: by_hand or mine in servers(destination, workers, limit),
    )


def _backlog(settings: Settings) -> int:
    """Entries of one destination in hand: under a rate a minute's at most, since in hand nothing expires or warns."""
    delivery = settings.delivery
    most = max(_BACKLOG, delivery.in_hand // 2)
    a_minute = max(1, delivery.rate_per_destination // settings.workers)
    return min(most, a_minute) if delivery.rate_per_destination else most


def pace(settings: Settings, nodes: int = 1) -> Rate | None:
    """This worker's share of the rate to one destination, over so many nodes."""
    rate = settings.delivery.rate_per_destination
    return Rate(per_second=rate / 60 / settings.workers / nodes) if rate else None
