"""Proofs about the portal: what its process and the workers would stumble over."""

from collections.abc import Iterator
from datetime import datetime

from relay.config.clients import load_clients
from relay.config.keyfiles import load_portal_ring
from relay.config.load import Loaded
from relay.config.portal import MAX_LOGO, PortalSettings
from relay.config.proof_files import Finding, error, prove_certificate, read_key, warning
from relay.config.proof_store import prove_portal_store
from relay.config.proof_system import prove_directory, prove_space
from relay.config.signing_keys import configured_signing_keys
from relay.config.store import is_postgres
from relay.config.types import AUTO
from relay.core.errors import ProblemsError


def prove_portal(
    loaded: Loaded, now: datetime, owners: frozenset[int], *, space: bool = True, store: bool = True
) -> Iterator[Finding]:
    """Everything about the section ``portal`` save that its port can be listened on; nothing without it.

    Args:
        loaded: the settings.
        now: for certificates.
        owners: who may own secret files.
        space: that the disk has room.
        store: that the portal's own database answers, where it has one.
    """
    portal = loaded.settings.portal
    if portal is None:
        return
    yield from prove_directory(portal.dir, loaded.where("portal", "dir"), private=False)
    yield from _store(loaded, portal, owners, space=space, store=store)
    yield from _tls(loaded, portal, now, owners)
    yield from _ring(loaded, portal)
    yield from _signed(loaded, portal)
    yield from _files(loaded, portal)
    yield from _tenants(loaded, portal)


def _store(
    loaded: Loaded, portal: PortalSettings, owners: frozenset[int], *, space: bool, store: bool
) -> Iterator[Finding]:
    settings = loaded.settings
    if space and not is_postgres(settings.store if portal.store == AUTO else portal.store):
        yield from prove_space(portal.dir, settings.limits.disk_reserve, loaded.where("portal", "dir"))
    if store:
        where, password = loaded.where("portal", "store"), loaded.where("portal", "store_password")
        yield from prove_portal_store(settings, portal, where, password, owners)


def _tls(loaded: Loaded, portal: PortalSettings, now: datetime, owners: frozenset[int]) -> Iterator[Finding]:
    if portal.certificate is None or portal.key is None:
        return
    found: list[Finding] = []
    key = read_key(portal.key, loaded.where("portal", "key"), owners, found)
    yield from found
    host = portal.origin.partition("://")[2].partition(":")[0]
    where = loaded.where("portal", "certificate")
    yield from prove_certificate(portal.certificate, key, where, hostname=host, now=now)


def _ring(loaded: Loaded, portal: PortalSettings) -> Iterator[Finding]:
    settings, where = loaded.settings, loaded.where("portal", "keys_dir")
    if portal.keys_dir == settings.keys_dir:
        what = "is also keys_dir: the portal faces the Internet and must be able to open portal messages only"
        yield error(where, what, "give the portal a directory of its own")
        return
    try:
        load_portal_ring(portal.keys_dir)
    except ProblemsError as problems:
        yield from (error(where, f"{one.where}: {one.what}", one.hint) for one in problems.problems)


def _signed(loaded: Loaded, portal: PortalSettings) -> Iterator[Finding]:
    domain = portal.mail_from.rpartition("@")[2]
    try:
        keys = configured_signing_keys(loaded.settings.dkim)
    except ProblemsError:
        return  # told by the proof of the keys themselves
    if not any(domain == key.domain or domain.endswith(f".{key.domain}") for key in keys):
        what = f"no DKIM key signs for {domain}: patients cannot tell genuine notices from forged ones"
        yield warning(loaded.where("portal", "mail_from"), what, f"postern dkim new {domain}")


def _files(loaded: Loaded, portal: PortalSettings) -> Iterator[Finding]:
    for number, brand in enumerate(portal.brands):
        if brand.logo is None:
            continue
        where = loaded.where("portal", "brands", number, "logo")
        try:
            size = brand.logo.stat().st_size
        except OSError as fault:
            yield error(where, f"{brand.logo} cannot be read: {fault.strerror}")
            continue
        if size > MAX_LOGO:
            yield error(where, f"{brand.logo} is larger than 64 KiB", "it travels with every notice: make it smaller")
    listed = portal.breached_passphrases
    if listed is not None:
        try:
            with listed.open("rb") as file:
                file.read(1)
        except OSError as fault:
            where = loaded.where("portal", "breached_passphrases")
            yield error(where, f"{listed} cannot be read: {fault.strerror}")


def _tenants(loaded: Loaded, portal: PortalSettings) -> Iterator[Finding]:
    try:
        tenants = {client.tenant for client in load_clients(loaded.settings.clients_dir)}
    except ProblemsError:
        return  # told by the proof of the clients
    for number, brand in enumerate(portal.brands):
        if tenants and brand.tenant not in tenants:
            what = f"no client has the tenant {brand.tenant}"
            yield warning(loaded.where("portal", "brands", number, "tenant"), what, "see clients_dir")
