"""Named sets of addresses and domains: inline, shipped, or from CSV files, with rows that expire."""

import csv
import io
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final, Protocol

from relay.core.address import Address, normalise_domain
from relay.core.errors import AddressError, Problem
from relay.policy.near import Neighbours

MAX_ROWS: Final = 1_000_000
_COLUMNS: Final = ("address", "clinic", "date", "expiry")
_LIKE: Final = {"clinic": "clini", "expiry": "expir"}
"""How the names begin that are meant for a column whose absence would make a row count for more."""
_AHEAD: Final = 14 * 3600
"""Seconds by which the earliest time zone is ahead of UTC: what is today anywhere does not lie in the future."""


@dataclass(frozen=True, slots=True)
class Row:
    """A member that counts only under conditions.

    Attributes:
        clinic: tenant, client or sending domain it counts for, lower case; empty: all.
        until: unix seconds from which it no longer counts; infinite when it does not expire.
    """

    clinic: str = ""
    until: float = float("inf")


@dataclass(slots=True)
class Members:
    """A list while it is read. ``always`` count without conditions; ``rows`` hold the conditions of the others.

    Keys are addresses in their look-up form, domains in A-labels, and ``*.x`` for all below x.
    """

    name: str
    always: set[str] = field(default_factory=set)
    rows: dict[str, list[Row]] = field(default_factory=dict)

    def add(self, key: str, row: Row) -> None:
        """Take in one member."""
        if row == Row():
            self.always.add(key)
        else:
            self.rows.setdefault(key, []).append(row)

    def canonical(self) -> list[object]:
        """Equal for equal contents, whatever their order: part of the policy's version."""
        rows = sorted((key, sorted([row.clinic, str(row.until)] for row in rows)) for key, rows in self.rows.items())
        return [self.name, sorted(self.always), rows]


def member_key(text: str) -> str:
    """The look-up form of an address, a domain, or ``*.domain``.

    Raises:
        AddressError: none of these; the text does not repeat it.
    """
    text = text.strip()
    if "@" in text:
        return mailbox_key(text)
    return "*." + normalise_domain(text[2:]) if text.startswith("*.") else domain_key(text)


def mailbox_key(text: str) -> str:
    """The look-up form of one address.

    Raises:
        AddressError: not an address, or one that is written as if ``*`` meant all of a domain.
    """
    address = Address.parse(text)
    if address.local == "*":
        raise AddressError("`*` before the @ stands for itself; for all of a domain give the domain")
    return address.key


def domain_key(text: str) -> str:
    """A domain that mail can be for, in A-labels.

    Raises:
        AddressError: not a domain, or one without a dot.
    """
    domain = normalise_domain(text)
    if "." not in domain and not domain.startswith("["):
        raise AddressError("a domain needs a dot")
    return domain


def read_lines(members: Members, text: str) -> None:
    """Take in a shipped list: a domain a line, ``#`` begins a comment.

    Raises:
        AddressError: a line that is no domain: the package is damaged.
    """
    for line in text.splitlines():
        entry = line.partition("#")[0].strip()
        if entry:
            members.add(member_key(entry), Row())


def read_csv(members: Members, text: str, name: str, *, now: float) -> tuple[list[Problem], list[Problem]]:
    """Take in a CSV file; returns (faults, warnings).

    The first row names the columns: ``address`` (or ``domain``), and optionally ``clinic``, ``date`` and ``expiry``
    (ISO dates; a row counts to the end of its expiry day, UTC). Other columns are ignored.
    """
    faults: list[Problem] = []
    warnings: list[Problem] = []
    rows = csv.reader(io.StringIO(text.removeprefix("\ufeff")), strict=True)
    columns: dict[str, int] | None = None
    try:
        for row in rows:
            if not any(cell.strip() for cell in row) or row[0].lstrip().startswith("#"):
                continue
            where = f"{name}:{rows.line_num}"
            if columns is None:
                columns = _columns(row, where, faults, warnings)
                if not columns:
                    break
                continue
            if rows.line_num > MAX_ROWS:
                faults.append(Problem(where=where, what=f"more than {MAX_ROWS} rows", hint="split the list"))
                break
            _read_row(members, row, columns, where, now, faults, warnings)
    except csv.Error as error:
        faults.append(Problem(where=f"{name}:{rows.line_num}", what=f"not CSV: {error}", hint="check the quotes"))
    if columns is None:
        faults.append(Problem(where=f"{name}:1", what="no header row", hint="begin with: address,clinic,date,expiry"))
    return faults, warnings


def _columns(row: list[str], where: str, faults: list[Problem], warnings: list[Problem]) -> dict[str, int]:
    names = [cell.strip().lower() for cell in row]
    faults += [
        Problem(where=where, what=f"the column `{name}` is given twice", hint="keep one")
        for name in _COLUMNS
        if names.count(name) > 1
    ]
    for wanted, beginning in _LIKE.items():
        if wanted not in names and any(name.startswith(beginning) for name in names):
            what = f"there is no column `{wanted}`, though one is called much like it; that one is ignored"
            warnings.append(Problem(where=where, what=what, hint=f"call it {wanted}"))
    columns = {name: number for number, name in enumerate(names) if name in _COLUMNS}
    if "address" not in columns and "domain" in names:
        columns["address"] = names.index("domain")
    if "address" not in columns:
        hint = "the first row names the columns: address,clinic,date,expiry"
        faults.append(Problem(where=where, what="no column `address` or `domain`", hint=hint))
        return {}
    return columns


def _read_row(
    members: Members,
    row: list[str],
    columns: dict[str, int],
    where: str,
    now: float,
    faults: list[Problem],
    warnings: list[Problem],
) -> None:
    cell = {name: row[number].strip() if number < len(row) else "" for name, number in columns.items()}
    try:
        key = member_key(cell["address"])
    except AddressError as error:
        faults.append(
            Problem(where=where, what=f"not an address or domain: {error}", hint="a row is: address,clinic,date,expiry")
        )
        return
    dates: dict[str, date | None] = {"date": None, "expiry": None}
    for column in dates:
        try:
            dates[column] = date.fromisoformat(cell[column]) if cell.get(column) else None
        except ValueError:
            faults.append(Problem(where=where, what=f"`{column}` is not a date", hint="write YYYY-MM-DD: 2026-01-31"))
            return
    until = _end_of(dates["expiry"])
    if until <= now:
        warnings.append(Problem(where=where, what="this row has expired and does not count", hint="renew or remove it"))
    if dates["date"] and _end_of(dates["date"]) - 86400 > now + _AHEAD:
        faults.append(Problem(where=where, what="`date` lies in the future", hint="give the day that has been"))
        return
    members.add(key, Row(clinic=cell.get("clinic", "").lower(), until=until))


def _end_of(day: date | None) -> float:
    if day is None:
        return float("inf")
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return (start + timedelta(days=1)).timestamp() if day < date.max else float("inf")


class Context(Protocol):
    """What of a message decides whether a row with conditions counts."""

    @property
    def now(self) -> float:
        """Unix seconds."""

    @property
    def clinics(self) -> Collection[str]:
        """Tenant, client and sending domain, lower case."""


class CompiledList:
    """Answers membership; fast for members without conditions.

    Raises nothing: what is not a member is not.
    """

    __slots__ = ("_always", "_neighbours", "_rows", "_suffixes", "name")

    def __init__(self, members: Members) -> None:
        self.name = members.name
        self._always = frozenset(members.always)
        self._rows = {key: tuple(rows) for key, rows in members.rows.items()}
        self._suffixes = any(key.startswith("*.") for key in (*self._always, *self._rows))
        self._neighbours: Neighbours | None = None

    def domains(self) -> frozenset[str]:
        """Its domains, without patterns and addresses."""
        return frozenset(key for key in (*self._always, *self._rows) if "@" not in key and key[0] != "*")

    def holds_no_domain(self) -> bool:
        """Whether it has members, and all are addresses."""
        keys = (*self._always, *self._rows)
        return bool(keys) and all("@" in key for key in keys)

    def prepare_near(self) -> None:
        """Build what :meth:`near` needs, once."""
        if self._neighbours is None:
            self._neighbours = Neighbours(
                self.domains(), (key[2:] for key in (*self._always, *self._rows) if key.startswith("*."))
            )

    def near(self, domain: str) -> str:
        """The member that a domain is near to, or empty; near to none is what is a member itself."""
        if self._neighbours is None:
            raise RuntimeError("prepare_near() was not called")
        return self._neighbours.nearest(domain)

    def has_address(self, key: str, domain: str, context: Context) -> bool:
        """Whether an address (its look-up form) or its domain is a member in a message's context."""
        return (
            key in self._always
            or (key in self._rows and self._by_row(key, context))
            or self.has_domain(domain, context)
        )

    def has_domain(self, domain: str, context: Context) -> bool:
        """Whether a domain is a member in a message's context."""
        if domain in self._always or (domain in self._rows and self._by_row(domain, context)):
            return True
        if self._suffixes:
            rest = domain.partition(".")[2]
            while rest:
                key = f"*.{rest}"
                if key in self._always or (key in self._rows and self._by_row(key, context)):
                    return True
                rest = rest.partition(".")[2]
        return False

    def _by_row(self, key: str, context: Context) -> bool:
        rows, now = self._rows[key], context.now
        return any(now < row.until and (not row.clinic or row.clinic in context.clinics) for row in rows)
