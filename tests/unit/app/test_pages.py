"""Memory on huge pages: which places are offered to the kernel, who may forbid it, and that it changes nothing."""

import ctypes
import mmap
import os
import subprocess
import sys

import pytest

from relay.app import pages
from relay.app.pages import HUGE, use_huge_pages, writable

MAPS = """\
00400000-0041f000 r--p 00000000 fe:01 1234   /usr/bin/python3.11
0041f000-006f6000 r-xp 0001f000 fe:01 1234   /usr/bin/python3.11
00959000-00a9a000 rw-p 00558000 fe:01 1234   /usr/bin/python3.11
00a9a000-00adf000 rw-p 00000000 00:00 0
02000000-02900000 rw-p 00000000 00:00 0      [heap]
7f0000000000-7f0000a00000 rw-p 00000000 00:00 0
7f0000a00000-7f0000b00000 rw-s 00000000 00:01 99   /dev/zero (deleted)
7f0000b00000-7f0000c00000 ---p 00000000 00:00 0
7f0000c00000-7f0000d00000 rw-s 00000000 00:00 0
7f0000d00000-7f0000e00000 rw-p 00000000 fe:01 77   /var/lib/a file with spaces
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0    [stack]
"""


@pytest.fixture
def wish(tmp_path):
    path = tmp_path / "enabled"
    path.write_text("always [madvise] never\n")
    return path


@pytest.fixture
def block():
    """Eight huge pages' worth of memory, and the aligned addresses in it."""
    memory = mmap.mmap(-1, 8 * HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    anchor = ctypes.c_char.from_buffer(memory)
    start = ctypes.addressof(anchor)
    del anchor
    yield memory, list(range(-(-start // HUGE) * HUGE, start + 7 * HUGE + 1, HUGE))
    memory.close()


def offered(wish):
    seen = []

    def collapse(place):
        seen.append(place)
        return True

    return use_huge_pages(collapse, wish=wish), seen


def test_only_private_writable_memory_of_no_file_counts():
    assert list(writable(MAPS)) == [
        (0x00A9A000, 0x00ADF000),
        (0x02000000, 0x02900000),
        (0x7F0000000000, 0x7F0000A00000),
    ]


def test_places_in_use_are_offered_and_others_not(wish, block):
    memory, places = block
    _, seen = offered(wish)
    assert not set(places) & set(seen)
    memory[:] = b"\x01" * len(memory)
    count, seen = offered(wish)
    assert set(places) <= set(seen)
    assert count == len(seen)
    assert all(place % HUGE == 0 for place in seen)


def test_a_place_that_is_hardly_used_is_left(wish, block):
    memory, places = block
    for page in range(0, len(memory), 2 * 4096):
        memory[page] = 1
    _, seen = offered(wish)
    assert not set(places) & set(seen)


def test_what_the_kernel_refuses_does_not_count(wish, block):
    memory, _ = block
    memory[:] = b"\x01" * len(memory)
    assert use_huge_pages(lambda place: False, wish=wish) == 0


@pytest.mark.parametrize("text", ["always madvise [never]\n", None])
def test_an_operators_never_and_a_kernel_without_them_are_heeded(tmp_path, block, text):
    memory, _ = block
    memory[:] = b"\x01" * len(memory)
    wish = tmp_path / "enabled"
    if text is not None:
        wish.write_text(text)
    assert offered(wish) == (0, [])


def test_other_page_sizes_are_left_alone(wish, block, monkeypatch):
    memory, _ = block
    memory[:] = b"\x01" * len(memory)
    monkeypatch.setattr(pages.os, "sysconf", lambda name: 65536)
    assert offered(wish) == (0, [])


def test_memory_holds_what_it_held(wish, block):
    memory, _ = block
    content = os.urandom(len(memory) // 64) * 64
    memory[:] = content
    taken = use_huge_pages(wish=wish)
    assert taken >= 0
    assert memory[:] == content


_FAULTS = """
import resource, sys
from relay.app.pages import keep_freed_memory
assert sys.argv[1] == "leave" or keep_freed_memory()
for number in range(40):
    copies = [b"x" * 1_000_000 for _ in range(6)]
    del copies
    if number == 19:  # the heap has grown to what is needed
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library than glibc")
def test_memory_for_a_large_message_is_not_taken_from_the_kernel_anew():
    """Six copies of a megabyte are 1,500 pages, each of which the kernel would clear again for every message."""
    kept, left = (
        int(subprocess.run([sys.executable, "-c", _FAULTS, how], capture_output=True, check=True).stdout)
        for how in ("keep", "leave")
    )
    assert kept < left / 10
