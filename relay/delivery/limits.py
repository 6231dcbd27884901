"""How fast one destination is given mail: a rate (GCRA), as plain state; the clock is an argument."""

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """``per_second`` places a second on the long run, ``burst`` of them at once after a quiet time."""

    per_second: float
    burst: int = 1

    def __post_init__(self) -> None:
        if self.per_second <= 0 or self.burst < 1:
            raise ValueError("a rate is more than 0 a second, with a burst of at least 1")


class Meter:
    """A token bucket in the form of the generic cell rate algorithm: one number of state (ITU-T I.371)."""

    __slots__ = ("_slack", "_spacing", "_theoretical")

    def __init__(self, rate: Rate) -> None:
        self.adopt(rate)
        self._theoretical = float("-inf")

    def take(self, now: float) -> float:
        """Take the next place in time; the seconds until it comes, 0 when it is now. It is used up either way."""
        at = max(self._theoretical, now)
        self._theoretical = at + self._spacing
        return max(at - self._slack - now, 0.0)

    def adopt(self, rate: Rate) -> None:
        """Take up another rate; places that were taken stay taken."""
        self._spacing = 1 / rate.per_second
        self._slack = self._spacing * (rate.burst - 1)

    def idle(self, now: float) -> bool:
        """Whether it holds nothing that a fresh meter would not."""
        return self._theoretical <= now


class Pacer:
    """One meter a destination, for at most ``capacity`` of them: idle meters are forgotten, then the longest unused.

    Rates are this worker's share; the caller divides by the number of workers.
    """

    def __init__(self, default: Rate | None, rates: dict[str, Rate] | None = None, *, capacity: int = 10_000) -> None:
        self._default = default
        self._rates = dict(rates or {})
        self._capacity = capacity
        self._meters: OrderedDict[str, Meter] = OrderedDict()

    def __len__(self) -> int:
        return len(self._meters)

    def adopt(self, default: Rate | None, rates: dict[str, Rate] | None = None) -> None:
        """Take up other rates; what was taken so far still counts, so that no change opens anything by itself."""
        self._default = default
        self._rates = dict(rates or {})
        for name in list(self._meters):
            rate = self._rates.get(name, default)
            if rate is None:
                del self._meters[name]
            else:
                self._meters[name].adopt(rate)

    def take(self, destination: str, now: float) -> float:
        """Take the destination's next place; the seconds to wait until it comes (0 without a rate)."""
        rate = self._rates.get(destination, self._default)
        if rate is None:
            return 0.0
        meter = self._meters.get(destination)
        if meter is None:
            self._make_room(now)
            meter = self._meters[destination] = Meter(rate)
        else:
            self._meters.move_to_end(destination)
        return meter.take(now)

    def _make_room(self, now: float) -> None:
        if len(self._meters) < self._capacity:
            return
        for name in [name for name, meter in self._meters.items() if meter.idle(now)]:
            del self._meters[name]
        while len(self._meters) >= self._capacity:
            self._meters.popitem(last=False)
