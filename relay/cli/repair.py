"""``postern queue repair``: a damaged queue file, made whole as far as what is in it can be read."""

import dataclasses
import json
import os
import pwd
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relay.cli.options import DEFAULT_CONFIG
from relay.core.errors import Problem, ProblemsError

if TYPE_CHECKING:
    from relay.config.settings import Settings
    from relay.store.codec import Codec
    from relay.store.sqlite.repair import Repaired

_SHOWN = 50


@click.command(
    name="repair",
    help="Set a damaged queue file aside, and carry over all that is sound in it. Postern must not run. "
    "Ends with 1 when something was lost or is held for you to decide.",
)
@click.option("--force", is_flag=True, help="Also when nothing wrong is found.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(obj: tuple[Path | None, Path | None], *, force: bool, as_json: bool) -> None:
    """Look, mend, and tell."""
    from relay.app.stock import open_vault
    from relay.config.load import load
    from relay.config.store import is_postgres
    from relay.store import DirectoryLock
    from relay.store.codec import Codec
    from relay.store.sqlite.repair import repair

    settings = load(obj[0] or DEFAULT_CONFIG)
    if is_postgres(settings.store):
        what, hint = "the queue is in PostgreSQL, which has means of its own", "restore it from its backup or standby"
        raise ProblemsError(Problem(where="store", what=what, hint=hint))
    directory = settings.data_dir / "queue"
    _as_owner(directory)
    codec = Codec(open_vault(settings))
    with DirectoryLock(settings.data_dir):
        if not force and (directory / "queue.db").exists() and _is_whole(settings, codec):
            told = {"set_aside": "", "troubles": []}
            words = f"{directory}: nothing is wrong with it: left as it is"
            click.echo(json.dumps(told, indent=2) if as_json else words)
            return
        made = repair(directory, codec, now=time.time())
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(made) | {"set_aside": str(made.set_aside)}, indent=2))
    else:
        _tell(made)
    sys.exit(1 if made.troubles else 0)


def _as_owner(directory: Path) -> None:
    """Let root go on as the user whose queue it is: Postern could not open files that root had made anew."""
    if os.geteuid() != 0 or not directory.exists():
        return
    owner = directory.stat()
    if owner.st_uid:
        os.setgroups(os.getgrouplist(_name_of(owner.st_uid, directory), owner.st_gid))
        os.setresgid(owner.st_gid, owner.st_gid, owner.st_gid)
        os.setresuid(owner.st_uid, owner.st_uid, owner.st_uid)


def _name_of(uid: int, directory: Path) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        what, hint = f"it belongs to the user {uid}, who is not there", "give it to the user that Postern runs as"
        raise ProblemsError(Problem(where=str(directory), what=what, hint=hint)) from None


def _is_whole(settings: "Settings", codec: "Codec") -> bool:
    """Whether everything can be read, opens, and belongs together.

    Raises:
        NewerError: it is of a newer version, and to this one would look damaged.
    """
    import asyncio

    import apsw

    from relay.app import options
    from relay.store.sqlite.schema import NewerError
    from relay.store.sqlite.shelf import SqliteShelf
    from relay.store.transfer import check

    async def look() -> list[str]:
        large = options.store_options(settings).large_body
        shelf = SqliteShelf(settings.data_dir / "queue", settings.run_dir, large)
        try:
            return (await check(shelf, codec))[1]
        finally:
            await shelf.close()

    try:
        return not asyncio.run(look())
    except NewerError:
        raise
    except (ProblemsError, apsw.Error):
        return False


def _tell(made: "Repaired") -> None:
    click.echo(f"the damaged files are in {made.set_aside}: keep them until you have seen to what is below")
    click.echo(
        f"carried over: {made.messages} messages with {made.entries} entries, {made.outbox} rows of audit events, "
        f"{made.known} things known, {made.memos} memos of mail that left"
    )
    for trouble in made.troubles[:_SHOWN]:
        click.echo(f"{'LOST' if trouble.lost else 'held'}: {trouble.name}: {trouble.what}")
    if len(made.troubles) > _SHOWN:
        click.echo(f"and {len(made.troubles) - _SHOWN} more: --json names all; the audit trail keeps them")
    if not made.troubles:
        click.echo("nothing was lost")
