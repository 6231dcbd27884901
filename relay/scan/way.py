"""Which of two ways the scan goes over characters and words: the one written in C, or the one in Python.

They find the same. The C part (``relay/scan/native``) is there where a compiler was when Postern was installed.
"""

from typing import Final

from relay.core import parts

try:
    from relay.scan import _native
except ImportError:  # no compiler where it was installed
    _VERSION = 0
else:
    _VERSION = _native.VERSION

_WANTED: Final = 11  # VERSION of the C part that this code is written for
NATIVE: Final = _VERSION == _WANTED
"""Whether the C part is there, and of this version."""


def told() -> str:
    """The way in words, for people."""
    return parts.told(_VERSION, _WANTED)
