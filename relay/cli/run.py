"""``postern run``: start the relay and supervise its processes, or run one role alone."""

import asyncio
import os
from pathlib import Path

import click

from relay.cli.options import config_option
from relay.core.errors import ProblemsError


@click.command("run")
@config_option("")
@click.option(
    "--role",
    type=click.Choice(["worker", "admin", "extract", "portal"]),
    help="Run this role alone, as systemd units do.",
)
@click.option("--name", default="", help="With --role: the process's name in logs and leases.")
def command(config: Path, role: str | None, name: str) -> None:
    """Start the relay.

    Without --role a supervisor starts every process, replaces those that die, reloads when `postern reload` asks (or on
    SIGHUP) and drains on SIGTERM.
    """
    from relay import plainlog  # noqa: F401  before structlog

    if role is None:
        from relay.app.oversee import run
        from relay.supervisor import EX_CONFIG

        try:
            status = asyncio.run(run(config))
        except ProblemsError as error:
            click.echo(f"Error: {error}", err=True)
            status = EX_CONFIG  # systemd does not try again what only a person can mend
        raise SystemExit(status)
    from relay import roles

    raise SystemExit(roles.main([role, "--name", name or f"{role}-{os.getpid()}", "--config", str(config)]))
