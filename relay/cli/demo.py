"""``postern demo``: watch the whole system at work on this machine."""

import asyncio

import click


@click.command("demo")
@click.option("--once", is_flag=True, help="End by itself; exit status 0 only if every message met its expected fate.")
def command(*, once: bool) -> None:
    """Run a relay and a simulated Internet on loopback, send a dozen messages of a sample EHR, and show their fates.

    Everything lies in a temporary directory. All patients are made up.
    """
    from rich.console import Console

    from relay.demo.run import run

    console = Console() if Console().is_terminal else Console(width=180)
    raise SystemExit(asyncio.run(run(console, once=once)))
