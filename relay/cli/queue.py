"""``postern queue``: look at the queue of the running system and act on it, over its control socket."""

import base64
import datetime as dt
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from relay.cli import tables
from relay.cli.control import connected, control_options
from relay.cli.options import UTF8, Group
from relay.cli.repair import command as repair
from relay.core.errors import PosternError

if TYPE_CHECKING:
    from rich.table import Table

    from relay.admin.wire import ChangeResult, EntryView, Selection, ShowResult, Wire

_F = TypeVar("_F", bound=Callable[..., Any])
_DESTINATIONS: Final = 10
"""Destinations of which `stats` asks for the oldest entry."""
_NEXT: Final = {
    "deferred": "is tried again by itself; now by: postern queue retry ID. Its servers: postern tls probe DOMAIN",
    "held": "waits for you: postern queue release ID (as decided), redecide ID (by the running policy) or bounce ID",
}
"""What can be done about an entry, by its state."""


@click.group(cls=Group, name="queue", help="Look at the queue and act on it.")
@control_options
@click.pass_context
def command(ctx: click.Context, config: Path | None, socket: Path | None) -> None:
    """Find the control socket; connecting waits for the verb."""
    ctx.obj = (config, socket)


command.add_command(repair)


def _json_option(function: _F) -> _F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def _filters(function: _F) -> _F:
    for option in (
        click.option("--recipient", metavar="ADDRESS", default="", help="Only entries with this recipient."),
        click.option("--message", metavar="ID", default="", help="Only entries of this message."),
        click.option("--destination", metavar="DOMAIN", default="", help="Only to this domain or route:NAME."),
        click.option("--state", type=click.Choice(["ready", "deferred", "held"]), help="Only entries in this state."),
    ):
        function = option(function)
    return function


def _selection(ids: tuple[str, ...], where: dict[str, Any]) -> "Selection":
    from pydantic import ValidationError

    from relay.admin.wire import Selection, explain

    try:
        return Selection(ids=ids, **where)
    except ValidationError as error:
        raise PosternError(explain(error)) from None


def _print_json(result: "Wire") -> None:
    click.echo(result.model_dump_json(indent=2))


# --- looking ----------------------------------------------------------


@command.command(name="list", help="List entries; ids are of entries (MESSAGE.N) or whole messages.")
@click.argument("ids", nargs=-1)
@_filters
@click.option("--limit", type=click.IntRange(1, 10_000), default=500, show_default=True, help="Entries at the most.")
@_json_option
def list_entries(ids: tuple[str, ...], limit: int, *, as_json: bool, **where: Any) -> None:
    """Print a table of entries."""
    from relay.admin.wire import ListRequest, ListResult

    with connected() as client:
        result = client.ask(ListRequest(where=_selection(ids, where), limit=limit), ListResult)
    if as_json:
        _print_json(result)
        return
    if not result.entries:
        click.echo("Nothing in the queue matches." if ids or any(where.values()) else "The queue is empty.")
        return
    tables.show(_entries_table(result.entries))
    if result.more:
        click.echo(f"There are more than {limit}: narrow it down, or raise --limit.", err=True)


@command.command(help="Show one message or entry; its content stays sealed.")
@click.argument("id", type=UTF8)
@_json_option
def show(id: str, *, as_json: bool) -> None:  # noqa: A002  the argument's name in the help
    """Print all that is known of a message."""
    from relay.admin.wire import ShowRequest, ShowResult

    with connected() as client:
        result = client.ask(ShowRequest(id=id[:64]), ShowResult)
    if as_json:
        _print_json(result)
        return
    _show_message(result)


@command.command(help="Figures of the queue.")
@_json_option
def stats(*, as_json: bool) -> None:
    """Print counts, ages and the longest destinations, each with its oldest entry."""
    from relay.admin.wire import ListRequest, ListResult, Selection, StatsRequest, StatsResult

    with connected() as client:
        result = client.ask(StatsRequest(), StatsResult)
        oldest: list[EntryView | None] = []
        for destination, _ in () if as_json else result.destinations[:_DESTINATIONS]:
            found = client.ask(ListRequest(where=Selection(destination=destination), limit=1), ListResult)
            oldest.append(next(iter(found.entries), None))  # it may have left by now
    if as_json:
        _print_json(result)
        return
    table = tables.table("", "")
    for name in ("ready", "deferred", "held", "leased"):
        table.add_row(name, str(getattr(result, name)))
    table.add_row("oldest", "-" if result.oldest_age is None else _age(result.oldest_age))
    table.add_row("size", f"{result.bytes:,} octets")
    table.add_row("audit rows waiting", str(result.outbox))
    tables.show(table)
    if oldest:
        tables.show(_destinations_table(result.destinations, oldest))


@command.command(help="Print a held message's content: audited with your name, and an alert.")
@click.argument("id")
@click.option("--reason", required=True, help="Why it must be seen; kept in the audit trail.")
@_json_option
def unseal(id: str, reason: str, *, as_json: bool) -> None:  # noqa: A002  the argument's name in the help
    """Write the message to standard output as it is."""
    from pydantic import ValidationError

    from relay.admin.wire import UnsealRequest, UnsealResult, explain

    try:
        request = UnsealRequest(id=id, reason=reason)
    except ValidationError as error:
        raise PosternError(explain(error)) from None
    with connected() as client:
        result = client.ask(request, UnsealResult)
    if as_json:
        _print_json(result)
        return
    content = base64.b64decode(result.content)
    if sys.stdout.isatty():  # a message must not steer the terminal that shows it
        text = content.decode("utf-8", "replace")
        click.echo("".join(mark if mark.isprintable() or mark in "\n\t" else " " for mark in text))
    else:
        click.echo(content, nl=False)
    if result.truncated:
        click.echo(f"Cut: the message has {result.size:,} octets.", err=True)


# --- changing ---------------------------------------------------------

_CHANGES: Final = {
    "hold": "Stop entries until they are released.",
    "release": "Let held entries go; their floor stays.",
    "retry": "Try waiting entries now.",
    "bounce": "Give up: each sender gets a DSN, unless NOTIFY forbids it.",
    "remove": "Take entries out without telling their senders; the reason is their fate.",
    "redecide": "Ask the running policy again; a floor never falls.",
}


def _reason_option(*, required: bool) -> Callable[[_F], _F]:
    text = "Kept in the audit trail with your name."
    if required:
        return click.option("--reason", required=True, help=text)
    return click.option("--reason", default="", help=text)


def _change_command(operation: str, text: str) -> click.Command:
    @click.argument("ids", nargs=-1)
    @_filters
    @_reason_option(required=operation == "remove")
    @click.option("--yes", is_flag=True, help="Do not ask before acting on what a filter selects.")
    @_json_option
    def change(ids: tuple[str, ...], reason: str, *, yes: bool, as_json: bool, **where: Any) -> None:
        _change(operation, _selection(ids, where), reason, sure=yes or bool(ids), as_json=as_json)

    return click.command(name=operation, help=f"{text} Ids are of entries (MESSAGE.N) or whole messages.")(change)


for _operation, _text in _CHANGES.items():
    command.add_command(_change_command(_operation, _text))


def _change(operation: str, where: "Selection", reason: str, *, sure: bool, as_json: bool) -> None:
    from pydantic import ValidationError

    from relay.admin.wire import MAX_CHANGED, ChangeRequest, ChangeResult, ListRequest, ListResult, explain

    if where.is_empty:
        raise click.UsageError("say which: give ids, or a filter such as --destination or --state")
    try:
        request = ChangeRequest.model_validate({"op": operation, "where": where, "reason": reason})
    except ValidationError as error:
        raise PosternError(explain(error)) from None
    with connected() as client:
        if not sure:
            found = client.ask(ListRequest(where=where, limit=MAX_CHANGED), ListResult)
            number = f"{'more than ' if found.more else ''}{len(found.entries)}"
            click.confirm(f"{operation} {number} entries?", abort=True, err=True)
        result = client.ask(request, ChangeResult)
    if as_json:
        _print_json(result)
    else:
        _tell(result)
    if result.refused:
        click.get_current_context().exit(1)


def _tell(result: "ChangeResult") -> None:
    for one in result.done:
        click.echo(f"{one.id}: {one.outcome}")
    for one in result.refused:
        click.echo(f"{one.id}: not changed: {one.outcome}", err=True)
    if result.more:
        click.echo("There are more: run it again for the rest.", err=True)


# --- tables -----------------------------------------------------------


def _destinations_table(counts: tuple[tuple[str, int], ...], oldest: list["EntryView | None"]) -> "Table":
    now = dt.datetime.now(dt.UTC).timestamp()
    table = tables.table("to", "entries", "of its oldest: state", "age", "next", "tries", "why")
    for (destination, number), entry in zip(counts, oldest, strict=False):
        told = ("-",) * 5
        if entry is not None:
            told = (entry.state, _age(now - entry.created_at), _due(entry, now), str(entry.attempts), entry.reason)
        table.add_row(destination, str(number), *told)
    return table


def _due(entry: "EntryView", now: float) -> str:
    """When an entry is tried next."""
    return "-" if entry.state == "held" else "now" if entry.due_at <= now else f"in {_age(entry.due_at - now)}"


def _entries_table(entries: tuple["EntryView", ...]) -> "Table":
    now = dt.datetime.now(dt.UTC).timestamp()
    table = tables.table("entry", "state", "to", "rcpt", "method", "floor", "rule", "age", "next", "tries", "why")
    for entry in entries:
        table.add_row(
            entry.id,
            entry.state,
            entry.destination,
            str(entry.recipients),
            entry.method,
            entry.floor,
            entry.rule,
            _age(now - entry.created_at),
            _due(entry, now),
            str(entry.attempts),
            entry.reason,
        )
    return table


def _show_message(result: "ShowResult") -> None:
    message = result.message
    findings = ", ".join(f"{kind} {number}" for kind, number in sorted(message.findings.items())) or "none"
    table = tables.table("", "")
    for name, value in (
        ("message", message.id),
        ("origin", message.origin),
        ("client", message.client or "-"),
        ("tenant", message.tenant or "-"),
        ("sender", message.sender or "<>"),
        ("received", dt.datetime.fromtimestamp(message.received_at, dt.UTC).isoformat(" ", "seconds")),
        ("size", f"{message.size:,} octets"),
        ("PHI", message.phi + (", part of it unreadable" if message.unreadable else "")),
        ("findings", findings),
    ):
        table.add_row(name, value)
    for one in result.recipients:
        asked = f", notify {', '.join(one.notify).lower()}" if one.notify else ""
        table.add_row(f"recipient {one.number}", f"{one.address} ({one.entry}){asked}")
    tables.show(table)
    tables.show(_entries_table(result.entries))
    for state in sorted({entry.state for entry in result.entries} & _NEXT.keys()):
        click.echo(f"{state}: {_NEXT[state]}")


def _age(seconds: float) -> str:
    """The two largest units of a duration: ``3h 12m``."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        if left >= size or (unit == "s" and not parts):
            parts.append(f"{left // size}{unit}")
            left %= size
    return " ".join(parts[:2])
