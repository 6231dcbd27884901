"""Wait for what the event loop does next, without a clock."""

import asyncio
from collections.abc import Callable


async def until(holds: Callable[[], object]) -> None:
    """Let others run until it holds; the test's own time limit ends what never does."""
    while not holds():  # noqa: ASYNC110  what is waited for has no event, and giving it one would change what is tested
        await asyncio.sleep(0)
