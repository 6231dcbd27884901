"""``postern portal``: the secure page's messages, over the running system's control socket; and its key ring."""

import datetime as dt
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

import click

from relay.cli import tables
from relay.cli.control import connected, control_options
from relay.cli.options import DEFAULT_CONFIG, Group
from relay.core.errors import Problem, ProblemsError

_STATES: Final = ("waiting", "opened", "expired", "recalled", "withdrawn")


@click.group(cls=Group, name="portal", help="Messages on the secure page.")
@control_options
@click.pass_context
def command(ctx: click.Context, config: Path | None, socket: Path | None) -> None:
    """Find the control socket; connecting waits for the verb."""
    ctx.obj = (config, socket)


_ids = click.argument("ids", nargs=-1, required=True)
_reason = click.option("--reason", required=True, help="Why; kept in the audit trail with your name.")


@command.command()
@click.pass_obj
def init(places: tuple[Path | None, Path | None]) -> None:
    """Make the portal's own key ring and directory, once."""
    from relay.cli.keys import portal_of
    from relay.config.keyfiles import create_ring, give_to
    from relay.config.load import load
    from relay.protect.keyring import KeyRing

    settings = load(places[0] or DEFAULT_CONFIG)
    portal = portal_of(settings)
    if portal.dir == portal.keys_dir or portal.dir in portal.keys_dir.parents:
        what, hint = "the key ring would lie inside the data it protects", "set portal.keys_dir to another directory"
        raise ProblemsError(Problem(where=str(portal.keys_dir), what=what, hint=hint))
    for directory in (portal.keys_dir, portal.dir):
        give_to(directory, settings.user)
    made = create_ring(portal.keys_dir, KeyRing.create(now=time.time(), random=os.urandom))
    click.echo(f"Made {made}.")
    click.echo(
        "Without it no message on the page can ever be opened again. Write a recovery copy, and keep it elsewhere:"
    )
    click.echo("  postern keys --portal recovery write FILE")


@command.command(name="list")
@click.option("--mailbox", default="", help="Of this mailbox.")
@click.option("--message", default="", help="Of this message, by its queue id.")
@click.option("--tenant", default="", help="Of this tenant.")
@click.option("--state", "states", type=click.Choice(_STATES), multiple=True, help="In this state; may be repeated.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=500, show_default=True, help="So many at the most.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a row.")
def list_rows(mailbox: str, message: str, tenant: str, states: tuple[str, ...], limit: int, *, as_json: bool) -> None:
    """List messages, the newest first: who they are for and where they stand, nothing of what they say."""
    rows = _rows(limit, mailbox=mailbox, message=message, tenant=tenant, states=states)
    if as_json:
        for row in rows:
            click.echo(row.model_dump_json())
        return
    if not rows:
        click.echo("There are none.")
        return
    table = tables.table("id", "message", "mailbox", "tenant", "state", "since", "until", "opened", "why")
    for row in rows:
        times = (_day(row.deposited_at), _day(row.expires_at), _day(row.opened_at))
        table.add_row(row.id, row.message_id, row.mailbox, row.tenant, row.state, *times, row.reason)
    tables.show(table)


@command.command()
@_ids
@_reason
def recall(ids: tuple[str, ...], reason: str) -> None:
    """Delete messages so that nobody reads them: IDS of the list, or queue ids for all recipients of a message."""
    from relay.admin.wire_portal import PortalRecallRequest

    _change(PortalRecallRequest, ids=ids, reason=reason)


@command.command()
@_ids
@click.option("--days", type=click.FloatRange(min=0.01, max=366), required=True, help="Days from now.")
@_reason
def extend(ids: tuple[str, ...], days: float, reason: str) -> None:
    """Let messages be read for longer."""
    from relay.admin.wire_portal import PortalExtendRequest

    _change(PortalExtendRequest, ids=ids, days=days, reason=reason)


@command.command()
@_ids
@_reason
def resend(ids: tuple[str, ...], reason: str) -> None:
    """Send the notice once more."""
    from relay.admin.wire_portal import PortalResendRequest

    _change(PortalResendRequest, ids=ids, reason=reason)


@command.command()
@click.argument("ids", nargs=-1)
@click.option("--mailbox", default="", help="For all that --tenant sends this mailbox, in place of IDS.")
@click.option("--tenant", default="", help="Whose messages it opens.")
@click.option("--secret-file", type=click.File("r", encoding="utf-8"), help="Read it there (- for standard input).")
@_reason
def secret(ids: tuple[str, ...], mailbox: str, tenant: str, secret_file: Any, reason: str) -> None:
    """Set the secret that opens messages of specially protected kinds; tell it the patient another way than by mail.

    For IDS of the list (or queue ids), or for all that a tenant sends a mailbox, now and from now on.
    """
    from relay.admin.wire_portal import PortalSecretRequest, PortalTenantSecretRequest

    if bool(ids) == bool(mailbox) or bool(mailbox) != bool(tenant):
        raise click.UsageError("give IDS, or --mailbox and --tenant")
    given = _first_line(secret_file) if secret_file else _asked()
    if mailbox:
        _change(PortalTenantSecretRequest, mailbox=mailbox, tenant=tenant, secret=given, reason=reason)
    else:
        _change(PortalSecretRequest, ids=ids, secret=given, reason=reason)


@command.command()
@click.argument("mailbox")
@_reason
def approve(mailbox: str, reason: str) -> None:
    """After a recovery: let MAILBOX see its older messages again. Be sure who asks: call them."""
    from relay.admin.wire_portal import PortalApproveRequest

    _change(PortalApproveRequest, mailbox=mailbox, reason=reason)


@command.command("sign-out")
@click.argument("mailbox")
@_reason
def sign_out(mailbox: str, reason: str) -> None:
    """End all sessions of MAILBOX and forget its devices: somebody else may hold one."""
    from relay.admin.wire_portal import PortalSignOutRequest

    _change(PortalSignOutRequest, mailbox=mailbox, reason=reason)


def _first_line(file: Any) -> str:
    try:
        line: str = file.readline().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ProblemsError(Problem(where=file.name, what="is not UTF-8 text", hint="save the file as UTF-8")) from None
    return line


def _asked() -> str:
    """The secret typed at a terminal; where there is none it would be echoed, or never come."""
    if not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask for the secret: give --secret-file (- for standard input)")
    given: str = click.prompt("Secret", hide_input=True, confirmation_prompt=True)
    return given


def _change(kind: Any, **values: Any) -> None:
    from relay.admin.wire import ChangeResult

    with connected() as client:
        result = client.ask(_made(kind, **values), ChangeResult)
    for one in result.done:
        click.echo(f"{one.id}: {one.outcome}")
    for one in result.refused:
        click.echo(f"{one.id}: not done, {one.outcome}", err=True)
    if result.refused:
        raise SystemExit(1)


def _rows(limit: int, **where: Any) -> list[Any]:
    from relay.admin.wire_base import MAX_LISTED
    from relay.admin.wire_portal import PortalListRequest, PortalListResult

    rows: list[Any] = []
    after = ""
    with connected() as client:
        while len(rows) < limit:
            size = min(limit - len(rows), MAX_LISTED)
            page = client.ask(_made(PortalListRequest, **where, after=after, limit=size), PortalListResult)
            rows += page.rows
            after = page.after
            if not after:
                break
    return rows


def _made(kind: Any, **values: Any) -> Any:
    from pydantic import ValidationError

    from relay.admin.wire import explain

    try:
        return kind(**values)
    except ValidationError as error:
        raise click.UsageError(explain(error)) from None


def _day(at: float | None) -> str:
    return "" if at is None else dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d %H:%M")
