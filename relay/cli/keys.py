"""``postern keys``: the key ring that seals mail at rest."""

import asyncio
import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import orjson

from relay.cli.options import Group, config_option, only_asks
from relay.core.errors import Problem, ProblemsError

if TYPE_CHECKING:
    from relay.config.portal import PortalSettings
    from relay.config.settings import Settings
    from relay.protect.keyring import KeyRing
    from relay.store.postgres.options import PostgresOptions

_Command = TypeVar("_Command", bound=Callable[..., Any])
_CONNECT: Final = 5.0
_RELOAD: Final = "Running processes take it up with: postern reload"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Places:
    keys: Path
    data: tuple[Path, ...]
    settings: "Settings | None" = None
    portal: bool = False

    @property
    def user(self) -> str | None:
        return None if self.settings is None else self.settings.user

    def use(self) -> dict[int, int]:
        """Sealed objects a key version: in the directories, and in the database where the queue is in one."""
        from relay.observe.keyuse import count_use

        other = None if self.portal or self.settings is None else self.settings.portal
        counts = Counter(count_use(self.data, without=other.dir if other is not None else None))
        options = self._database()
        if options is not None:
            from relay.store.postgres import keyuse

            counts.update(asyncio.run(keyuse.count_use(options)))
        return dict(counts)

    def _database(self) -> "PostgresOptions | None":
        from relay.app.queue import portal_postgres, postgres_options
        from relay.config.store import is_postgres

        if self.settings is None:
            return None
        if self.portal:
            return portal_postgres(self.settings, portal_of(self.settings))
        return postgres_options(self.settings) if is_postgres(self.settings.store) else None

    def sealing_version(self, ring: "KeyRing") -> int | None:
        """The version that the system that runs here seals under: the newest when it was last loaded.

        ``None``: none runs here, as far as can be told. What it has still to seal is in no count of what is sealed.

        Raises:
            ProblemsError: its last reload was not taken up, or is not over: processes may not have heard of it.
        """
        from relay.app.current import CURRENT
        from relay.app.reloads import last
        from relay.app.snapshot import home

        if self.settings is None or not _answers(self.settings.control.socket):
            return None
        try:
            loaded = (home(self.settings.run_dir) / CURRENT).lstat().st_mtime
        except FileNotFoundError:
            return None
        record = last(self.settings.run_dir)
        if record is not None and (not record.outcome.is_taken_up or record.at < loaded):
            what = "the last reload was not taken up, or is not over: what runs may seal under an older version"
            hint = "`postern reload` until it says reloaded, then retire the version"
            raise ProblemsError(Problem(where=str(self.settings.run_dir), what=what, hint=hint))
        return max((one.number for one in ring.versions if one.created_at <= loaded), default=None)

    def load(self) -> "KeyRing":
        """The ring."""
        from relay.config.keyfiles import load_portal_ring, load_ring

        return load_portal_ring(self.keys) if self.portal else load_ring(self.keys)

    def update(self, ring: "KeyRing") -> None:
        """Write a changed ring in its place."""
        from relay.config.keyfiles import update_ring

        update_ring(self.keys, ring, portal=self.portal)


def _answers(path: Path) -> bool:
    """Whether a control socket is listened at; who may not ask must take it that it is."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(_CONNECT)
        try:
            asking.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return path.is_socket()
    return True


def _directory(text: str) -> Callable[[_Command], _Command]:
    return click.option(text, type=click.Path(path_type=Path, file_okay=False), help="Use this directory instead.")


@click.group(cls=Group, name="keys", help="The key ring that seals mail at rest.")
@config_option(", which says where keys and data are kept")
@_directory("--keys-dir")
@_directory("--data-dir")
@click.option("--portal", is_flag=True, help="The key ring of the secure page.")
@click.pass_context
def command(ctx: click.Context, config: Path, keys_dir: Path | None, data_dir: Path | None, *, portal: bool) -> None:
    """Find the directories."""
    if only_asks(ctx):
        return
    data = [data_dir] if data_dir else []
    settings = None
    if keys_dir is None or data_dir is None or portal:
        from relay.config.load import load

        settings = load(config)
        keys_dir = keys_dir or (portal_of(settings).keys_dir if portal else settings.keys_dir)
        data = data or ([portal_of(settings).dir] if portal else [settings.data_dir, settings.audit.dir])
    ctx.obj = _Places(
        keys=keys_dir.absolute(), data=tuple(path.absolute() for path in data), settings=settings, portal=portal
    )


def portal_of(settings: "Settings") -> "PortalSettings":
    """The portal's settings.

    Raises:
        ProblemsError: no portal is configured.
    """
    if settings.portal is None:
        hint = "write a section portal: first, with origin and mail_from"
        raise ProblemsError(Problem(where="portal", what="no portal is configured", hint=hint))
    return settings.portal


@command.command(help="Make the key ring, once.")
@click.pass_obj
def init(places: _Places) -> None:
    """Create a ring with one sealing key and one audit key."""
    from relay.config.keyfiles import create_ring, give_to
    from relay.protect.keyring import KeyRing

    for data in places.data:
        if places.keys == data or data in places.keys.parents:
            what = f"the key ring would lie inside the data it protects ({data})"
            hint = "set keys_dir to a directory that is not copied with the data"
            raise ProblemsError(Problem(where=str(places.keys), what=what, hint=hint))
    give_to(places.keys, places.user)
    path = create_ring(places.keys, KeyRing.create(now=time.time(), random=os.urandom))
    click.echo(f"Made {path}.")
    click.echo(
        "Without it nothing kept here can ever be opened again. Write a recovery copy now, and keep it elsewhere:"
    )
    click.echo("  postern keys recovery write FILE")


@command.command(help="Add a new version, which seals from then on; older ones still open.")
@click.option("--audit-key", is_flag=True, help="Rotate the key that signs the audit trail instead.")
@click.pass_obj
def rotate(places: _Places, *, audit_key: bool) -> None:
    """Add a key."""
    from relay.config.keyfiles import ring_lock

    places.load()  # a missing ring is told of before a lock file is made
    with ring_lock(places.keys):
        ring = places.load()
        now = time.time()
        rotated = ring.audit_rotated if audit_key else ring.rotated
        ring = rotated(now=now, random=os.urandom)
        places.update(ring)
    what = f"Audit key {ring.audit_key.number} signs" if audit_key else f"Version {ring.newest.number} seals"
    click.echo(f"{what} from now on. {_RELOAD}")
    click.echo("A recovery copy written before does not hold it: write a new one.")


@command.command(help="Remove an old version that nothing is sealed under any more.")
@click.argument("version", type=click.IntRange(min=1))
@click.pass_obj
def retire(places: _Places, version: int) -> None:
    """Remove a version after counting what needs it."""
    from relay.config.keyfiles import ring_lock, ring_path

    where = f"{ring_path(places.keys)}, version {version}"
    places.load()
    with ring_lock(places.keys):
        ring = places.load()
        used = places.use().get(version, 0)
        if used:
            hint = "wait until the queue and the audit segments that need it are gone"
            raise ProblemsError(Problem(where=where, what=f"{used} sealed objects still need it", hint=hint))
        if places.sealing_version(ring) == version:
            what = (
                f"Postern runs and has not been reloaded since version {ring.newest.number} was made: it seals under it"
            )
            raise ProblemsError(Problem(where=where, what=what, hint="`postern reload`, then retire the version"))
        try:
            ring = ring.without(version)
        except ValueError as error:
            raise ProblemsError(Problem(where=where, what=str(error))) from None
        places.update(ring)
    click.echo(f"Version {version} is gone. {_RELOAD}")


@command.command(help="Show versions, their ages, and how much is sealed under each.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def status(places: _Places, *, as_json: bool) -> None:
    """Print the ring without its secrets."""
    facts = _status(places.load(), places)
    if as_json:
        click.echo(orjson.dumps(facts, option=orjson.OPT_INDENT_2).decode())
        return
    click.echo(f"Key ring {facts['id']} in {places.keys}")
    for version in facts["versions"]:
        role = "seals" if version["seals"] else "opens"
        click.echo(
            f"  version {version['number']:<4} {role}  made {_day(version['created_at'])} "
            f"({version['age_days']} days)  {version['sealed_objects']} sealed objects  {version['fingerprint']}"
        )
    for number, count in facts["missing_versions"].items():
        click.echo(f"  version {number:<4} is not in the ring: {count} sealed objects cannot be opened")
    for key in facts["audit_keys"]:
        click.echo(f"  audit key {key['number']:<2} made {_day(key['created_at'])}  id {key['id']}  {key['public']}")


def _status(ring: "KeyRing", places: _Places) -> dict[str, Any]:
    from relay.protect.chain import public_keys

    use, now = places.use(), time.time()
    versions = [
        {
            "number": version.number,
            "created_at": version.created_at,
            "age_days": int((now - version.created_at) // 86_400),
            "fingerprint": version.fingerprint,
            "seals": version is ring.newest,
            "sealed_objects": use.get(version.number, 0),
        }
        for version in ring.versions
    ]
    publics = public_keys(ring).items()
    audit = [
        {"number": key.number, "created_at": key.created_at, "id": name, "public": public.hex()}
        for key, (name, public) in zip(ring.audit_keys, publics, strict=True)
    ]
    missing = {str(number): count for number, count in use.items() if ring.version(number) is None}
    return {"id": ring.id, "versions": versions, "audit_keys": audit, "missing_versions": missing}


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")


# --- recovery ---------------------------------------------------------------


@command.group(help="An encrypted copy of the ring, for the day this machine is gone.")
def recovery() -> None:
    """Write and restore recovery copies."""


def _passphrase(file: Path | None, *, confirm: bool) -> str:
    if file is None:
        text: str = click.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm)
        return text
    from relay.config.keyfiles import read_private

    return read_private(file).decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")


_FILE = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File (0600) with the passphrase; else asked.",
)


@recovery.command(help="Write a copy of the ring, encrypted under a passphrase.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_FILE
@click.pass_obj
def write(places: _Places, file: Path, passphrase_file: Path | None) -> None:
    """Encrypt the ring, and read the copy back before saying that it is there."""
    from relay.config.keyfiles import write_private
    from relay.protect.recovery import read_recovery, write_recovery

    ring = places.load()
    if file.exists():  # told before a passphrase is asked for; write_private() makes sure
        raise ProblemsError(Problem(where=str(file), what="is there already and is not replaced"))
    passphrase = _passphrase(passphrase_file, confirm=True)
    try:
        copy = write_recovery(ring, passphrase, random=os.urandom)
    except ValueError as error:
        raise ProblemsError(Problem(where="passphrase", what=str(error), hint="six random words do well")) from None
    write_private(file, copy, replace=False)
    if read_recovery(file.read_bytes(), passphrase, where=str(file)) != ring:
        raise ProblemsError(Problem(where=str(file), what="was not written as it should", hint="try another disk"))
    click.echo(
        f"Wrote {file}, and read it back. Keep it and its passphrase apart from each other and from this machine."
    )


@recovery.command(help="Put a ring back from a recovery copy; one that is there is never replaced.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@_FILE
@click.pass_obj
def restore(places: _Places, file: Path, passphrase_file: Path | None) -> None:
    """Decrypt a copy and write the ring."""
    from relay.config.keyfiles import create_ring, give_to
    from relay.protect.recovery import read_recovery

    ring = read_recovery(file.read_bytes(), _passphrase(passphrase_file, confirm=False), where=str(file))
    give_to(places.keys, places.user)
    path = create_ring(places.keys, ring)
    click.echo(f"Restored {path}: its newest version is {ring.newest.number}, made {_day(ring.newest.created_at)}.")
