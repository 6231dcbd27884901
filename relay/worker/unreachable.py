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
        self._learnt: dict[str, tuple[float, Failure]] = {}

    def learn(self, destination: str, failure: Failure, *, started: float, now: float) -> None:
        """Connecting failed: remember it when it took long and has nothing to do with the copy."""
        if failure.trouble not in _SHARED or now - started < self._options.after:
            return
        if len(self._learnt) >= _LONGEST_LIST:
            self._learnt = {name: one for name, one in self._learnt.items() if self._holds(one[0], now)}
        if len(self._learnt) < _LONGEST_LIST:
            self._learnt[destination] = (now, failure)

    def failure(self, destination: str, *, now: float) -> Failure | None:
        """The failure to share; ``None``: try."""
        known = self._learnt.get(destination)
        if known is None:
            return None
        if not self._holds(known[0], now):
            del self._learnt[destination]
            return None
        return known[1]

    def _holds(self, learnt: float, now: float) -> bool:
        """Not where the clock was set back: a destination would stay untried for as long as it went back."""
        return 0 <= now - learnt < self._options.window
