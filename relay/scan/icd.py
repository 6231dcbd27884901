"""The ICD-10-CM code set (NCHS and CMS, public domain) as one sorted table, searched where it lies."""

from bisect import bisect_left
from typing import Final

_WIDTH: Final = 7  # the longest code without its dot


class IcdTable:
    """Codes in records of seven octets, sorted, padded with spaces; no dot."""

    def __init__(self, table: bytes | memoryview) -> None:
        self._table = memoryview(table)
        self._size, rest = divmod(len(self._table), _WIDTH)
        if rest or not self._size:
            raise ValueError("the table of ICD-10-CM codes is damaged")

    def __contains__(self, code: bytes) -> bool:
        wanted = code.replace(b".", b"").upper().ljust(_WIDTH)
        place = bisect_left(range(self._size), wanted, key=self._record)
        return place < self._size and self._record(place) == wanted

    def _record(self, place: int) -> bytes:
        return bytes(self._table[place * _WIDTH : (place + 1) * _WIDTH])
