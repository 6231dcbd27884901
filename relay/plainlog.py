"""structlog without rich, with which it would draw tracebacks: 4 MB that no process of ``postern run`` has a use for.

Import this before anything that imports structlog. What wants rich itself finds it afterwards.
"""

import sys

_is_hidden = sys.modules.setdefault("rich", None) is None  # type: ignore[arg-type]  # None: not to be found
try:
    import structlog  # noqa: F401
finally:
    if _is_hidden:
        del sys.modules["rich"]
