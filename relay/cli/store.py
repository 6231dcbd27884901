"""``postern store``: bring the store up to date, check it, copy it into another."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relay.cli.options import Group, config_option, only_asks
from relay.core.errors import Problem, ProblemsError

if TYPE_CHECKING:
    from relay.config.settings import Settings
    from relay.store.transfer import Shelf, Tally


@dataclass(frozen=True, slots=True)
class _Place:
    """A store, as settings name it."""

    settings: "Settings"

    @property
    def name(self) -> str:
        from relay.config.store import is_postgres
        from relay.store.postgres.line import place

        if is_postgres(self.settings.store):
            return place(self.settings.store)
        return str(self.settings.data_dir / "queue")


@click.group(cls=Group, name="store", help="Bring the store up to date, check it, copy it.")
@config_option(", which says where the store is")
@click.pass_context
def command(ctx: click.Context, config: Path) -> None:
    """Read the configuration."""
    if only_asks(ctx):
        return
    from relay.config.load import load

    ctx.obj = load(config)


@contextlib.asynccontextmanager
async def opened(settings: "Settings", *, at_rest: bool) -> "AsyncIterator[Shelf]":
    """A store; ``at_rest``: only when no Postern works on it."""
    from relay.app import options
    from relay.app.queue import postgres_options
    from relay.config.store import is_postgres
    from relay.store import DirectoryLock
    from relay.store.postgres.shelf import PostgresShelf
    from relay.store.sqlite.shelf import SqliteShelf

    if is_postgres(settings.store):
        shelf = await PostgresShelf.open(postgres_options(settings))
        try:
            if at_rest:
                await shelf.require_rest()
            yield shelf
        finally:
            await shelf.close()
        return
    large = options.store_options(settings).large_body
    with DirectoryLock(settings.data_dir) if at_rest else contextlib.nullcontext():
        queue = SqliteShelf(settings.data_dir / "queue", settings.run_dir, large)
        try:
            yield queue
        finally:
            await queue.close()


def is_there(settings: "Settings") -> bool:
    """Whether there is a store to look into: opening makes one, and what root makes the service cannot open."""
    from relay.config.store import is_postgres

    return is_postgres(settings.store) or (settings.data_dir / "queue" / "queue.db").exists()


def _told(tally: "Tally") -> str:
    return (
        f"{tally.messages} messages ({tally.bytes} octets), {tally.entries} entries, {tally.outbox} rows of audit "
        f"events, {tally.known} things known of other domains"
    )


@command.command(help="Bring the schema up to date; nodes may go on working meanwhile.")
@click.pass_obj
def migrate(settings: "Settings") -> None:
    """Open it, which migrates it."""

    async def run() -> str:
        async with opened(settings, at_rest=False) as shelf:
            state = getattr(shelf, "state", None)
            return f" (version {state.version})" if state else ""

    click.echo(f"{_Place(settings).name}: the schema is up to date{asyncio.run(run())}")


@command.command(help="Open all that is sealed and see that everything belongs together; changes nothing.")
@click.pass_obj
def check(settings: "Settings") -> None:
    """Exit status 1 when something is wrong."""
    if not is_there(settings):
        hint = "is data_dir right? `postern run` makes it"
        raise ProblemsError(Problem(where=_Place(settings).name, what="there is no queue here", hint=hint))

    async def run() -> "tuple[Tally, list[str]]":
        from relay.app.stock import open_vault
        from relay.store.codec import Codec
        from relay.store.transfer import check as look

        codec = Codec(open_vault(settings))
        async with opened(settings, at_rest=False) as shelf:
            return await look(shelf, codec)

    tally, wrong = asyncio.run(run())
    name = _Place(settings).name
    if wrong:
        raise ProblemsError(*(Problem(where=name, what=what) for what in wrong))
    click.echo(f"{name}: whole: {_told(tally)}")


@command.command(help="Copy the configured store into another, empty one, and compare numbers and digests.")
@click.option("--to", required=True, help="sqlite (in data_dir), or postgresql://USER@HOST/DATABASE.")
@click.option("--to-password", type=click.Path(path_type=Path, dir_okay=False), help="File with that one's password.")
@click.pass_obj
def copy(settings: "Settings", to: str, to_password: Path | None) -> None:
    """Copy; Postern must not run on either."""
    from relay.config.secret import SecretFile
    from relay.config.store import store_url
    from relay.store.transfer import copy as transfer

    try:
        url = store_url(to)
    except ValueError as error:
        what, _, hint = str(error).partition("|")
        raise ProblemsError(Problem(where="--to", what=what, hint=hint)) from error
    if url == settings.store:
        raise ProblemsError(Problem(where="--to", what="is the store that the configuration names"))
    password = SecretFile(str(to_password.absolute())) if to_password else None
    target = settings.model_copy(update={"store": url, "store_password": password})

    async def run() -> "Tally":
        async with opened(settings, at_rest=True) as ours, opened(target, at_rest=True) as theirs:
            return await transfer(ours, theirs)

    tally = asyncio.run(run())
    click.echo(f"copied {_told(tally)}")
    click.echo(f"both have the digest {tally.digest}")
    click.echo(f"now write store: {to} into the configuration; the old store is as it was")
