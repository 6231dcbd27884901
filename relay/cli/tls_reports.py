"""What ``postern tls reports`` shows: reports about TLS that others sent (RFC 8460)."""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from relay.admin.wire_tls import TlsReportsRequest, TlsReportsResult, TlsReportView
from relay.cli import page, tables
from relay.cli.control import connected
from relay.core.errors import PosternError
from relay.trust.tlsrpt import MAX_MESSAGE, ReportError, find_report

_COLUMNS: Final = ("day", "reporter", "domain", "policy", "good", "failed", "how", "server", "from")


def kept(domains: tuple[str, ...]) -> TlsReportsResult:
    """The reports that the running Postern keeps."""
    with connected() as client:
        return client.ask(TlsReportsRequest(domains=domains), TlsReportsResult)


def of_files(files: Sequence[Path]) -> TlsReportsResult:
    """The reports in files.

    Raises:
        PosternError: one has none, or one that cannot be read.
    """
    found = []
    for path in files:
        with path.open("rb") as stream:
            content = stream.read(MAX_MESSAGE + 1)
        try:
            report = find_report(content)
        except ReportError as error:
            raise PosternError(f"{path}: {error}") from None
        if report is None:
            raise PosternError(f"{path}: no report about TLS is in it")
        found.append(TlsReportView(**asdict(report)))
    return TlsReportsResult(reports=tuple(found))


def show(result: TlsReportsResult, *, failed: bool, as_json: bool, as_html: bool) -> None:
    """Print them."""
    if as_json:
        click.echo(result.model_dump_json(indent=2))
        return
    rows = [row for one in result.reports for row in _rows(one) if not failed or row[5] != "0"]
    if as_html:
        good, bad = _sums(result)
        told = page.note(f"{len(result.reports)} reports; sessions that went well: {good:,}; that failed: {bad:,}.")
        click.echo(
            page.page("What others report of TLS with our servers", [told, page.table(_COLUMNS, rows)]), nl=False
        )
    elif rows:
        _table(rows)
    else:
        click.echo("Nobody reported a failure." if failed and result.reports else "No report has come yet.")
    if result.more:
        click.echo("There are older ones: name a domain.", err=True)


def _sums(result: TlsReportsResult) -> tuple[int, int]:
    policies = [policy for one in result.reports for policy in one.policies]
    return sum(one.succeeded for one in policies), sum(one.failed for one in policies)


def _rows(one: TlsReportView) -> Iterator[tuple[str, ...]]:
    """A row a policy, and one below it for each way to fail."""
    day = dt.datetime.fromtimestamp(one.begin, dt.UTC).strftime("%Y-%m-%d")
    for policy in one.policies:
        head = (day, one.organization or "-", policy.domain or "-", policy.kind or "-")
        yield (*head, f"{policy.succeeded}", f"{policy.failed}", "", "", "")
        for way in policy.details:
            how = f"{way.result}: {way.reason}" if way.reason else way.result
            server = " ".join(text for text in (way.receiving_host, way.receiving_ip) if text)
            yield ("", "", "", "", "", f"{way.count}", how, server or "-", way.sending_ip or "-")


def _table(rows: list[tuple[str, ...]]) -> None:
    table = tables.table(*_COLUMNS)
    for row in rows:
        table.add_row(*row)
    tables.show(table)
