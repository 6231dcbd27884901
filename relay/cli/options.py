"""Options that several verbs share."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from relay.core.errors import AddressError, Problem, ProblemsError

if TYPE_CHECKING:
    from relay.core.address import Address

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


class _Utf8(click.ParamType[str]):
    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if any("\ud800" <= mark <= "\udfff" for mark in value):
            self.fail("is not UTF-8", param, ctx)
        return value


UTF8: Final = _Utf8()
"""A word that goes over the control socket: octets that are no UTF-8 cannot."""


class Group(click.Group):
    """A group of verbs whose own ``--config`` and ``--socket`` may also stand behind the verb, where people put them.

    It remembers, before its callback runs, whether it is only asked for help.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Move the options that the group shares with its verbs before them, and read."""
        mine = {name for parameter in self.params for name in parameter.opts} & {"--config", "--socket"}
        return super().parse_args(ctx, _shared_first(args, mine))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the group's callback and then the verb."""
        ctx.meta[_ASKS] = any(argument in ctx.help_option_names for argument in ctx.args)
        return super().invoke(ctx)


def moment(text: str | None) -> float | None:
    """Unix seconds of ``2026-11-22``, ``2026-11-22T10:00`` (UTC unless it says otherwise) or ``7d`` (ago).

    Raises:
        ProblemsError: it is none of these.
    """
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
        return when.replace(tzinfo=when.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        from relay.config.units import parse_duration

    try:
        return time.time() - parse_duration(text)
    except ValueError:
        what = "is neither a day, a time nor a duration"
        raise ProblemsError(Problem(where=text, what=what, hint="such as 2026-11-22, 2026-11-22T10:00 or 7d")) from None


def address(option: str, text: str) -> "Address":
    """The mailbox that an option names, with or without angle brackets.

    Raises:
        ProblemsError: it is none.
    """
    from relay.core.address import Address

    try:
        return Address.parse(text.removeprefix("<").removesuffix(">"))
    except AddressError as error:
        hint = "write it as in pat@mail.example"
        raise ProblemsError(Problem(where=f"{option} {text}", what=str(error), hint=hint)) from None


def one_form(*, as_json: bool, as_html: bool) -> None:
    """Refuse two forms of output at once: the one that is not printed might be the one that was wanted."""
    if as_json and as_html:
        raise click.UsageError("--json and --html exclude each other")


def only_asks(ctx: click.Context) -> bool:
    """Whether a :class:`Group` is only asked what its verbs are (completion, ``VERB --help``): nothing need be read."""
    return ctx.resilient_parsing or bool(ctx.meta.get(_ASKS))


def _shared_first(args: list[str], shared: set[str]) -> list[str]:
    """``args`` with the options ``shared`` and their values at the front; what follows ``--`` stays."""
    first: list[str] = []
    rest: list[str] = []
    left = iter(args)
    for argument in left:
        if argument == "--":
            rest += [argument, *left]
        elif argument in shared:
            first += [argument, *(value for value in [next(left, None)] if value is not None)]
        elif argument.partition("=")[0] in shared:
            first.append(argument)
        else:
            rest.append(argument)
    return first + rest
