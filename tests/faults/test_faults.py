"""Law 1 under every fault we could think of: what was answered 250 is delivered, what comes twice is explained.

A plain run does every fault of the catalogue once. ``POSTERN_FAULTS_COUNT=1000`` does as many, chosen at random.
"""

import os
import random

import pytest

from tests.faults.harness import CATALOGUE, account, harness
from tests.support.peers import unavailable

COUNT = int(os.environ.get("POSTERN_FAULTS_COUNT", "0"))


@pytest.mark.law
@pytest.mark.timeout(5400)
async def test_nothing_is_lost_by_any_fault(tmp_path):
    seed = int(os.environ.get("POSTERN_FAULTS_SEED", random.SystemRandom().randrange(1 << 32)))
    chance = random.Random(seed)
    names = list(CATALOGUE)
    chance.shuffle(names)
    names += chance.choices(names, k=max(COUNT - len(names), 0))
    try:
        async with harness(tmp_path, chance, len(names)) as system:
            for number, name in enumerate(names):
                try:
                    await system.strike(name, CATALOGUE[name])
                except TimeoutError:
                    pytest.fail(f"seed {seed}: fault {number}, {name}, did not come about or was not outlived")
            outcome = await account(system)
    except PermissionError as error:
        unavailable(f"a disk of its own for the test cannot be mounted: {error}")
    print(f"\nseed {seed}: {outcome}")
    assert not outcome.lost, f"seed {seed}"
    assert not outcome.unexplained, f"seed {seed}"
    assert set(outcome.ends) == {"delivered"}, f"seed {seed}"
