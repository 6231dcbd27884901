"""Which workers serve a destination whose limit is smaller than their number (rendezvous hashing)."""

import hashlib
from functools import lru_cache


@lru_cache(maxsize=65536)
def servers(destination: str, workers: int, limit: int) -> frozenset[int]:
    """The ``limit`` workers, by number from 1, that serve a destination; all of them when the limit allows.

    Every worker works it out alone and to the same result; when the number of workers changes, as few destinations as
    can be change hands (Thaler and Ravishankar, 1998: highest random weight).
    """
    numbers = range(1, workers + 1)
    if limit >= workers:
        return frozenset(numbers)
    weight = {
        number: hashlib.blake2b(f"{number}\0{destination}".encode(), digest_size=8).digest() for number in numbers
    }
    return frozenset(sorted(numbers, key=weight.__getitem__)[-limit:])
