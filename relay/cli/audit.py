"""``postern audit``: show, verify and export the audit trail."""

import getpass
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import orjson

from relay.cli.options import Group, address, config_option, moment, only_asks
from relay.core.errors import PosternError, Problem, ProblemsError

if TYPE_CHECKING:
    from relay.observe.holds import Hold
    from relay.protect.keyring import KeyRing
    from relay.protect.sealing import RingVault

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Places:
    keys: Path
    audit: Path
    heads: Path | None

    def ring(self) -> "KeyRing":
        from relay.config.keyfiles import load_ring

        return load_ring(self.keys)

    def vault(self) -> "RingVault":
        import os

        from relay.protect.sealing import RingVault

        return RingVault(self.ring(), os.urandom)

    def noted(self) -> "dict[str, Hold]":
        """The legal holds that the trail had told of when it was last signed."""
        from relay.observe.segment_files import load_state

        state = load_state(self.audit, self.vault())
        return state.holds if state is not None else {}


def _directory(text: str) -> Callable[[_Command], _Command]:
    return click.option(text, type=click.Path(path_type=Path, file_okay=False), help="Use this directory instead.")


@click.group(cls=Group, name="audit", help="Show, verify and export the audit trail.")
@config_option(", which says where keys and the trail are kept")
@_directory("--keys-dir")
@_directory("--audit-dir")
@click.pass_context
def command(ctx: click.Context, config: Path, keys_dir: Path | None, audit_dir: Path | None) -> None:
    """Find the directories."""
    if only_asks(ctx) or ctx.invoked_subcommand == "check-export":
        return
    heads: Path | None = None
    if keys_dir is None or audit_dir is None:
        from relay.config.load import load

        settings = load(config)
        keys_dir = keys_dir or settings.keys_dir
        if audit_dir is None:
            audit_dir, heads = settings.audit.dir, settings.audit.heads_file
    ctx.obj = _Places(keys=keys_dir.absolute(), audit=audit_dir.absolute(), heads=heads)


def _day(text: str) -> str:
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d")
    except ValueError:
        raise ProblemsError(Problem(where=text, what="is not a day", hint="such as 2026-11-22")) from None


@command.command(help="Show what happened, oldest first.")
@click.option("--message", metavar="ID", help="Only this message.")
@click.option("--recipient", metavar="ADDRESS", help="Only messages to this mailbox, and what else names it.")
@click.option("--since", help="From 2026-11-22, 2026-11-22T10:00 (UTC) or 7d ago on.")
@click.option("--until", help="Up to such a day, time or age.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a record.")
@click.option("--mailboxes", is_flag=True, help="Show whole addresses, not only their domains.")
@click.pass_obj
def show(
    places: _Places, /, *, message: str | None, recipient: str | None, since: str | None, until: str | None,
    as_json: bool, mailboxes: bool,
) -> None:  # fmt: skip
    """Print records."""
    for option, given in (("--message", message), ("--recipient", recipient)):
        if given is not None and not given.strip():  # an unset variable of a script would ask for the whole trail
            raise click.BadParameter("it is empty; leave it out for all messages", param_hint=option)
    from relay.observe.trail import show as records

    found = records(
        places.audit, vault=places.vault(), message_id=message or "", since=moment(since), until=moment(until),
        recipient=address("--recipient", recipient) if recipient else None, mailboxes=mailboxes,
    )  # fmt: skip
    item: dict[str, Any] | None = None
    for item in found:
        if as_json:
            click.echo(orjson.dumps(item).decode())
        else:
            facts = " ".join(
                f"{key}={_plain(key, value)}" for key, value in item["facts"].items() if value not in ("", None)
            )
            click.echo(f"{_moment(item['at'])} {item['kind']:<10} {item['message_id'] or '-'} {facts}")
    if item is None:
        click.echo("No record matches (what is new takes some seconds to come here).", err=True)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _plain(key: str, value: Any) -> str:
    if key.endswith("_at") and isinstance(value, float):
        return _moment(value)
    return value if isinstance(value, str) and value.isprintable() else orjson.dumps(value).decode()


@command.command(
    help="Check the whole trail: links, signatures, gaps, tampering. Exit status 1 when something is wrong."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--heads", type=click.Path(path_type=Path, dir_okay=False),
    help="A file of signed heads kept elsewhere, which the trail must hold.  [default: audit.heads_file]",
)  # fmt: skip
@click.pass_context
def verify(ctx: click.Context, *, as_json: bool, heads: Path | None) -> None:
    """Verify, and say where what is wrong."""
    from relay.observe.trail import verify as check
    from relay.protect.chain import public_keys

    places: _Places = ctx.obj
    heads = heads or places.heads
    report = check(places.audit, vault=places.vault(), keys=public_keys(places.ring()), heads=heads)
    if as_json:
        facts = {
            "whole": not report.faults,
            "segments": report.segments,
            "records": report.records,
            "heads": report.heads,
            "first": report.first,
            "last": report.last,
            "count": report.link.count,
            "hash": report.link.hash.hex(),
            "unsigned": report.unsigned,
            "faults": [{"where": fault.where, "what": fault.what} for fault in report.faults],
        }
        click.echo(orjson.dumps(facts, option=orjson.OPT_INDENT_2).decode())
    else:
        click.echo(
            f"Segments: {report.segments} ({report.first or '-'} to {report.last or '-'}). Records: {report.records}. "
            f"Signed heads: {report.heads}; records after the last of them: {report.unsigned}."
        )
        for fault in report.faults:
            click.echo(str(fault), err=True)
        compared = f" It holds all heads of {heads}." if heads else ""
        click.echo(f"The trail is whole.{compared}" if not report.faults else f"Faults: {len(report.faults)}.")
    if report.faults:
        ctx.exit(1)


@command.command(help="Write the records of some days with a signed head, for somebody else to check.")
@click.option("--from", "first", required=True, metavar="DAY", help="First day (UTC).")
@click.option("--to", "last", required=True, metavar="DAY", help="Last day (UTC).")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="File to write; not replaced."
)
@click.pass_obj
def export(places: _Places, first: str, last: str, out: Path) -> None:
    """Write JSON lines; the file is only there when it is whole."""
    from relay.observe.trail import export as lines

    first, last = _day(first), _day(last)
    if last < first:
        raise ProblemsError(
            Problem(where="--to", what=f"{last} is before {first}", hint="give the first day to --from")
        )
    if out.exists():
        raise ProblemsError(Problem(where=str(out), what="is there already and is not replaced"))
    draft = out.with_name(f".{out.name}.part")
    found = lines(places.audit, vault=places.vault(), ring=places.ring(), first=first, last=last, now=time.time())
    count = 0
    try:
        with draft.open("xb") as file:
            draft.chmod(0o600)
            for line in found:
                file.write(line + b"\n")
                count += 1
        draft.replace(out)
    except OSError as error:
        raise ProblemsError(Problem(where=str(out), what=f"cannot be written: {error.strerror}")) from error
    finally:
        draft.unlink(missing_ok=True)
    click.echo(f"Wrote {max(count - 2, 0)} records to {out}. Check it with: postern audit check-export {out}")


@command.command(name="check-export", help="Check an exported file; needs no key and no configuration.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--key", metavar="ID", help="The audit key's id, as the installation's operator told you.")
def check_export(file: Path, key: str | None) -> None:
    """Check links and signature of an export."""
    from relay.protect.chain import check_export as check

    try:
        with file.open("rb") as lines:
            at = check(lines)
        with file.open("rb") as lines:
            [last] = deque(lines, maxlen=1)  # an export may be larger than memory
    except PosternError as error:
        raise ProblemsError(Problem(where=str(file), what=str(error))) from None
    head = orjson.loads(last)["head"]
    signer, start = head["key"], head["export"]
    if key is not None and key != signer:
        raise ProblemsError(Problem(where=str(file), what=f"is signed with key {signer}, not {key}"))
    span = f"records {start['count'] + 1} to {at.count} of {start['from']} to {start['to']}"
    click.echo(f"Whole: {span}, signed with key {signer}.")
    if key is None:
        click.echo("Compare the key's id with what the operator told you (`postern keys status`).")


# --- legal holds ------------------------------------------------------------


@command.group(help="Legal holds: days whose records are kept however old they are.")
def hold() -> None:
    """Place, list and release holds."""


_by = click.option("--by", default=getpass.getuser, metavar="WHO", help="Who says so.  [default: you]")


@hold.command(name="add", help="Keep the records of some days until the hold is released.")
@click.argument("name")
@click.option("--from", "first", required=True, metavar="DAY", help="First day (UTC).")
@click.option("--to", "last", metavar="DAY", help="Last day (UTC); open when not given.")
@click.option("--reason", required=True, help="The case; no patients' data.")
@_by
@click.pass_obj
def hold_add(places: _Places, name: str, first: str, last: str | None, reason: str, by: str) -> None:
    """Place a hold."""
    from relay.observe.holds import Hold, place_hold

    until = _day(last) if last else "9999-12-31"
    placed = Hold(name=name, first=_day(first), last=until, reason=reason, by=by, at=time.time())
    place_hold(places.audit, placed, places.noted())
    click.echo(f"Hold {name} keeps the records from {_day(first)} to {until}.")


@hold.command(name="list", help="Show the holds that stand.")
@click.option("--all", "released", is_flag=True, help="Show released ones, too.")
@click.pass_obj
def hold_list(places: _Places, *, released: bool) -> None:
    """Print holds, and what is wrong with them; exit status 1 then."""
    from relay.observe.holds import load_holds, standing

    found = standing(places.noted(), in_file := load_holds(places.audit), places.vault())
    if not found.holds:
        click.echo("No holds.")
    for one in found.holds:
        click.echo(f"{one.name}: {one.first} to {one.last}, placed {_date(one.at)} by {one.by}: {one.reason}")
    names = {one.name for one in found.holds}
    for one in in_file if released else ():
        if one.name not in names:
            ended = f"released {_date(one.released_at)} by {one.released_by}: {one.release_reason}"
            click.echo(f"{one.name}: {one.first} to {one.last}, {ended}")
    for what in found.faults:
        click.echo(what, err=True)
    if found.faults:
        raise SystemExit(1)


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


@hold.command(name="release", help="Release a hold; records past their retention expire soon after.")
@click.argument("name")
@click.option("--reason", required=True, help="Why it ends; no patients' data.")
@_by
@click.confirmation_option(prompt="Records past their retention will be deleted. Release?")
@click.pass_obj
def hold_release(places: _Places, name: str, reason: str, by: str) -> None:
    """Release a hold."""
    from relay.observe.holds import release_hold

    released = release_hold(
        places.audit, name, by=by, reason=reason, at=time.time(), noted=places.noted(), vault=places.vault()
    )
    click.echo(f"Released {released.name} ({released.first} to {released.last}).")
