"""The ``postern`` command: a file a group of verbs, found by name and imported only when used."""

import errno
import importlib
import os
import sys
from pathlib import Path
from typing import Any, Final

import click
from click.exceptions import NoSuchCommand

from relay import __version__
from relay.core.errors import PosternError

VERBS: Final = {
    "run": "Start the relay and supervise its processes.",
    "reload": "Take up what was changed, and say whether it was.",
    "check": "Check the configuration, and what only running would show.",
    "client": "Add, list and remove the systems that may send.",
    "policy": "Check, explain and test policies.",
    "scan": "Scan messages or text for patients' data.",
    "bounce": "Explain servers' answers and returned mail.",
    "suppress": "The mailboxes that get no mail for now.",
    "queue": "Look at the queue and act on it.",
    "portal": "Messages on the secure page.",
    "node": "The machines that share one database.",
    "store": "Bring the store up to date, check it, copy it.",
    "tls": "What other domains' mail servers can do, and what we publish about ours.",
    "dkim": "Make, show and check signing keys.",
    "keys": "The key ring that seals mail at rest.",
    "proof": "How one message was protected, for the file.",
    "audit": "Show, verify and export the audit trail.",
    "send": "Send a message through a relay.",
    "demo": "Watch the whole system at work on this machine.",
}
"""Verb to its one line of help; the verb ``x`` is the click command ``command`` in ``relay/cli/x.py``."""


class Verbs(click.Group):
    """Loads a verb's module when it is called, so that ``postern --help`` is quick and each verb pays for itself."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs in the order a newcomer meets them."""
        del ctx
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb's command, or ``None`` for an unknown one."""
        del ctx
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"relay.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run; who started us with standard input closed meant that nothing comes from there."""
        if sys.stdin is None:
            sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115  as long as we live
        return super().main(*args, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read what stands before the verb; an option of the verbs themselves is told where it belongs."""
        try:
            return super().parse_args(ctx, args)
        except OSError as error:  # of --help, which is printed here
            raise _clear(error) from error
        except click.NoSuchOption as error:
            if error.option_name != "--config":
                raise
            hint = f"{error.message} It stands after the verb: postern VERB --config FILE."
            raise click.NoSuchOption("--config", hint, ctx=ctx) from None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb that is meant; an unknown one is answered with those that look like it."""
        try:
            return super().resolve_command(ctx, args)
        except NoSuchCommand as error:
            raise NoSuchCommand(error.command_name, possibilities=VERBS, ctx=ctx) from None

    def invoke(self, ctx: click.Context) -> object:
        """Run the verb; what goes wrong is one clear text on stderr and exit status 1, never a traceback.

        Only ``run`` shows where in the code a file failed: it is no person who reads that, but a log.
        """
        try:
            return super().invoke(ctx)
        except PosternError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if ctx.invoked_subcommand == "run":
                raise
            raise _clear(error) from error


def _clear(error: OSError) -> Exception:
    return error if error.errno == errno.EPIPE else click.ClickException(_told(error))


def _told(error: OSError) -> str:
    """Which file, and what the system says of it; without a file it is what this command prints."""
    return f"{error.filename or 'the output'}: {error.strerror or error}"


_STATUS: Final = (
    "Exit status: 0 when it was done and all is well; 1 when it failed, or what was looked at is not as it should be; "
    "2 when the command line is wrong. `run` ends with 78 when its configuration cannot be used, and a process of it "
    "with 74 when the disk failed."
)


def _show_version(ctx: click.Context, _: click.Parameter, is_asked: bool) -> None:  # noqa: FBT001  as click calls it
    if not is_asked or ctx.resilient_parsing:
        return
    from relay.cli import parts

    click.echo("\n".join([f"postern, version {__version__}", *parts.lines()]))
    ctx.exit()


@click.command(cls=Verbs, epilog=_STATUS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and what is compiled, and exit.",
)
def main() -> None:
    """Postern: an SMTP relay that enforces encryption policy for healthcare mail."""
