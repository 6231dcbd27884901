"""Proofs about the database that several nodes share."""

from collections.abc import Iterator
from typing import Final

from relay.config.portal import PortalSettings
from relay.config.proof_files import Finding, error, prove_password, warning
from relay.config.secret import SecretFile
from relay.config.settings import Settings
from relay.config.store import is_postgres
from relay.config.types import AUTO

_VERIFIED: Final = ("verify-full", "verify-ca")
_WAIT: Final = 5


def prove_store(settings: Settings, where: str, where_password: str, owners: frozenset[int]) -> Iterator[Finding]:
    """A database that can be reached, over a connection that nobody can sit in between."""
    if not is_postgres(settings.store):
        if settings.store_password is not None:
            yield warning(where_password, "store_password is not used: the store is sqlite", "take it out")
        return
    yield from _database(settings.store, settings.store_password, where, where_password, owners)


def prove_portal_store(
    settings: Settings, portal: PortalSettings, where: str, where_password: str, owners: frozenset[int]
) -> Iterator[Finding]:
    """As :func:`prove_store`, of a database that the portal has for itself."""
    if portal.store == AUTO:
        if portal.store_password is not None and not is_postgres(settings.store):
            yield warning(where_password, "store_password is not used: the portal's store is a file", "take it out")
        return
    yield from _database(portal.store, portal.store_password, where, where_password, owners)


def _database(
    dsn: str, secret: SecretFile | None, where: str, where_password: str, owners: frozenset[int]
) -> Iterator[Finding]:
    import psycopg  # noqa: PLC0415 - heavy, and most installations have no use for it
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415 - as above

    password = None
    if secret is not None:
        found = list(prove_password(secret, where_password, owners))
        yield from found
        if found:
            return
        password = secret.read_text()
    parts = conninfo_to_dict(dsn)
    host = str(parts.get("host") or "")
    if host and not host.startswith("/") and parts.get("sslmode") not in _VERIFIED and not _is_here(host):
        what = f"the connection to {host} is not verified: whoever is between could read and change it"
        yield warning(where, what, "add ?sslmode=verify-full&sslrootcert=FILE")
    try:
        with psycopg.connect(dsn, password=password, connect_timeout=_WAIT) as connection:
            row = connection.execute("SELECT current_setting('fsync'), pg_is_in_recovery()").fetchone()
    except psycopg.Error as fault:
        told = str(fault).strip().partition("\n")[0]
        yield error(where, f"the database cannot be used: {told}", "see host, user, database and password")
        return
    if row and row[0] != "on":
        yield error(where, "the database runs with fsync = off: a power cut would lose mail", "set fsync = on")
    if row and row[1]:
        yield warning(where, "the database is a standby", "name all hosts: postgresql://USER@HOST1,HOST2/DATABASE")


def _is_here(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")
