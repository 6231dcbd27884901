"""Destinations that kept us waiting and could not be reached: what waits for them shares the failure, not the wait."""

from dataclasses import dataclass

from relay.core.outcome import Failure, Trouble

_SHARED = frozenset({Trouble.NETWORK, Trouble.DNS})
"""Troubles that speak of the destination alone, whatever the copy."""
_LONGEST_LIST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingOptions:
    """When a failure to connect is shared.

    Attributes:
        after: seconds that the failed attempt took at least; one that fails at once is cheap to make again.
        window: seconds for which others share it. Short: a host that comes back should be met soon.
    """

    after: float = 2.0
    window: float = 10.0


class Unreachable:
    """What this worker learnt in the last seconds; bounded, and forgotten by itself."""

    def __init__(self, options: SharingOptions | None = None) -> None:
        self._options = options or SharingOptions()
        self._until: dict[str, tuple[float, Failure]] = {}

    def learn(self, destination: str, failure: Failure, *, started: float, now: float) -> None:
        """Connecting failed: remember it when it took long and has nothing to do with the copy."""
        if failure.trouble not in _SHARED or now - started < self._options.after:
            return
        if len(self._until) >= _LONGEST_LIST:
            self._until = {name: one for name, one in self._until.items() if one[0] > now}
        if len(self._until) < _LONGEST_LIST:
            self._until[destination] = (now + self._options.window, failure)

    def failure(self, destination: str, *, now: float) -> Failure | None:
        """The failure to share; ``None``: try."""
        known = self._until.get(destination)
        if known is None:
            return None
        if known[0] <= now:
            del self._until[destination]
            return None
        return known[1]
