"""Pictures: what is too small to hold a readable page is decoration, all else cannot be read without OCR."""

from typing import Final

_DECORATION_HEIGHT: Final = 160  # pixels: logos, icons and signatures' banners; a legible page is far taller
_DECORATION_AREA: Final = 120_000  # square pixels
_SOF: Final = frozenset({*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)})


def is_picture_of_something(data: bytes) -> bool:
    """Whether a picture is large enough to show a page, a card or a patient; of unknown size it counts as large."""
    size = dimensions(data)
    if size is None:
        return bool(data)
    width, height = size
    return not (height <= _DECORATION_HEIGHT and width * height <= _DECORATION_AREA)


def dimensions(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels of PNG, GIF and JPEG, else ``None``."""
    if data.startswith(b"\x89PNG") and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data.startswith(b"GIF8") and len(data) >= 10:
        return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    return None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    place = 2
    while place + 9 < len(data) and data[place] == 0xFF:
        marker, size = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if marker in _SOF:
            return int.from_bytes(data[place + 7 : place + 9], "big"), int.from_bytes(
                data[place + 5 : place + 7], "big"
            )
        place += 2 + max(size, 2)
    return None
