"""A loop is busy when its turns are long, and no longer when they are short again."""

import asyncio

from relay.worker.strain import Strain


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


async def turns(strain, clock, seconds, count):
    for _ in range(count):
        felt = strain.felt()
        strain.felt()  # asked twice in a turn, it times it once
        clock.now += seconds
        await asyncio.sleep(0)
    return felt


async def test_long_turns_are_felt_and_forgotten():
    clock = Clock()
    strain = Strain(clock)
    assert not await turns(strain, clock, 0.0005, 50)
    assert await turns(strain, clock, 0.02, 5)
    assert not await turns(strain, clock, 0.0005, 20)


async def test_one_long_turn_alone_is_not_a_busy_loop():
    clock = Clock()
    strain = Strain(clock)
    await turns(strain, clock, 0.0005, 50)
    assert not await turns(strain, clock, 0.012, 1)
    assert not await turns(strain, clock, 0.0005, 2)
