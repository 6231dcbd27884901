"""``postern tls``: what other domains' mail servers can do, and what we publish about ours."""

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from relay.cli import tables
from relay.cli.control import connected, control_options
from relay.cli.options import UTF8, Group, one_form
from relay.core.errors import PosternError

if TYPE_CHECKING:
    from relay.admin.wire_tls import TlsResult, TlsServerView
    from relay.core.address import Address
    from relay.trust.mta_sts import Policy

_COLUMNS: Final = (
    "destination",
    "host",
    "level",
    "best",
    "vouched by",
    "MTA-STS",
    "DANE",
    "TLS",
    "seen",
    "why not more",
)


@click.group(cls=Group, name="tls", help="What other domains' mail servers can do, and what we publish about ours.")
@control_options
@click.pass_context
def command(ctx: click.Context, config: Path | None, socket: Path | None) -> None:
    """Find the control socket; connecting waits for the verb."""
    ctx.obj = (config, socket)


@command.command(help="Show what is known of mail servers: of these domains (or route:NAME), or of all.")
@click.argument("destinations", nargs=-1, type=UTF8)
@click.option("--fallen", is_flag=True, help="Only servers that can less than they could.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--html", "as_html", is_flag=True, help="Print a page that can be filed or printed.")
def report(destinations: tuple[str, ...], *, fallen: bool, as_json: bool, as_html: bool) -> None:
    """Print what is known."""
    one_form(as_json=as_json, as_html=as_html)
    from relay.admin.wire_tls import TlsReportRequest, TlsResult

    with connected() as client:
        result = client.ask(TlsReportRequest(destinations=destinations, fallen=fallen), TlsResult)
    _print(result, as_json=as_json, as_html=as_html, fallen=fallen)


@command.command(help="Meet the mail servers of these domains (or route:NAME) now, without any mail, and show them.")
@click.argument("destinations", nargs=-1, required=True, type=UTF8)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def probe(destinations: tuple[str, ...], *, as_json: bool) -> None:
    """Probe, then print what is known; the exit status is 1 when a domain's servers were not found."""
    from relay.admin.wire_tls import TlsProbeRequest, TlsResult

    if len(destinations) > 50:
        raise PosternError("probe 50 destinations at a time, at the most")
    with connected() as client:
        result = client.ask(TlsProbeRequest(destinations=destinations), TlsResult)
    _print(result, as_json=as_json, as_html=False)
    if result.failed:
        raise SystemExit(1)


@command.command(help="Show reports that others sent about TLS with our servers: of these domains of ours, or of all.")
@click.argument("domains", nargs=-1, type=UTF8)
@click.option("--file", "files", multiple=True, type=click.Path(path_type=Path, dir_okay=False, exists=True),
              help="Read a report from a file or saved message instead; give each.")  # fmt: skip
@click.option("--failed", is_flag=True, help="Only what failed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--html", "as_html", is_flag=True, help="Print a page that can be filed or printed.")
def reports(domains: tuple[str, ...], files: tuple[Path, ...], *, failed: bool, as_json: bool, as_html: bool) -> None:
    """Print reports."""
    one_form(as_json=as_json, as_html=as_html)
    from relay.cli import tls_reports

    found = tls_reports.of_files(files) if files else tls_reports.kept(domains)
    tls_reports.show(found, failed=failed, as_json=as_json, as_html=as_html)


@command.command(help="Print the records and the policy file that domains of ours are to publish (RFC 8461, RFC 8460).")
@click.argument("domain", required=False)
@click.option("--mx", "hosts", multiple=True, help="Host name of a mail server, or *.x; none: as tls.publish says.")
@click.option(
    "--mode", type=click.Choice(["testing", "enforce", "none"]), default="testing", show_default=True,
    help="With --mx: the policy's mode.",
)  # fmt: skip
@click.option(
    "--max-age", type=click.IntRange(86_400, 31_557_600), default=604_800, show_default=True,
    help="With --mx: seconds that others keep the policy.",
)  # fmt: skip
@click.option("--reports", metavar="MAILBOX", help="Where reports about TLS are to be sent (RFC 8460).")
@click.option("--file-only", is_flag=True, help="Print the policy file alone, as it is to be served.")
@click.pass_context
def policy(
    ctx: click.Context,
    domain: str | None,
    hosts: tuple[str, ...],
    mode: str,
    max_age: int,
    reports: str | None,
    *,
    file_only: bool,
) -> None:
    """Print what to put where: of one domain as the options say, or of those in the configuration."""
    from relay.core.address import Address, normalise_domain
    from relay.trust.mta_sts import Mode, Policy, PolicyError

    name = normalise_domain(domain) if domain else ""
    if not hosts:
        _print_configured(ctx.obj[0], name, file_only=file_only)
        return
    if not name:
        raise PosternError("name the domain that --mx is of")
    try:
        asked = Policy(mode=Mode(mode), max_age=max_age, mx=hosts)
        Policy.parse(asked.text().encode())
    except PolicyError as error:
        raise PosternError(str(error)) from None
    _print_policy(name, asked, Address.parse(reports) if reports else None, file_only=file_only)


def _print_configured(config: Path | None, name: str, *, file_only: bool) -> None:
    from relay.app.publish import policy_of
    from relay.cli.options import DEFAULT_CONFIG
    from relay.config.load import load
    from relay.core.address import Address

    settings = load(config or DEFAULT_CONFIG)
    wanted = [one for one in settings.tls.publish.domains if name in ("", one.domain)]
    if not wanted:
        raise PosternError(f"tls.publish.domains does not name {name or 'any domain'}: add it there, or give --mx")
    if file_only and len(wanted) > 1:
        raise PosternError("name the domain whose policy file you want")
    for one in wanted:
        _print_policy(one.domain, policy_of(one), Address.parse(one.reports) if one.reports else None,
                      file_only=file_only)  # fmt: skip


def _print_policy(name: str, policy: "Policy", reports: "Address | None", *, file_only: bool) -> None:
    from relay.trust.published import records

    if not file_only:
        click.echo("; records")
        for line in records(name, policy, reports):
            click.echo(line)
        click.echo(f"; to be served as text/plain at https://mta-sts.{name}/.well-known/mta-sts.txt")
    click.echo(policy.text().replace("\r\n", "\n"), nl=False)


# --- showing ----------------------------------------------------------


def _print(result: "TlsResult", *, as_json: bool, as_html: bool, fallen: bool = False) -> None:
    if as_json:
        click.echo(result.model_dump_json(indent=2))
        return
    rows = [_row(one) for one in result.servers]
    if as_html:
        from relay.cli import page

        told = page.note(f"As of {_moment(dt.datetime.now(dt.UTC).timestamp())}. Servers that fell below their best:"
                         f" {sum(1 for one in result.servers if one.downgraded_at)}.")  # fmt: skip
        click.echo(page.page("TLS of the mail servers we know", [told, page.table(_COLUMNS, rows)]), nl=False)
        return
    if rows:
        _show(rows)
    elif fallen:
        click.echo("None of the servers that are known fell below its best.")
    elif not result.failed:
        click.echo("Nothing is known of these servers yet: postern tls probe DOMAIN meets them.")
    for one in result.failed:
        click.echo(f"{one.id}: {one.outcome}", err=True)
    if result.more:
        click.echo("There are more: name domains, or ask for --fallen.", err=True)


def _show(rows: list[tuple[str, ...]]) -> None:
    table = tables.table(*_COLUMNS)
    for row in rows:
        table.add_row(*row)
    tables.show(table)


def _row(one: "TlsServerView") -> tuple[str, ...]:
    level = f"{one.level}, fell {_moment(one.downgraded_at)}" if one.downgraded_at else one.level
    tls = f"{one.tls_version} {one.cipher}".strip() or "-"
    seen = f"{_moment(one.seen_at)} ({one.how})"
    return (
        one.domain, one.host, level, one.best, one.vouched_by, one.mta_sts or "-", one.dane or "-", tls, seen,
        one.failure or "-",
    )  # fmt: skip


def _moment(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
