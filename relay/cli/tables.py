"""Tables and trees on the terminal, and as wide as they are where they are piped."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_PIPED: Final = 1000
"""Columns where nobody looks: a line that a program reads is not broken at 80."""


def table(*columns: str) -> "Table":
    """An empty table; without names of columns it has no head."""
    from rich import box
    from rich.table import Table

    return Table(*columns, box=box.SIMPLE_HEAD if any(columns) else None, show_header=any(columns), pad_edge=False)


def show(shown: "RenderableType") -> None:
    """Print it: as wide as the terminal, or as it is; brackets in it are text."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPED
    console.print(shown)
