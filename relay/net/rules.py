"""Own rules for TLS with some destinations: pins, private authorities, client certificates, versions and ciphers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from relay.net.tls import TlsContexts


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule.

    Attributes:
        destinations: domains, ``*.x`` for what is below x, ``*``, or ``route:NAME``.
        contexts: what its connections are made with.
        pins: hex SHA-256 of certificates or public keys (SubjectPublicKeyInfo): when there are any, the server's must
            be one of them, and nothing else is asked of it.
    """

    destinations: tuple[str, ...]
    contexts: TlsContexts
    pins: frozenset[str] = frozenset()


class Rules:
    """All rules, in the order of the configuration: the first that names a destination holds."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._rules = tuple(rules)

    def of(self, destination: str) -> Rule | None:
        """The rule for a destination; ``None`` when there is none."""
        return next((rule for rule in self._rules if any(_names(one, destination) for one in rule.destinations)), None)


def _names(pattern: str, destination: str) -> bool:
    if pattern.startswith("*."):
        return destination.endswith(pattern[1:]) and not destination.startswith("route:")
    return pattern == destination or (pattern == "*" and not destination.startswith("route:"))


NO_RULES: Final = Rules()
