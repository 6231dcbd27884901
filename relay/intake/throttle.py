"""Failed logins and client rates, counted over all workers through the store.

Both keep a small cache, so that a message does not cost a write of its own. What that costs in exactness is bounded and
written at each class. When the store cannot be asked, they fail towards slow: a temporary refusal, never open gates.
"""

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import structlog

from relay.core.errors import StoreError
from relay.core.ports import Clock, QueueStore
from relay.core.reply import Reply
from relay.intake.clients import Client
from relay.intake.limits import address_key

log = structlog.get_logger("throttle")

AUTH_THROTTLED: Final = Reply.of(454, "4.7.0", "Too many failed authentications; try again later")
AUTH_UNAVAILABLE: Final = Reply.of(454, "4.7.0", "Temporary authentication failure")
RATE_EXCEEDED: Final = Reply.of(450, "4.7.1", "The client's rate limit is reached; try again later")
RATE_UNKNOWN: Final = Reply.of(451, "4.3.0", "Cannot count messages now; try again later")

_CACHE: Final = 8192  # entries a cache holds before the oldest goes
_TOLD_AGAIN_AFTER: Final = 60.0  # seconds; a store that comes and goes fills no log


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottleOptions:
    """Limits on failed AUTH and how exactly rates are kept.

    Attributes:
        failures_per_address: failed AUTH from one address in a window before AUTH is answered 454. An identity that
            logged in from there during the last day has a count of its own, of as many: many devices come from one
            address (NAT), and one with an old password must not lock the others out.
        failures_per_account: the same for one identity, from whatever addresses. Addresses from which the identity
            logged in during the last day are exempt: nobody can lock a client out by guessing at its name.
        window: seconds.
        refresh: seconds for which a shared count may be taken from the cache.
        share: the part of a client's limit that one worker counts by itself before it tells the others.
    """

    failures_per_address: int = 10
    failures_per_account: int = 20
    window: float = 900.0
    refresh: float = 2.0
    share: float = 0.02


class _Outage:
    """What cannot be counted while the store is away: a line when it begins and one when it ends, none an attempt."""

    def __init__(self, what: str, clock: Clock) -> None:
        self._what = what
        self._clock = clock
        self._told_at: float | None = None
        self._failures = 0
        self._open = False

    def met(self, error: StoreError) -> None:
        """A count failed."""
        self._failures += 1
        now = self._clock()
        if self._open or (self._told_at is not None and 0 <= now - self._told_at < _TOLD_AGAIN_AFTER):
            return
        self._open, self._told_at = True, now
        log.warning("cannot be counted", what=self._what, error=str(error))

    def over(self) -> None:
        """A count succeeded."""
        if self._open:
            log.info("is counted again", what=self._what, uncounted=self._failures)
            self._open, self._failures = False, 0


class AuthThrottle:
    """Slows down guessing, by address and by account.

    Each failure is written at once. Counts are read through a cache of ``refresh`` seconds, so an attacker spread over
    W workers gains at most the guesses that fit into that time; each connection may fail three times before it ends.
    """

    _KNOWN_FOR: Final = 86400.0

    def __init__(self, store: QueueStore, clock: Clock, options: ThrottleOptions) -> None:
        self._store = store
        self._clock = clock
        self._options = options
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._outage = _Outage("failed logins", clock)

    async def refusal(self, address: str, identity: str) -> Reply | None:
        """Why an attempt may not even be looked at, before its password is compared."""
        known = self._is_known(address, identity)
        counter = _by_both(address, identity) if known else _by_address(address)
        try:
            if await self._failures(counter) >= self._options.failures_per_address:
                return AUTH_THROTTLED
            if known:
                return None
            if await self._failures(_by_account(identity)) >= self._options.failures_per_account:
                return AUTH_THROTTLED
        except StoreError as error:
            self._outage.met(error)
            return AUTH_UNAVAILABLE
        return None

    async def failed(self, address: str, identity: str) -> None:
        """Count a failure. When it cannot be counted, this address and account wait for ``refresh`` seconds."""
        counters = [_by_address(address), _by_account(identity)]
        if self._is_known(address, identity):
            counters.append(_by_both(address, identity))
        for counter in counters:
            try:
                await self._ask(counter, add=1)
            except StoreError as error:
                self._outage.met(error)
                self._remember(counter, 1 << 30)

    def succeeded(self, address: str, identity: str) -> None:
        """Remember that this identity logs in from this address."""
        self._known[address_key(address), identity] = self._clock()
        self._known.move_to_end((address_key(address), identity))
        if len(self._known) > _CACHE:
            self._known.popitem(last=False)

    def _is_known(self, address: str, identity: str) -> bool:
        since = self._known.get((address_key(address), identity))
        return since is not None and self._clock() - since < self._KNOWN_FOR

    async def _failures(self, counter: str) -> int:
        cached = self._counts.get(counter)
        if cached is not None and 0 <= self._clock() - cached[0] < self._options.refresh:
            return cached[1]
        return await self._ask(counter, add=0)

    async def _ask(self, counter: str, *, add: int) -> int:
        count = await self._store.count(counter, window=self._options.window, now=self._clock(), add=add)
        self._outage.over()
        self._remember(counter, count)
        return count

    def _remember(self, counter: str, count: int) -> None:
        self._counts[counter] = (self._clock(), count)
        self._counts.move_to_end(counter)
        if len(self._counts) > _CACHE:
            self._counts.popitem(last=False)


def _by_address(address: str) -> str:
    return f"auth:address:{address_key(address)}"


def _by_both(address: str, identity: str) -> str:
    return f"{_by_account(identity)}:{address_key(address)}"


def _by_account(identity: str) -> str:
    # Hashed: the identity is what a stranger typed, perhaps a password in the wrong field.
    return f"auth:account:{hashlib.sha256(identity.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


@dataclass(slots=True)
class _Window:
    """One client's count in one fixed window: shared as last told, own since then."""

    number: int
    shared: int = 0
    own: int = 0
    flushing: int = 0
    told_at: float = float("-inf")
    failed: bool = False


class RateLimiter:
    """Messages a minute and an hour of each client, over all workers.

    A worker counts by itself and tells the store when it has counted ``share`` of the limit (at least one message) or
    when ``refresh`` seconds have passed. With W workers a limit L can thus be passed by at most (W - 1) * share * L, or
    by what the others take in ``refresh`` seconds where that is less. Fixed windows let a burst of twice the limit pass
    at their border.
    """

    _SECONDS: Final = (60.0, 3600.0)

    def __init__(self, store: QueueStore, clock: Clock, options: ThrottleOptions) -> None:
        self._store = store
        self._clock = clock
        self._options = options
        self._windows: dict[tuple[str, float], _Window] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._outage = _Outage("messages of clients", clock)

    def admit(self, client: Client) -> Reply | None:
        """Count one message of a client, or say why it must wait. Never waits itself."""
        now = self._clock()
        limits = client.messages_per_minute, client.messages_per_hour
        windows = [
            (self._window(client.name, seconds, now), seconds, limit)
            for seconds, limit in zip(self._SECONDS, limits, strict=True)
            if limit is not None
        ]
        refusal = None
        for window, _, limit in windows:
            if window.shared + window.own + window.flushing >= limit:
                refusal = RATE_EXCEEDED
            elif window.failed:
                refusal = refusal or RATE_UNKNOWN
        for window, seconds, limit in windows:
            window.own += refusal is None
            stale = now - window.told_at >= self._options.refresh
            if not window.flushing and (stale or window.own >= max(1.0, limit * self._options.share)):
                self._spawn(client.name, seconds, window, now)
        return refusal

    async def aclose(self) -> None:
        """Wait for what is being told to the store."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def _window(self, name: str, seconds: float, now: float) -> _Window:
        number = int(now // seconds)
        window = self._windows.get((name, seconds))
        if window is None or window.number != number:
            # An outage does not end with a minute: until the store has answered, nothing is known of the new one.
            window = self._windows[name, seconds] = _Window(number, failed=window is not None and window.failed)
        return window

    def _spawn(self, name: str, seconds: float, window: _Window, now: float) -> None:
        window.flushing, window.own, window.told_at = window.own, 0, now
        task = asyncio.get_running_loop().create_task(self._tell(name, seconds, window, now))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, name: str, seconds: float, window: _Window, now: float) -> None:
        try:
            window.shared = await self._store.count(
                f"rate:{int(seconds)}:{name}", window=seconds, now=now, add=window.flushing
            )
            window.failed = False
            self._outage.over()
        except StoreError as error:
            self._outage.met(error)
            window.own += window.flushing
            window.failed = True
        window.flushing = 0
