"""Remembers for a while which hosts have certificates that do not verify, to save the reconnection (bounded, law 6)."""

import time
from collections import OrderedDict
from collections.abc import Callable


class UnverifiedHosts:
    """Host name to OpenSSL's reason. Asked only where ``ENCRYPTED`` is enough: a higher floor always verifies anew."""

    def __init__(self, *, size: int, ttl: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._ttl = ttl
        self._monotonic = monotonic
        self._faults: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._faults)

    def remember(self, host: str, fault: str) -> None:
        """Note that the host's certificate did not verify just now, and why."""
        self._faults[host] = (self._monotonic() + self._ttl, fault)
        self._faults.move_to_end(host)
        while len(self._faults) > self._size:
            self._faults.popitem(last=False)

    def fault(self, host: str) -> str:
        """The reason noted, or empty when none is, or when it is too old to be believed."""
        until, fault = self._faults.get(host, (0.0, ""))
        if fault and until <= self._monotonic():
            del self._faults[host]
            return ""
        return fault
