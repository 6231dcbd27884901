"""A process's memory: huge pages, for fewer look-ups of addresses where every message passes through cold caches.

Processors keep the places of a few thousand pages in mind; a worker's objects lie on some fifteen thousand of 4 KiB. On
a virtual machine a place that was forgotten is looked up through two sets of tables. madvise(2) with ``MADV_COLLAPSE``
(Linux 6.1) puts what lies on 512 small pages onto one of 2 MiB, in the same place: nothing in the process changes.
"""

import ctypes
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

HUGE: Final = 2 * 1024 * 1024
"""Octets of a huge page where a small one has 4 KiB."""
_SMALL: Final = 4096
_COLLAPSE: Final = 25
"""MADV_COLLAPSE of linux/mman.h."""
_MOSTLY: Final = HUGE // _SMALL * 3 // 4
"""Small pages that are in use in a place that is worth a huge one: at most a quarter of it is new memory."""
_PRESENT: Final = 0x80
"""Bit 63 of a page's entry in /proc/self/pagemap, in its last octet: it is in memory."""
_ENTRY: Final = 8
_WISH: Final = Path("/sys/kernel/mm/transparent_hugepage/enabled")

_KEPT: Final = 32 * 1024 * 1024
"""Octets of freed memory that a process keeps at the end of its heap."""
_FROM_HEAP: Final = 8 * 1024 * 1024
"""Octets up to which a piece of memory comes from the heap: larger ones are the kernel's again once freed."""
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3

Collapse = Callable[[int], bool]
"""Makes the memory at this address one huge page; whether it did."""


def use_huge_pages(collapse: Collapse | None = None, *, wish: Path = _WISH) -> int:
    """Put what this process has in memory onto huge pages where these would be full for the most part.

    Only its own writable memory: no file, no stack of another thread that is hardly used. Where the system has small
    pages of another size, no huge ones, or an operator has set them to ``never``, nothing is done.

    Args:
        collapse: by default asks the kernel.
        wish: where the system says whether huge pages are wanted.

    Returns:
        How many huge pages there are now that were not.
    """
    try:
        if os.sysconf("SC_PAGE_SIZE") != _SMALL or "[never]" in wish.read_text("ascii"):
            return 0
        places = list(_full_places())
    except OSError:
        return 0  # another kernel, or a system that hides these files: it works as well, only slower
    return sum(map(collapse or _ask_kernel(), places))


def keep_freed_memory() -> bool:
    """Let the C library keep memory for the next large message, which it gives back to the kernel otherwise.

    What it gets anew the kernel has to clear, page by page, for each copy of a message: of one with a megabyte that was
    an eighth of all its CPU. What loading left free goes back first, some ten megabytes that no message would fill. See
    mallopt(3) and malloc_trim(3).

    Returns:
        Whether this C library knows how.
    """
    library = ctypes.CDLL(None)
    if (trim := getattr(library, "malloc_trim", None)) is not None:
        trim(0)
    mallopt = getattr(library, "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_TRIM_THRESHOLD, _KEPT) and mallopt(_M_MMAP_THRESHOLD, _FROM_HEAP))


def _full_places() -> Iterator[int]:
    """Addresses of aligned 2 MiB of this process's own memory that are in use for the most part."""
    with Path("/proc/self/pagemap").open("rb", buffering=0) as entries:
        for start, end in writable(Path("/proc/self/maps").read_text("utf-8", "replace")):
            for place in range(-(-start // HUGE) * HUGE, end - HUGE + 1, HUGE):
                entries.seek(place // _SMALL * _ENTRY)
                pages = entries.read(HUGE // _SMALL * _ENTRY)
                if sum(octet >= _PRESENT for octet in pages[_ENTRY - 1 :: _ENTRY]) >= _MOSTLY:
                    yield place


def writable(maps: str) -> Iterator[tuple[int, int]]:
    """Beginning and end of what is writable, private and of no file in the text of /proc/PID/maps (proc(5))."""
    for line in maps.splitlines():
        fields = line.split(maxsplit=5)
        if fields[1].startswith("rw") and fields[1].endswith("p") and (len(fields) < 6 or fields[5] == "[heap]"):
            start, _, end = fields[0].partition("-")
            yield int(start, 16), int(end, 16)


def _ask_kernel() -> Collapse:
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return lambda place: madvise(place, HUGE, _COLLAPSE) == 0
