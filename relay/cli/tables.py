"""Tables on the terminal, and as wide as they are where they are piped."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

_PIPED = 240  # columns: no one reads it at 80


def table(*columns: str) -> "Table":
    """An empty table; without names of columns it has no head."""
    from rich import box
    from rich.table import Table

    return Table(*columns, box=box.SIMPLE_HEAD if any(columns) else None, show_header=any(columns), pad_edge=False)


def show(shown: "Table") -> None:
    """Print it."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = _PIPED
    console.print(shown)
