"""How verbs reach the running system: its control socket."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from relay.cli.options import DEFAULT_CONFIG

if TYPE_CHECKING:
    from relay.admin.client import ControlClient

DEFAULT_SOCKET: Final = Path("/run/postern/control.sock")
_F = TypeVar("_F", bound=Callable[..., Any])


def control_options(function: _F) -> _F:
    """``--config`` and ``--socket``, for a group whose context object is ``(config, socket)``."""
    config = click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="POSTERN_CONFIG",
        show_envvar=True,
        help=f"The configuration, which says where the control socket is.  [default: {DEFAULT_CONFIG}]",
    )
    socket = click.option(
        "--socket",
        type=click.Path(path_type=Path),
        envvar="POSTERN_SOCKET",
        show_envvar=True,
        help="The control socket itself.",
    )
    return config(socket(function))


@contextlib.contextmanager
def connected() -> Iterator["ControlClient"]:
    """A connection to the running system, as the group's options say.

    Raises:
        ControlError: nothing listens there, or this user may not connect.
    """
    from relay.admin.client import ControlClient

    config, socket = click.get_current_context().obj
    with ControlClient(socket or _configured(config)) as client:
        yield client


def _configured(config: Path | None) -> Path:
    """The socket that the configuration names; the usual one where there is no configuration this user can read."""
    if config is None:
        config = DEFAULT_CONFIG
        if not os.access(config, os.R_OK):
            return DEFAULT_SOCKET
    from relay.config.load import load

    return Path(str(load(config).control.socket))
