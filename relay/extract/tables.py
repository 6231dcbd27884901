"""The words of the scan as tables: made when Postern is installed, mapped where they lie by every process.

``python -m relay.extract.tables [FILE]`` makes them, by default those of this package; ``hatch_build.py`` does so.
"""

import mmap
import os
import sys
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from relay.core.errors import Problem
from relay.scan.compiled import DamagedTablesError
from relay.scan.icd import IcdTable
from relay.scan.model import Weights
from relay.scan.shapes import ShapeFinder, all_shapes
from relay.scan.word_sources import LEXICONS, LISTS, Sources, made_now, make
from relay.scan.word_tables import WordTables, open_tables

FILE: Final = "_tables.bin"
"""In ``relay/scan``."""


def mapped(table: Traversable) -> memoryview:
    """A compiled table where it lies: its pages are shared by all processes, and read when they are looked at.

    Raises:
        OSError: it is not there, or cannot be read.
        ValueError: it is empty.
    """
    with table.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def read_sources(weights: Weights, shapes: ShapeFinder) -> Sources:
    """What the tables of words are made of, in the package's data."""
    data = files("relay.scan") / "data"
    lexicons, lists = ([(data / name).read_bytes() for name in names] for names in (LEXICONS, LISTS))
    return Sources(tuple(lexicons), tuple(lists), weights.levels, shapes)


def tables_file() -> Traversable:
    """Where those of this package lie, if they were made."""
    return files("relay.scan") / FILE


def load_tables(sources: Sources, file: Traversable | None = None) -> WordTables:
    """The tables of words: those in the file, or made now if there is none or it is of other sources.

    Args:
        sources: what they must be of.
        file: by default the package's.

    Raises:
        DamagedTablesError: the file cannot be read, or is not whole.
    """
    try:
        found = _opened(sources, file or tables_file())
    except FileNotFoundError:
        found = None
    return found or made_now(sources)


def why_unused(file: Traversable | None = None) -> str:
    """Why each process makes the tables for itself, for people; nothing where they are mapped.

    Raises:
        DamagedTablesError: the file cannot be read, or is not whole.
    """
    try:
        return "" if _opened(_shipped_sources(), file or tables_file()) else "are of another version or machine"
    except FileNotFoundError:
        return "are not installed"


def damaged(error: DamagedTablesError) -> Problem:
    """What an operator is told of it."""
    hint = "install Postern anew; without this file it works as well, and starts slower"
    return Problem(where=str(tables_file()), what=f"is damaged: {error}", hint=hint)


def _opened(sources: Sources, file: Traversable) -> WordTables | None:
    """The tables in the file, None where it is of other sources; FileNotFoundError, DamagedTablesError."""
    try:
        return open_tables(mapped(file), sources.digest())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedTablesError(f"it cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DamagedTablesError(str(error)) from error


def _shipped_sources() -> Sources:
    data = files("relay.scan") / "data"
    shapes = ShapeFinder(all_shapes(IcdTable((data / "icd10cm.bin").read_bytes())), native=False)
    return read_sources(Weights.parse((data / "weights.yaml").read_bytes()), shapes)


def main(arguments: list[str]) -> int:
    """Make the tables; the exit status."""
    into = Path(arguments[0] if arguments else str(tables_file()))
    made = make(_shipped_sources())
    unfinished = into.with_name(f".{into.name}.{os.getpid()}")  # processes that run have the one before mapped
    try:
        unfinished.write_bytes(made)
        unfinished.replace(into)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        sys.stderr.write(f"{into}: {error.strerror}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
