"""``postern policy history``: which policy ran when on which node, and what it said."""

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from relay.cli import tables
from relay.cli.options import Group, only_asks
from relay.core.errors import StoreError

if TYPE_CHECKING:
    from relay.config.settings import Settings
    from relay.core.ports import Known
    from relay.observe.policy_history import PolicyFile, PolicyRun, PolicyText

_SHORTEST: Final = 6
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(cls=Group, name="history", invoke_without_command=True, help="Show which policy ran when on which node.")
@_JSON
@click.pass_context
def history(ctx: click.Context, *, as_json: bool) -> None:
    """List the runs, unless a verb follows."""
    if only_asks(ctx):
        return
    from relay.config.load import load

    settings = ctx.obj.settings or load(ctx.obj.config)
    if ctx.invoked_subcommand is None:
        _list(_runs(settings), as_json=as_json)
    ctx.obj = settings


@history.command(name="list", help="Show which policy ran when on which node.")
@_JSON
@click.pass_obj
def list_command(settings: "Settings", *, as_json: bool) -> None:
    """Print the runs, oldest first."""
    _list(_runs(settings), as_json=as_json)


@history.command(help="Show what a version said; its first 6 digits are enough.")
@click.argument("version")
@_JSON
@click.pass_obj
def show(settings: "Settings", version: str, *, as_json: bool) -> None:
    """Print its files."""
    text = text_of(settings, version)
    if as_json:
        _print_json(asdict(text))
        return
    click.echo(f"# policy {text.name}, version {text.version}")
    for file in text.files:
        click.echo(f"\n# --- {file.name}")
        click.echo("".join(_lines(file)), nl=False)


@history.command(help="Show what differs between two versions; without NEW, between OLD and what ran last here.")
@click.argument("old")
@click.argument("new", required=False)
@click.pass_obj
def diff(settings: "Settings", old: str, new: str | None) -> None:
    """Print a unified diff, file by file."""
    import difflib

    if new is None:
        here = [run.version for run in _runs(settings) if run.node == settings.node]
        if not here:
            raise StoreError(f"no policy has run on {settings.node} yet: name two versions")
        new = here[-1]
    texts = [text_of(settings, version) for version in (old, new)]
    before, after = ({file.name: _lines(file) for file in text.files} for text in texts)
    names = [f"{text.version[:12]}/" for text in texts]
    for name in sorted(before.keys() | after.keys()):
        lines = difflib.unified_diff(before.get(name, []), after.get(name, []), names[0] + name, names[1] + name)
        click.echo("".join(lines), nl=False)


# --- reading ----------------------------------------------------------


def _known(settings: "Settings", kind: str) -> "list[Known]":
    from relay.cli.store import is_there, opened

    if not is_there(settings):
        return []

    async def read() -> "list[Known]":
        found: list[Known] = []
        async with opened(settings, at_rest=False) as shelf:
            after = (kind, "")
            while page := await shelf.known(after, 200):
                mine = [known for known in page if known.kind == kind]
                found += mine
                if len(mine) < len(page):
                    break
                after = (kind, page[-1].name)
        return found

    return asyncio.run(read())


def _runs(settings: "Settings") -> "list[PolicyRun]":
    from relay.observe.policy_history import RUNS, run_of

    return sorted((run_of(known) for known in _known(settings, RUNS)), key=lambda run: run.since)


def text_of(settings: "Settings", version: str) -> "PolicyText":
    """What a version said.

    Raises:
        StoreError: it is not known, or the beginning of several.
    """
    from relay.app.stock import open_vault
    from relay.observe.policy_history import TEXTS, opened

    if len(version) < _SHORTEST:
        raise StoreError(f"{version}: give {_SHORTEST} digits of the version at least")
    found = [known for known in _known(settings, TEXTS) if known.name.startswith(version.lower())]
    if len(found) != 1:
        what = "is not the beginning of any version that is known" if not found else "is the beginning of several"
        raise StoreError(f"{version} {what}: see `postern policy history`")
    return opened(found[0], open_vault(settings))


# --- words ------------------------------------------------------------


def _list(runs: "list[PolicyRun]", *, as_json: bool) -> None:
    ends: dict[str, float] = {}
    shown: list[dict[str, Any]] = []
    for run in reversed(runs):
        shown.append({**asdict(run), "until": ends.get(run.node)})
        ends[run.node] = run.since
    shown.reverse()
    if as_json:
        _print_json(shown)
        return
    table = tables.table("from", "until", "node", "version")
    for row in shown:
        table.add_row(_moment(row["since"]), _moment(row["until"]), row["node"], row["version"][:12])
    tables.show(table)


def _moment(seconds: float | None) -> str:
    return "-" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _lines(file: "PolicyFile") -> list[str]:
    """A file's lines; of one whose text is not kept, what tells whether it changed."""
    if not file.text:
        return [f"# not kept here: {file.size} octets, SHA-256 {file.sha256}\n"]
    return [f"{line}\n" for line in file.text.splitlines()]


def _print_json(value: Any) -> None:
    import orjson

    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
