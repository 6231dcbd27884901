"""``postern reload``: have the running Postern take up what was changed, and hear whether it did."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from relay.cli.check import plain, tell
from relay.cli.options import config_option
from relay.core.errors import Problem, ProblemsError

if TYPE_CHECKING:
    from relay.app.reloads import Record


@click.command(name="reload")
@config_option(", which says where it runs")
@click.option("--timeout", default="60s", show_default=True, metavar="TIME", help="Wait no longer than this.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(config: Path, timeout: str, *, as_json: bool) -> None:
    """Take up a changed configuration, policy, client, key or certificate.

    Has the supervisor of `postern run` prove all of it, and waits until it says how that ended. What is wrong is
    printed as `postern check` prints it, and what ran before runs on; the exit status is 1 then, and when nobody
    answers.
    A role that runs alone (`postern run --role`) has no supervisor: signal it.
    """
    from relay.app.reloads import ask
    from relay.config.load import load

    seconds = _seconds(timeout)
    try:
        run_dir = load(config).run_dir
    except ProblemsError as error:
        _show({"result": "refused", "version": "", "problems": plain(error.problems)}, as_json=as_json)
        if not as_json:
            tell("error", error.problems, "red")
            click.echo("Postern was not asked: what runs, runs on.")
        raise SystemExit(1) from None
    record = ask(run_dir, seconds)
    _show(record.plain(), as_json=as_json)
    if not as_json:
        _tell(record)
    if not record.outcome.is_taken_up:
        raise SystemExit(1)


def _seconds(text: str) -> float:
    from relay.config.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise ProblemsError(Problem(where="--timeout", what=str(error), hint="such as 60s or 2m")) from None


def _show(what: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps(what, option=orjson.OPT_INDENT_2))


def _tell(record: "Record") -> None:
    outcome = record.outcome
    if outcome.is_taken_up:
        tell("warning", outcome.problems, "yellow")
        click.echo(f"reloaded: policy {outcome.version}")
        return
    tell("error", outcome.problems, "red")
    how = "was refused" if outcome.is_refused else "failed"
    click.echo(f"The reload {how}: what ran before runs on.")
