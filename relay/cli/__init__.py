"""The ``postern`` command: a file a group of verbs, found by name and imported only when used."""

import importlib
from typing import Final

import click

from relay import __version__
from relay.core.errors import PosternError

VERBS: Final = {
    "run": "Start the relay and supervise its processes.",
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

    def invoke(self, ctx: click.Context) -> object:
        """Run the verb; an error of Postern's own is one clear text on stderr and exit status 1, never a traceback."""
        try:
            return super().invoke(ctx)
        except PosternError as error:
            raise click.ClickException(str(error)) from error


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="postern")
def main() -> None:
    """Postern: an SMTP relay that enforces encryption policy for healthcare mail."""
