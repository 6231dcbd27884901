"""Remembers for a while which hosts have certificates that do not verify, to save the reconnection (bounded, law 6)."""

import time
from collections import OrderedDict
from collections.abc import Callable

from relay.trust.sessions import Fault


class UnverifiedHosts:
    """Host name to what was wrong with its certificate.

    Asked only where ``ENCRYPTED`` is enough: a higher floor always verifies anew.
    """

    def __init__(self, *, size: int, ttl: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._ttl = ttl
        self._monotonic = monotonic
        self._faults: OrderedDict[str, tuple[float, Fault]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._faults)

    def remember(self, host: str, fault: Fault) -> None:
        """Note that the host's certificate did not verify just now, and why."""
        self._faults[host] = (self._monotonic() + self._ttl, fault)
        self._faults.move_to_end(host)
        while len(self._faults) > self._size:
            self._faults.popitem(last=False)

    def forget(self, host: str) -> None:
        """Its certificate verified just now."""
        self._faults.pop(host, None)

    def fault(self, host: str) -> Fault | None:
        """What was noted; ``None`` when nothing is, or when it is too old to be believed."""
        noted = self._faults.get(host)
        if noted is None:
            return None
        until, fault = noted
        if until <= self._monotonic():
            del self._faults[host]
            return None
        return fault
