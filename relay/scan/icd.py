"""The ICD-10-CM code set (NCHS and CMS, public domain) as one sorted table, searched where it lies."""

from typing import Final

_WIDTH: Final = 7  # the longest code without its dot


class IcdTable:
    """Codes in records of seven octets, sorted, padded with spaces; no dot."""

    def __init__(self, table: bytes) -> None:
        if len(table) % _WIDTH or not table:
            raise ValueError("the table of ICD-10-CM codes is damaged")
        self._table = memoryview(table)
        self._size = len(table) // _WIDTH

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
