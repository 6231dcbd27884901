"""Who runs a recipient's mail: a short name for metrics, from a table of mailbox domains and mail servers' names."""

from collections.abc import Mapping
from typing import Any, Final

import yaml

from relay.core.errors import Problem, ProblemsError

OTHER: Final = "other"
_FIELDS: Final = frozenset({"domains", "hosts"})


class Providers:
    """Looks providers up. Immutable; safe to share.

    Args:
        domains: mailbox domain to provider.
        hosts: domain at the end of a mail server's name to provider; the longest that fits counts.
    """

    def __init__(self, domains: Mapping[str, str], hosts: Mapping[str, str]) -> None:
        self._domains = dict(domains)
        self._hosts = dict(hosts)

    def of(self, domain: str, host: str = "") -> str:
        """The provider of a mailbox domain.

        Args:
            domain: of the recipient, in A-labels.
            host: the mail server that was spoken to, or empty; it says who serves a domain that is not in the table.
        """
        return self._domains.get(domain) or self._by_host(host.lower().rstrip(".")) or OTHER

    def _by_host(self, host: str) -> str:
        while host:
            found = self._hosts.get(host)
            if found is not None:
                return found
            host = host.partition(".")[2]
        return ""


def read_providers(text: str | bytes, where: str) -> Providers:
    """Read the table.

    Raises:
        ProblemsError: it is not one.
    """
    try:
        rows = yaml.load(text, Loader=yaml.CSafeLoader)["providers"]
        domains, hosts = _table(rows, "domains"), _table(rows, "hosts")
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ProblemsError(Problem(where=where, what=f"is not a table of providers: {str(error)[:80]}")) from None
    return Providers(domains, hosts)


def _table(rows: dict[str, dict[str, Any]], field: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, row in rows.items():
        if unknown := set(row) - _FIELDS:
            raise ValueError(f"{name} has an unknown field {min(unknown)}")
        for one in row.get(field, ()):
            if found.setdefault(one, name) != name:
                raise ValueError(f"{one} belongs to {found[one]} and to {name}")
    return found
