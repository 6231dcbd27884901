"""How a destination that complains is left in peace: given less, or nothing for a while; plain state, no clock.

Each worker learns by the answers it gets itself. What waits goes back to the queue with its reason and a time.
"""

from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum

from relay.delivery.bounce import BounceAction


class Pause(StrEnum):
    """Why a copy is not tried now."""

    SLOWED = "the recipient's server asked for less mail"
    SUSPENDED = "the recipient's server blocks this relay; it is left alone for a while"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrakeOptions:
    """How hard to brake.

    Attributes:
        spacing: seconds between copies after the first complaint; each further one doubles it.
        widest: seconds between copies at the most.
        recovery: seconds without complaint after which the spacing is halved.
        strikes: blocks in a row, with nothing delivered between them, that suspend a destination.
        first: seconds of the first suspension; each further one doubles it.
        longest: seconds of a suspension at the most.
        probe: seconds for which the one copy that tries after a suspension keeps the others waiting.
        capacity: destinations remembered.
    """

    spacing: float = 1.0
    widest: float = 60.0
    recovery: float = 300.0
    strikes: int = 3
    first: float = 600.0
    longest: float = 7200.0
    probe: float = 60.0
    capacity: int = 10_000

    def __post_init__(self) -> None:
        if not (0 < self.spacing <= self.widest and self.recovery > 0 and self.strikes >= 1):
            raise ValueError("a brake has a spacing no wider than its widest, a recovery and at least one strike")
        if not (0 < self.first <= self.longest and self.probe > 0 and self.capacity >= 1):
            raise ValueError("a suspension is no longer than its longest, and room is left for one destination")


@dataclass(slots=True)
class _State:
    level: int = 0
    complained_at: float = 0.0
    next_place: float = 0.0
    strikes: int = 0
    suspensions: int = 0
    until: float = 0.0
    suspended: bool = False
    probing: bool = False


class Brakes:
    """What is known of destinations that complained; those that did not take no room."""

    def __init__(self, options: BrakeOptions | None = None) -> None:
        self._options = options or BrakeOptions()
        self._states: OrderedDict[str, _State] = OrderedDict()
        self._seen = 0.0

    def __len__(self) -> int:
        return len(self._states)

    def refused(self, destination: str, action: BounceAction, now: float) -> None:
        """Heed what a refusal asks for; actions other than slow-down and suspend ask for nothing here."""
        self._keep_time(now)
        if action is BounceAction.SLOW_DOWN:
            state = self._state(destination)
            self._recover(state, now)
            state.level = min(state.level + 1, 16)
            state.complained_at = now
        elif action is BounceAction.SUSPEND:
            state = self._state(destination)
            state.strikes += 1
            due = state.probing if state.suspended else state.strikes >= self._options.strikes
            if due:  # an answer to a copy that was under way when the suspension began changes nothing
                span = self._options.first * 2.0 ** min(state.suspensions, 32)
                state.until = now + min(span, self._options.longest)
                state.suspensions += 1
                state.suspended, state.probing = True, False

    def delivered(self, destination: str) -> None:
        """It took a copy: no block is in force."""
        state = self._states.get(destination)
        if state is not None:
            state.strikes = state.suspensions = 0
            state.suspended = state.probing = False
            if state.level == 0:
                del self._states[destination]

    def until(self, destination: str, now: float, *, urgent: bool = False) -> tuple[float, Pause] | None:
        """When a copy may be tried, and why not now; ``None``: now, and its place is taken.

        After a suspension one copy tries, and the others wait for what it meets. Urgent copies are not slowed down.
        """
        self._keep_time(now)
        state = self._states.get(destination)
        if state is None:
            return None
        if state.suspended:
            if now < state.until:
                return state.until, Pause.SUSPENDED
            state.until, state.probing = now + self._options.probe, True
            return None
        self._recover(state, now)
        if state.level == 0 or urgent:
            return None
        place = max(state.next_place, now)
        state.next_place = place + min(self._options.spacing * 2.0 ** (state.level - 1), self._options.widest)
        return None if place <= now else (place, Pause.SLOWED)

    def _recover(self, state: _State, now: float) -> None:
        steps = int(max(now - state.complained_at, 0.0) // self._options.recovery)
        if steps and state.level:
            state.level = max(state.level - steps, 0)
            state.complained_at += steps * self._options.recovery

    def _keep_time(self, now: float) -> None:
        """A clock that was set back must not make mail wait for as long as it went back: all times go with it."""
        back = self._seen - now
        self._seen = now
        if back > 0:
            for state in self._states.values():
                state.complained_at -= back
                state.next_place -= back
                state.until -= back

    def _state(self, destination: str) -> _State:
        state = self._states.get(destination)
        if state is None:
            while len(self._states) >= self._options.capacity:
                self._states.popitem(last=False)
            state = self._states[destination] = _State()
        else:
            self._states.move_to_end(destination)
        return state
