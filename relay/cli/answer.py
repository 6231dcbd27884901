"""What commands print with ``--json``: valid JSON in UTF-8, whatever a file is called."""

from typing import Any

import orjson


def encoded(value: Any, *, indent: bool = False) -> bytes:
    """The value as JSON. Octets of a file's name that are no UTF-8 come out as ``?``: JSON has no place for them."""
    option = orjson.OPT_INDENT_2 if indent else 0
    try:
        return orjson.dumps(value, option=option)
    except orjson.JSONEncodeError:
        return orjson.dumps(_readable(value), option=option)


def _readable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_readable(key): _readable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(inner) for inner in value]
    return value
