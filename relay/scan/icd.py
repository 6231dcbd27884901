"""The ICD-10-CM code set (NCHS and CMS, public domain) as one sorted table, searched where it lies."""

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
        low, high = 0, self._size
        while low < high:
            middle = (low + high) // 2
            record = bytes(self._table[middle * _WIDTH : (middle + 1) * _WIDTH])
            if record == wanted:
                return True
            if record < wanted:
                low = middle + 1
            else:
                high = middle
        return False
