"""What only running would show, shown before: ``postern check`` and every start and reload ask this.

Nothing is changed on the machine save a probe file that is removed at once; every wait has a deadline.
"""

import contextlib
import os
import pwd
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from relay.config.clients import ClientDirectory, load_clients
from relay.config.keyfiles import load_ring
from relay.config.load import Loaded
from relay.config.methods import configured_methods
from relay.config.proof_files import (
    Finding,
    error,
    prove_certificate,
    prove_dkim_key,
    prove_password,
    read_key,
    warning,
)
from relay.config.proof_names import unknown_names
from relay.config.proof_portal import prove_portal
from relay.config.proof_store import prove_store
from relay.config.proof_system import (
    IN_USE,
    PASSING,
    answers,
    nearest,
    prove_directory,
    prove_dns,
    prove_group,
    prove_listening,
    prove_reach,
    prove_space,
    prove_trusted_path,
    prove_user,
)
from relay.config.proof_tls import prove_tls
from relay.config.proof_tuning import prove_tuning
from relay.config.reception import ListenerAuth, ListenerTls
from relay.config.settings import Settings
from relay.config.signing_keys import load_signing_keys
from relay.config.types import IPAddress
from relay.core.decision import MethodName
from relay.core.errors import Problem, ProblemsError
from relay.delivery.bouncerules import read_rules
from relay.policy.engine import CompiledRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was found.

    Attributes:
        errors: Postern would not run, or not rightly.
        warnings: Postern runs, and a person should look.
    """

    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much is proved.

    Attributes:
        ports: that listeners could listen.
        dns: that nameservers answer.
        policy: that the policy loads.
        key_ring: that the key ring is there.
        store: that the database answers, where the store is one.
        space: that the disk has room for new mail; a system that has none must still deliver what it holds.
    """

    ports: bool = True
    dns: bool = True
    policy: bool = True
    key_ring: bool = True
    store: bool = True
    space: bool = True


EVERYTHING = Extent()


def prove(loaded: Loaded, *, now: datetime, extent: Extent = EVERYTHING) -> Proof:
    """Prove a configuration on this machine. Never raises for what it finds: it is all in the answer."""
    owners = _owners(loaded)
    found: list[Finding] = []
    found += _name(loaded)
    found += _users(loaded)
    found += _directories(loaded)
    found += _space(loaded) if extent.space else ()
    found += _listener_files(loaded, now, owners)
    found += _listening(loaded) if extent.ports else ()
    found += prove_tls(loaded, now, owners)
    found += _routes(loaded, owners)
    found += _dkim(loaded, now, owners)
    found += _key_ring(loaded) if extent.key_ring else ()
    found += _clients(loaded)
    if extent.store:
        where, password = loaded.where("store"), loaded.where("store_password")
        found += prove_store(loaded.settings, where, password, owners)
    found += _bounce_rules(loaded)
    found += prove_tuning(loaded)
    found += _returns(loaded)
    found += prove_portal(loaded, now, owners, space=extent.space, store=extent.store)
    found += _nameservers(loaded) if extent.dns else ()
    found += _postmaster(loaded) if extent.dns else ()
    found += _policy(loaded, configured_methods(loaded.settings), now) if extent.policy else ()
    return Proof(
        errors=tuple(dict.fromkeys(one.problem for one in found if not one.warning)),
        warnings=tuple(dict.fromkeys(one.problem for one in found if one.warning)),
    )


def _owners(loaded: Loaded) -> frozenset[int]:
    """Who may own a secret: root, who runs this, and who Postern is to run as."""
    owners = {0, os.geteuid()}
    if loaded.settings.user:
        try:
            owners.add(pwd.getpwnam(loaded.settings.user).pw_uid)
        except KeyError:
            return frozenset(owners)  # told by the proof of users
    return frozenset(owners)


def _bounce_rules(loaded: Loaded) -> Iterator[Finding]:
    for number, path in enumerate(loaded.settings.bounces.rules):
        try:
            read_rules(path.read_bytes(), str(path))
        except OSError as fault:
            yield error(loaded.where("bounces", "rules", number), f"{path} cannot be read: {fault.strerror}")
        except ProblemsError as fault:
            yield from (Finding(problem=problem) for problem in fault.problems)


def _returns(loaded: Loaded) -> Iterator[Finding]:
    settings = loaded.settings
    takers = [(number, one) for number, one in enumerate(settings.listeners) if one.reports]
    if settings.returns.domains and not takers:
        what = "no listener has reports: true: what comes back must be brought by a client"
        yield warning(loaded.where("returns"), what, "see docs/bounces.md")
    for number, one in takers:
        if one.tls is ListenerTls.REQUIRED:
            what = f"{one.name} wants TLS: bounces of servers without it are lost (RFC 3207 section 4)"
            yield warning(loaded.where("listeners", number, "tls"), what, "tls: optional")
        if not settings.returns.domains and not settings.returns.mailboxes():
            what = f"{one.name} takes reports, and no address for them is set"
            yield warning(loaded.where("listeners", number, "reports"), what, "see returns")


def _name(loaded: Loaded) -> Iterator[Finding]:
    name = loaded.settings.hostname
    if "." not in name or name.endswith((".localdomain", ".local", ".localhost")):
        what = f"{name} is not a full name: many servers refuse who greets them so (RFC 5321 4.1.1.1)"
        yield warning(loaded.where("hostname"), what, "write hostname: with the name that DNS gives this machine")


def _users(loaded: Loaded) -> Iterator[Finding]:
    settings = loaded.settings
    if settings.user:
        yield from prove_user(settings.user, loaded.where("user"))
    for number, name in enumerate(settings.control.operators):
        yield from prove_user(name, loaded.where("control", "operators", number))
    for number, name in enumerate(settings.control.operator_groups):
        yield from prove_group(name, loaded.where("control", "operator_groups", number))


def _directories(loaded: Loaded) -> Iterator[Finding]:
    settings = loaded.settings
    places = [
        (loaded.where("data_dir"), settings.data_dir),
        (loaded.where("run_dir"), settings.run_dir),
        (loaded.where("audit", "dir"), settings.audit.dir),
        (loaded.where("control", "socket"), settings.control.socket.parent),
    ]
    files = (
        (loaded.where("log", "file"), settings.log.file),
        (loaded.where("audit", "heads_file"), settings.audit.heads_file),
    )
    for where, file in files:
        if file is not None and nearest(file.parent) != file.parent:  # these are opened, and their directories not made
            yield error(where, f"the directory {file.parent} is not there", f"make it: mkdir -p {file.parent}")
        elif file is not None:
            places.append((where, file.parent))
    for where, path in places:
        yield from prove_directory(path, where, private=path in (settings.data_dir, settings.audit.dir))
    with contextlib.suppress(KeyError):  # told by the proof of users
        if settings.user and os.geteuid() == 0:
            yield from prove_reach(places, pwd.getpwnam(settings.user))


def _space(loaded: Loaded) -> Iterator[Finding]:
    settings = loaded.settings
    yield from prove_space(settings.data_dir, settings.limits.disk_reserve, loaded.where("data_dir"))


def _listener_files(loaded: Loaded, now: datetime, owners: frozenset[int]) -> Iterator[Finding]:
    for number, listener in enumerate(loaded.settings.listeners):
        where = loaded.where("listeners", number, "name")
        if listener.tls is not ListenerTls.NONE and listener.key and listener.certificate:
            found: list[Finding] = []
            key = read_key(listener.key, loaded.where("listeners", number, "key"), owners, found)
            yield from found
            yield from prove_certificate(
                listener.certificate,
                key,
                loaded.where("listeners", number, "certificate"),
                hostname=loaded.settings.hostname,
                now=now,
            )
        if listener.auth is ListenerAuth.OFF and not (listener.trust_networks or listener.reports):
            what = f"nobody could send through {listener.name}: auth is off and trust_networks is empty"
            yield warning(where, what, "trust a client's network, or ask for auth")
        if listener.legacy_tls:
            what = f"{listener.name} takes TLS 1.0 and 1.1, which protect little"
            yield warning(loaded.where("listeners", number, "legacy_tls"), what, "keep it to the networks that need it")


def _places(settings: Settings) -> Iterator[tuple[tuple[str | int, ...], IPAddress, int]]:
    """Where this configuration has its supervised processes listen: the setting, the address, the port."""
    for number, listener in enumerate(settings.listeners):
        yield ("listeners", number, "port"), listener.address, listener.port
    yield ("admin", "port"), settings.admin.address, settings.admin.port
    if settings.portal is not None and settings.portal.supervised:
        yield ("portal", "port"), settings.portal.address, settings.portal.port
    if settings.tls.publish.address is not None:
        yield ("tls", "publish", "port"), settings.tls.publish.address, settings.tls.publish.port


def ports_of(settings: Settings) -> frozenset[int]:
    """The ports of the supervised processes."""
    return frozenset(port for _, _, port in _places(settings))


def prove_ports(loaded: Loaded, *, ours: Collection[int] = (), passing: bool = False) -> tuple[Problem, ...]:
    """Why a supervisor's processes could not have the ports alone, ``ours`` apart, which its own listen on already.

    ``passing``: apart from what may pass by itself as well: who listens there may leave, an address may come up.
    Workers share a port among themselves (``SO_REUSEPORT``), and the kernel would share it with the workers of another
    installation of the same user as well, and give each a part of the mail.
    """
    return tuple(
        finding.problem
        for keys, address, port in _places(loaded.settings)
        if port not in ours
        for finding in prove_listening(address, port, loaded.where(*keys), passed=PASSING if passing else frozenset())
    )


def _listening(loaded: Loaded) -> Iterator[Finding]:
    passed = IN_USE if answers(loaded.settings.control.socket) else frozenset()
    for keys, address, port in _places(loaded.settings):
        yield from prove_listening(address, port, loaded.where(*keys), passed=passed)


def _routes(loaded: Loaded, owners: frozenset[int]) -> Iterator[Finding]:
    for number, route in enumerate(loaded.settings.routes):
        if route.auth:
            where = loaded.where("routes", number, "auth", "password_file")
            yield from prove_password(route.auth.password_file, where, owners)


def _dkim(loaded: Loaded, now: datetime, owners: frozenset[int]) -> Iterator[Finding]:
    for number, domain in enumerate(loaded.settings.dkim.domains):
        today = now.date()
        for place, key in enumerate(domain.keys):
            where = loaded.where("dkim", "domains", number, "keys", place, "key")
            yield from prove_dkim_key(key.key, key.algorithm, where, owners)
        signing = [
            key
            for key in domain.keys
            if (key.valid_from or today) <= today and (key.valid_until is None or today < key.valid_until)
        ]
        if not signing:
            where = loaded.where("dkim", "domains", number, "domain")
            yield warning(where, f"no key of {domain.domain} signs today", "see valid_from and valid_until")
    yield from _usable(lambda: load_signing_keys(loaded.settings.dkim.dir), loaded.where("dkim", "dir"))


def _key_ring(loaded: Loaded) -> Iterator[Finding]:
    yield from _usable(lambda: load_ring(loaded.settings.keys_dir), loaded.where("keys_dir"))


def _usable(load: Callable[[], object], where: str) -> Iterator[Finding]:
    """Whether what running would load can be loaded; ``where`` is the setting that names it."""
    try:
        load()
    except ProblemsError as problems:
        yield from (error(where, f"{one.where}: {one.what}", one.hint) for one in problems.problems)


def _clients(loaded: Loaded) -> Iterator[Finding]:
    settings = loaded.settings
    try:
        clients = load_clients(settings.clients_dir)
    except ProblemsError as problems:
        yield from (Finding(problem) for problem in problems.problems)
        return
    for path in sorted(settings.clients_dir.glob("*.yaml")):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o022:
            yield error(str(path), f"others could change it (mode {mode:04o})", f"chmod 640 {path}")
    if not len(clients):
        where = loaded.where("clients_dir")
        yield warning(where, f"no client in {settings.clients_dir}: nobody may send", "postern client add")
    yield from _trusted_clients(loaded, clients)


def _trusted_clients(loaded: Loaded, clients: ClientDirectory) -> Iterator[Finding]:
    for number, listener in enumerate(loaded.settings.listeners):
        for network, name in listener.trust_networks.items():
            if clients.get(name) is None:
                where = loaded.where("listeners", number, "trust_networks", str(network))
                yield error(where, f"{network} is trusted as {name}, and no client has that name", "postern client add")


def _nameservers(loaded: Loaded) -> Iterator[Finding]:
    dns = loaded.settings.dns
    where = loaded.where("dns", "nameservers")
    yield from prove_dns(dns.nameservers, dns.port, dns.timeout, where)
    if dns.validating:
        yield from prove_trusted_path(dns.nameservers, loaded.where("dns", "validating"))


def _postmaster(loaded: Loaded) -> Iterator[Finding]:
    """Double bounces must have somewhere to go: DNS leads mail for our own host name back to us."""
    settings = loaded.settings
    mailbox = settings.dsn.postmaster
    domain = mailbox.rpartition("@")[2]
    if domain == settings.hostname and settings.route_for(domain) is None:
        what = f"bounces that cannot be returned go to {mailbox}, and mail for {domain} has no route out of here"
        yield warning(
            loaded.where("dsn", "postmaster"), what, "set dsn.postmaster to a mailbox elsewhere, or add a route"
        )


def _policy(loaded: Loaded, methods: frozenset[MethodName], now: datetime) -> Iterator[Finding]:
    from relay.config.policies import load_policy, prove_mode  # noqa: PLC0415 - heavy, and only a whole proof needs it

    try:
        policy = load_policy(loaded.settings.policy, methods=methods, now=now.timestamp())
    except ProblemsError as problems:
        yield from (Finding(problem) for problem in problems.problems)
        return
    yield from (Finding(problem, warning=True) for problem in policy.warnings)
    yield from (Finding(problem, warning=True) for problem in unknown_names(policy, loaded.settings))
    yield from (Finding(problem) for problem in prove_mode(policy, loaded.settings.policy))
    yield from (Finding(problem) for problem in missing_routes(policy.rules, loaded.settings))


def missing_routes(rules: Iterable[CompiledRule], settings: Settings) -> Iterator[Problem]:
    """Rules that take a route which the configuration does not have: their mail would have nowhere to go."""
    known = {route.name for route in settings.routes}
    for rule in rules:
        if rule.treatment.route and rule.treatment.route not in known:
            what = f"the rule {rule.id} takes the route {rule.treatment.route}, which the configuration does not have"
            yield Problem(where=rule.where, what=what, hint=f"routes are: {', '.join(sorted(known)) or 'none'}")
