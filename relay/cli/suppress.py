"""``postern suppress``: the mailboxes that get no mail for now, over the running system's control socket."""

import csv
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar

import click

from relay.cli import tables
from relay.cli.control import connected, control_options
from relay.cli.options import Group
from relay.core.errors import PosternError, Problem, ProblemsError

if TYPE_CHECKING:
    from relay.admin.client import ControlClient
    from relay.admin.wire import SuppressionRow, Wire

COLUMNS: Final = ("address", "tenant", "stream", "cause", "since", "until", "by", "evidence")
_FOREVER_YEAR: Final = 9999
_MAX_PROBLEMS: Final = 20
_Request = TypeVar("_Request", bound="Wire")


@click.group(cls=Group, name="suppress", help="The mailboxes that get no mail for now.")
@control_options
@click.pass_context
def command(ctx: click.Context, config: Path | None, socket: Path | None) -> None:
    """Find the control socket; connecting waits for the verb."""
    ctx.obj = (config, socket)


_tenant = click.option("--tenant", default="", help="For mail of this tenant alone.")
_stream = click.option(
    "--stream", type=click.Choice(["transactional", "bulk"]), default=None, help="For this stream alone."
)
_reason = click.option("--reason", required=True, help="Why; kept in the audit trail with your name.")


@command.command(name="list")
@click.argument("address", required=False, default="")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a row.")
def list_rows(address: str, *, as_json: bool) -> None:
    """List the suppressed mailboxes, or what holds for one ADDRESS, with evidence and end."""
    with connected() as client:
        rows = list(_rows(client, address))
    if as_json:
        for row in rows:
            click.echo(row.model_dump_json())
        return
    if not rows:
        click.echo(f"{address} is not suppressed." if address else "Nobody is suppressed.")
        return
    table = tables.table("mailbox", "tenant", "stream", "cause", "since", "until", "by", "evidence")
    for row in rows:
        cells = (row.address, row.tenant or "*", row.stream or "*", row.cause)
        times = (_day(row.since), _day(row.until))
        table.add_row(*cells, *times, row.by, row.evidence)
    tables.show(table)


@command.command()
@click.argument("addresses", nargs=-1, required=True)
@_tenant
@_stream
@click.option("--days", type=click.FloatRange(min=0.01, max=36_500), help="Days it holds; else until it is removed.")
@_reason
def add(addresses: tuple[str, ...], tenant: str, stream: str | None, days: float | None, reason: str) -> None:
    """Refuse mail to ADDRESSES from now on."""
    items = [
        {"address": address, "tenant": tenant, "stream": stream or "", "days": days or 0.0} for address in addresses
    ]
    click.echo(f"{_add(items, reason)} suppressed")


@command.command()
@click.argument("address")
@_tenant
@_stream
@click.option("--exempt-days", type=click.FloatRange(min=0, max=36_500), default=0.0,
              help="Days in which bounces do not suppress it again.")  # fmt: skip
@_reason
def remove(address: str, tenant: str, stream: str | None, exempt_days: float, reason: str) -> None:
    """Let mail to ADDRESS go again: in one tenant and stream, or everywhere when none is named."""
    from relay.admin.wire import SuppressDone, SuppressRemoveRequest

    everywhere = not (tenant or stream)
    request = _made(
        SuppressRemoveRequest,
        address=address,
        tenant=tenant,
        stream=stream or "",
        everywhere=everywhere,
        exempt_days=exempt_days,
        reason=reason,
    )
    with connected() as client:
        done = client.ask(request, SuppressDone).done
    click.echo(f"{address} was not suppressed" if not done else f"{address}: {done} removed")


@command.command(name="import")
@click.argument("file", type=click.File("r", encoding="utf-8"))
@_reason
def import_rows(file: IO[str], reason: str) -> None:
    """Add what a CSV FILE lists (- for stdin): the column address, and any of those that export writes.

    All rows are read before any is added; rows that are over by now are left out.
    """
    try:
        rows = list(_read(file))
    except UnicodeDecodeError:
        raise ProblemsError(Problem(where=file.name, what="is not UTF-8 text", hint="save the file as UTF-8")) from None
    except csv.Error as error:
        raise ProblemsError(Problem(where=file.name, what=f"is not a CSV file: {error}")) from None
    click.echo(f"{_add(rows, reason)} suppressed" if rows else "nothing to import")


@command.command()
@click.argument("files", nargs=-1)
@_tenant
@_stream
@click.option(
    "--days", type=click.FloatRange(min=0.01, max=36_500), default=90.0, show_default=True, help="Days it holds."
)
@click.option("--dry-run", is_flag=True, help="Say what would be suppressed, and do nothing.")
@_reason
def returned(
    files: tuple[str, ...], tenant: str, stream: str | None, days: float, reason: str, *, dry_run: bool
) -> None:
    """Suppress those whom returned messages tell of: hard bounces and complaints.

    FILES are messages, folders of them, or - for standard input. Anyone can write a message that looks like a bounce:
    feed it from a mailbox that only gets what comes back, and look at --dry-run first.
    """
    found = _returned(files or ("-",))
    items = [{**one, "tenant": tenant, "stream": stream or "", "days": days} for one in found]
    if dry_run:
        for one in items:
            click.echo(f"{one['address']}: {one['evidence']}")
    click.echo(f"{len(items)} would be suppressed" if dry_run else f"{_add(items, reason) if items else 0} suppressed")


@command.command()
@click.argument("file", type=click.File("w", encoding="utf-8"), default="-")
def export(file: IO[str]) -> None:
    """Write the list as CSV to FILE (default: standard output)."""
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    with connected() as client:
        for row in _rows(client, ""):
            shown = row.model_dump() | {"since": _moment(row.since), "until": _moment(row.until)}
            writer.writerow({name: shown[name] for name in COLUMNS})


# --- inside ---------------------------------------------------------------


def _rows(client: "ControlClient", address: str) -> "Iterator[SuppressionRow]":
    from relay.admin.wire import SuppressListRequest, SuppressListResult

    after = ""
    while True:
        page = client.ask(_made(SuppressListRequest, recipient=address, after=after), SuppressListResult)
        yield from page.rows
        after = page.after
        if not after:
            return


def _add(rows: list[dict[str, Any]], reason: str) -> int:
    from relay.admin.wire import MAX_SUPPRESSED, SuppressAddRequest, SuppressDone

    requests = [
        _made(SuppressAddRequest, items=tuple(rows[start : start + MAX_SUPPRESSED]), reason=reason)
        for start in range(0, len(rows), MAX_SUPPRESSED)
    ]
    with connected() as client:
        return sum(client.ask(request, SuppressDone).done for request in requests)


def _returned(files: tuple[str, ...]) -> list[dict[str, Any]]:
    """Mailbox, cause and evidence of every verdict that suppresses; the last of a mailbox counts."""
    from relay.cli.bounce import classifier_of, open_source, sources
    from relay.core.address import Address
    from relay.core.errors import AddressError
    from relay.delivery.bounce import BounceAction, BounceClass
    from relay.mail.scrub import scrub
    from relay.reputation.judged import judge
    from relay.reputation.returned import LIMIT, read_returned

    classifier = classifier_of((), click.get_current_context().obj[0])
    found: dict[str, dict[str, Any]] = {}
    for name in sources(files):
        with open_source(name) as stream:
            message = read_returned(stream.read(LIMIT + 1))
        for one in judge(message, classifier):
            verdict = one.verdict
            if verdict is None or verdict.action is not BounceAction.SUPPRESS or not verdict.permanent:
                continue
            try:
                address = Address.parse(one.recipient.address)
            except AddressError:
                click.echo(f"{name}: tells of no mailbox that can be read", err=True)
                continue
            said = scrub(one.recipient.reason, hide=(address.local,))
            about = f" about {message.message_id}" if message.message_id else ""
            evidence = f"{said} ({verdict.klass.value}, rule {verdict.rule}, {message.form}{about})".strip()
            cause = "complaint" if verdict.klass is BounceClass.COMPLAINT else "hard-bounce"
            found[address.key] = {"address": str(address), "cause": cause, "evidence": evidence[:1000]}
    return list(found.values())


def _made(kind: type[_Request], **fields: Any) -> _Request:
    from pydantic import ValidationError

    from relay.admin.wire import explain

    try:
        return kind(**fields)
    except ValidationError as error:
        raise PosternError(explain(error)) from None


def _read(file: IO[str]) -> Iterator[dict[str, Any]]:
    """Rows of a CSV file, checked one by one; every fault is told with its line."""
    reader = csv.DictReader(file)
    name = getattr(file, "name", "-")
    columns = [column.strip().lower() for column in reader.fieldnames or []]
    if "address" not in columns or (unknown := set(columns) - set(COLUMNS)):
        what = "has no column `address`" if "address" not in columns else f"has an unknown column {min(unknown)}"
        raise ProblemsError(Problem(where=f"{name}:1", what=what, hint=f"write a first line of {', '.join(COLUMNS)}"))
    reader.fieldnames = columns
    now = dt.datetime.now(dt.UTC).timestamp()
    problems: list[Problem] = []
    found: list[dict[str, Any]] = []
    for row in reader:
        try:
            item = _item(row)
        except (ValueError, PosternError) as error:
            problems.append(Problem(where=f"{name}:{reader.line_num}", what=str(error)))
            if len(problems) >= _MAX_PROBLEMS:
                break
        else:
            if not item["until"] or item["until"] > now:
                found.append(item)
    if problems:
        raise ProblemsError(*problems)
    yield from found


def _item(row: dict[str, Any]) -> dict[str, Any]:
    from relay.admin.wire import SuppressItem
    from relay.core.address import Address

    fields = {key: (row.get(key) or "").strip() for key in ("address", "tenant", "stream", "cause", "evidence")}
    times = {key: _seconds((row.get(key) or "").strip()) for key in ("since", "until")}
    Address.parse(fields["address"])
    item: SuppressItem = _made(SuppressItem, **{**fields, "cause": fields["cause"] or "operator"}, **times)
    return item.model_dump()


def _seconds(text: str) -> float:
    if not text:
        return 0.0
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a time, such as 2027-01-31T12:00:00+00:00") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


def _moment(seconds: float) -> str:
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return "" if moment.year >= _FOREVER_YEAR else moment.isoformat(timespec="seconds")


def _day(seconds: float) -> str:
    return _moment(seconds)[:10] or "removed"
