"""Messages are taken side by side, and one after the other while delivery is behind."""

import asyncio

import pytest

from relay.core.address import ReversePath
from relay.core.envelope import Envelope
from relay.core.reply import Reply
from relay.intake.turns import InTurn

OK = Reply.of(250, "2.0.0", "Ok")
ENVELOPE = Envelope(reverse_path=ReversePath(None), recipients=())


class World:
    def __init__(self, patience=3600.0):
        self.behind = False
        self.begun = asyncio.Queue()
        self.ends = {}
        self.most = self.now = 0
        self.accept = InTurn(self._accept, lambda: self.behind, patience)

    async def _accept(self, session, envelope, content, *, client=None):
        self.now += 1
        self.most = max(self.most, self.now)
        self.ends[content] = asyncio.get_running_loop().create_future()
        self.begun.put_nowait(content)
        try:
            return await self.ends[content]
        finally:
            self.now -= 1

    def give(self, *contents):
        return [asyncio.ensure_future(self.accept(None, ENVELOPE, content)) for content in contents]


async def test_side_by_side_while_delivery_keeps_up():
    world = World()
    tasks = world.give(b"1", b"2", b"3")
    assert {await world.begun.get() for _ in tasks} == {b"1", b"2", b"3"}
    for end in world.ends.values():
        end.set_result(OK)
    assert await asyncio.gather(*tasks) == [OK] * 3


async def test_in_turn_and_in_order_while_it_is_behind():
    world = World()
    world.behind = True
    tasks = world.give(b"1", b"2", b"3", b"4")
    for content in (b"1", b"2", b"3", b"4"):
        assert await world.begun.get() == content
        assert world.begun.empty()
        world.ends[content].set_result(OK)
    assert await asyncio.gather(*tasks) == [OK] * 4
    assert world.most == 1


async def test_all_that_wait_go_on_once_it_has_caught_up():
    world = World()
    world.behind = True
    tasks = world.give(b"1", b"2", b"3", b"4")
    assert await world.begun.get() == b"1"
    world.behind = False
    world.ends[b"1"].set_result(OK)
    assert [await world.begun.get() for _ in range(3)] == [b"2", b"3", b"4"]
    for content in (b"2", b"3", b"4"):
        world.ends[content].set_result(OK)
    await asyncio.gather(*tasks)


async def test_nobody_waits_for_ever_behind_a_slow_message():
    world = World(patience=0.0)
    world.behind = True
    tasks = world.give(b"slow", b"2", b"3")
    assert {await world.begun.get() for _ in tasks} == {b"slow", b"2", b"3"}
    for end in world.ends.values():
        end.set_result(OK)
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("broken", ["raises", "cancelled"])
async def test_a_turn_that_ends_badly_passes_on(broken):
    world = World()
    world.behind = True
    first, second, third = world.give(b"1", b"2", b"3")
    await world.begun.get()
    second.cancel()
    if broken == "raises":
        world.ends[b"1"].set_exception(OSError("gone"))
    else:
        first.cancel()
    assert await world.begun.get() == b"3"
    world.ends[b"3"].set_result(OK)
    assert await third == OK
    await asyncio.gather(first, second, return_exceptions=True)
