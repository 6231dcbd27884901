"""Options that several verbs share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

DEFAULT_CONFIG: Final = Path("/etc/postern/postern.yaml")

_ASKS: Final = "relay.cli.asks"
_Command = TypeVar("_Command", bound=Callable[..., Any])


def config_option(what: str) -> Callable[[_Command], _Command]:
    """``--config``, also from ``$POSTERN_CONFIG``; ``what`` ends its help: what it is read for."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        default=DEFAULT_CONFIG,
        envvar="POSTERN_CONFIG",
        show_default=True,
        show_envvar=True,
        help=f"The configuration{what}.",
    )


class Group(click.Group):
    """A group of verbs that remembers, before its callback runs, whether it is only asked for help."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the group's callback and then the verb."""
        ctx.meta[_ASKS] = any(argument in ctx.help_option_names for argument in ctx.args)
        return super().invoke(ctx)


def only_asks(ctx: click.Context) -> bool:
    """Whether a :class:`Group` is only asked what its verbs are (completion, ``VERB --help``): nothing need be read."""
    return ctx.resilient_parsing or bool(ctx.meta.get(_ASKS))
