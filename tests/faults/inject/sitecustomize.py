"""Ends the process at a named point, when a file of that name lies in ``POSTERN_FAULTS``: loaded by Python's own start.

Each point is a function of Postern's, before it begins or after it has returned. The product knows nothing of this:
the functions are wrapped as their modules are loaded. Of several processes that come by, the one that removes the file
dies.
"""

import functools
import importlib.abc
import importlib.util
import inspect
import os
import signal
import sys
from pathlib import Path

DIRECTORY = os.environ.get("POSTERN_FAULTS", "")


def points():
    """Module to (name of the point, path in the module, whether before), from the list that the harness wrote."""
    found = {}
    for line in Path(DIRECTORY, "points").read_text(encoding="utf-8").splitlines():
        name, target, when = line.split("\t")
        module, _, path = target.partition(":")
        found.setdefault(module, []).append((name, path, when == "before"))
    return found


def die_if_armed(name):
    try:
        Path(DIRECTORY, "armed", name).unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def wrapped(function, name, before):
    check = functools.partial(die_if_armed, name)
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def meddled(*args, **kwargs):
            if before:
                check()
            value = await function(*args, **kwargs)
            if not before:
                check()
            return value

    else:

        @functools.wraps(function)
        def meddled(*args, **kwargs):
            if before:
                check()
            value = function(*args, **kwargs)
            if not before:
                check()
            return value

    return meddled


def meddle(module, wanted):
    for name, path, before in wanted:
        *outer, last = path.split(".")
        owner = functools.reduce(getattr, outer, module)
        raw = inspect.getattr_static(owner, last)
        if isinstance(raw, staticmethod):
            setattr(owner, last, staticmethod(wrapped(raw.__func__, name, before)))
        else:
            setattr(owner, last, wrapped(raw, name, before))


class Finder(importlib.abc.MetaPathFinder):
    """Finds what everybody else would, and wraps it once it is loaded."""

    def __init__(self, wanted):
        self._wanted = wanted

    def find_spec(self, fullname, path, target=None):
        wanted = self._wanted.pop(fullname, None)
        if wanted is None:
            return None
        spec = importlib.util.find_spec(fullname)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            meddle(module, wanted)

        spec.loader.exec_module = exec_module
        return spec


if DIRECTORY:
    sys.meta_path.insert(0, Finder(points()))
