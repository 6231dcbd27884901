"""``postern check``: the configuration, and what only running would show."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relay.cli.answer import encoded
from relay.cli.options import config_option
from relay.core.errors import Problem, ProblemsError

if TYPE_CHECKING:
    from relay.config.settings import Settings


@click.command(name="check")
@config_option(" to check")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--print-schema", is_flag=True, help="Print the JSON Schema of the configuration and end.")
@click.option("--print-example", is_flag=True, help="Print every setting with its unit and default and end.")
def command(config: Path, *, as_json: bool, print_schema: bool, print_example: bool) -> None:
    """Check the configuration, and what only running would show.

    Proves that ports can be listened on, keys are private and fit their certificates, certificates are valid,
    directories can be written to, space is left, nameservers answer, the policy loads, the scan's tuning passes its
    tests and every client's file is right; says which compiled parts the installation lacks. Root is asked for all this
    as the user to whom `data_dir` belongs, with the right to listen on ports below 1024, as the service has it.
    Tells everything at once; the exit status is 1 when something is wrong, 0 when there are warnings at most.
    """
    if print_schema or print_example:
        _print_made(schema_too=print_schema)
        return
    errors, warnings = _check(config)
    if as_json:
        shown = {"ok": not errors, "errors": plain(errors), "warnings": plain(warnings)}
        click.echo(encoded(shown, indent=True))
    else:
        tell("error", errors, "red")
        tell("warning", warnings, "yellow")
        click.echo(_summary(config, len(errors), len(warnings)))
    if errors:
        raise SystemExit(1)


def _print_made(*, schema_too: bool) -> None:
    from relay.config.describe import HEADER, annotated, schema
    from relay.config.settings import Settings

    made = schema(Settings, "Postern configuration").decode() if schema_too else annotated(Settings, HEADER)
    click.echo(made, nl=False)


def _check(config: Path) -> tuple[Sequence[Problem], Sequence[Problem]]:
    from datetime import UTC, datetime

    from relay.cli.parts import problems
    from relay.config.load import load_with_places
    from relay.config.prove import prove

    try:
        loaded = load_with_places(config)
    except ProblemsError as error:
        return error.problems, ()
    _as_service(loaded.settings)
    proof = prove(loaded, now=datetime.now(UTC))
    slower, broken = problems()
    found = dict.fromkeys((*proof.errors, *broken, *_untrue(loaded.settings)))  # each told once
    return tuple(found), (*proof.warnings, *slower)


def _as_service(settings: "Settings") -> None:
    """Let root look as the service does: what that may not open or listen on is no fault of root's, and the reverse.

    Where ``user`` is set, root is who starts Postern.
    """
    import os
    import pwd

    from relay.privileges import become

    if os.geteuid() == 0 and settings.user is None and settings.data_dir.is_dir():
        owner = settings.data_dir.stat().st_uid
        # A number without a name, as of a container, or a root that may become nobody: root looks itself.
        with contextlib.suppress(KeyError, ProblemsError):
            if owner:
                become(pwd.getpwuid(owner).pw_name)


def _untrue(settings: "Settings") -> Sequence[Problem]:
    """What the tests in the scan's tuning find."""
    from relay.app.scanning import engine

    if settings.scan.tuning is None:
        return ()
    try:
        engine(settings, lambda plain: plain)
    except ProblemsError as error:
        return error.problems
    return ()


def plain(problems: Sequence[Problem]) -> list[dict[str, str]]:
    """Problems as ``--json`` prints them."""
    return [{"where": one.where, "what": one.what, "hint": one.hint} for one in problems]


def tell(kind: str, problems: Sequence[Problem], colour: str) -> None:
    """Print problems, each under what it is: an ``error`` or a ``warning``."""
    for one in problems:
        click.echo(f"{click.style(kind, fg=colour, bold=True)}: {one.where}: {one.what}")
        if one.hint:
            click.echo(f"    {one.hint}")


def _summary(config: Path, errors: int, warnings: int) -> str:
    if not errors and not warnings:
        return f"{config} is right, and this machine is ready for it."
    counts = [f"{count} {kind}{'s' if count > 1 else ''}" for count, kind in ((errors, "error"), (warnings, "warning"))]
    return f"{config}: {' and '.join(text for text in counts if not text.startswith('0'))}."
