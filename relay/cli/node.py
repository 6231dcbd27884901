"""``postern node``: the machines that share one database."""

import asyncio
import os
import pwd
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from relay.cli import tables
from relay.cli.options import Group, config_option, only_asks
from relay.core.errors import Problem, ProblemsError, StoreError

if TYPE_CHECKING:
    from relay.config.settings import Settings
    from relay.store.postgres.line import Connection

_T = TypeVar("_T")
_HEARD: Final = 6.0
"""Seconds after which every process of a node has heard what it was told: a little more than between signs of life."""
_LOOK: Final = 0.5
"""Seconds between looks while waiting for a node to have nothing in hand."""


@click.group(cls=Group, name="node", help="The machines that share one database.")
@config_option(", which says where the database is")
@click.pass_context
def command(ctx: click.Context, config: Path) -> None:
    """Read the configuration."""
    if only_asks(ctx):
        return
    from relay.config.load import load
    from relay.config.store import is_postgres

    settings = load(config)
    if not is_postgres(settings.store):
        hint = "nodes share store: postgresql://USER@HOST/DATABASE"
        raise ProblemsError(Problem(where=str(config), what="the store is sqlite: there is one node alone", hint=hint))
    ctx.obj = settings


def _ask(settings: "Settings", work: "Callable[[Connection], Awaitable[_T]]") -> _T:
    """Run ``work`` on a connection of its own."""

    async def run() -> _T:
        import psycopg

        from relay.app.queue import postgres_options
        from relay.store.postgres.faults import translate
        from relay.store.postgres.line import connect

        try:
            async with await connect(postgres_options(settings), "operator") as connection:
                return await work(connection)
        except psycopg.errors.UndefinedTable as error:
            raise StoreError("the database holds no queue yet: run `postern store migrate`") from error
        except psycopg.Error as error:
            raise translate(error) from error

    return asyncio.run(run())


def _operator() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _note(settings: "Settings", operation: str, name: str) -> bytes:
    """The audit event of an act, sealed."""
    from relay.app.stock import open_vault
    from relay.core.change import AuditEvent
    from relay.store.codec import Codec

    facts = {"operation": operation, "operator": _operator(), "uid": os.getuid(), "node": name}
    event = AuditEvent(kind="operator", at=time.time(), facts=facts)
    return Codec(open_vault(settings)).seal_events((event,))


@command.command(name="list", help="Show every node: whether it lives, is drained, and what it has in hand.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_command(settings: "Settings", *, as_json: bool) -> None:
    """Print the nodes."""
    from relay.store.postgres.nodes import list_nodes

    nodes = _ask(settings, list_nodes)
    if as_json:
        from dataclasses import asdict

        import orjson

        click.echo(orjson.dumps([asdict(node) for node in nodes], option=orjson.OPT_INDENT_2).decode())
        return
    table = tables.table("node", "state", "processes", "in hand", "to archive", "last sign", "version")
    for node in nodes:
        state = "drained" if node.draining else "serving"
        state = state if node.processes else "gone"
        here = f"{node.name} (here)" if node.name == settings.node else node.name
        row: list[Any] = [here, state, node.processes, node.leased, node.outbox, f"{node.silent:.0f} s ago"]
        table.add_row(*map(str, row), node.version)
    tables.show(table)


@command.command(help="Have a node take no more work: it finishes or gives back what it has in hand.")
@click.argument("name", required=False)
@click.option("--wait", type=float, default=0.0, help="Seconds to wait until it has nothing in hand.  [default: 0]")
@click.pass_obj
def drain(settings: "Settings", name: str | None, wait: float) -> None:
    """Drain this node, or another."""
    node = name or settings.node
    _tell(settings, node, draining=True)
    click.echo(f"{node} is told to drain; its processes hear it within seconds, and it stays drained over restarts.")
    if wait and not _ask(settings, lambda connection: _emptied(connection, node, wait)):
        raise StoreError(f"{node} still has entries in hand after {wait:g} s")


@command.command(help="Have a drained node serve again.")
@click.argument("name", required=False)
@click.pass_obj
def resume(settings: "Settings", name: str | None) -> None:
    """Resume this node, or another."""
    node = name or settings.node
    _tell(settings, node, draining=False)
    click.echo(f"{node} is told to serve; its processes hear it within seconds.")


@command.command(help="Forget a node that is gone for good; its audit events go to this node's trail.")
@click.argument("name")
@click.pass_obj
def remove(settings: "Settings", name: str) -> None:
    """Remove a node."""
    from relay.store.postgres import nodes

    note = _note(settings, "node remove", name)
    moved = _ask(settings, lambda connection: nodes.remove(connection, name, here=settings.node, note=note))
    click.echo(f"{name} is removed; {moved} audit events go to the trail of {settings.node}.")


def _tell(settings: "Settings", name: str, *, draining: bool) -> None:
    from relay.store.postgres import nodes

    note = _note(settings, "node drain" if draining else "node resume", name)
    by, here = _operator(), settings.node
    _ask(
        settings,
        lambda connection: nodes.tell(connection, name, draining=draining, by=by, here=here, note=note),
    )


async def _emptied(connection: "Connection", name: str, wait: float) -> bool:
    """Whether a node comes to have nothing in hand within ``wait`` seconds."""
    from relay.store.postgres.nodes import list_nodes

    end = time.monotonic() + wait
    await asyncio.sleep(min(wait, _HEARD))
    while time.monotonic() < end:
        if not next((node.leased for node in await list_nodes(connection) if node.name == name), 0):
            return True
        await asyncio.sleep(_LOOK)
    return False
