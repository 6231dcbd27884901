"""Runs an async test under asyncio's own loop and under uvloop, which serves in production."""

import asyncio
import functools
import inspect

import pytest
import uvloop

LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


def both_loops(test):
    """Decorates a coroutine function."""

    def run(new_loop, **given):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(test(**given))

    functools.update_wrapper(run, test)
    del run.__wrapped__  # or the test would still be taken for a coroutine function
    signature = inspect.signature(test)
    first = inspect.Parameter("new_loop", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), first])
    return LOOPS(run)
