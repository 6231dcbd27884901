"""What a log line may say (law 4): no mailbox, subject, body or secret leaves through it, whatever a caller passes."""

import dataclasses
import re
import traceback
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final

from relay.core.address import Address, ReversePath
from relay.core.errors import PosternError

FORBIDDEN: Final = frozenset(
    {
        "subject", "body", "content", "text_part", "headers", "header", "display_name", "matched", "match", "snippet",
        "data", "password", "secret", "token", "credential", "credentials", "private_key", "filename", "attachment",
    }
)  # fmt: skip
"""Keys whose values are never written; the line says ``withheld`` with their names."""

MAILBOXES: Final = frozenset(
    {"recipient", "recipients", "rcpt", "sender", "mail_from", "reverse_path", "address", "addresses", "mailbox", "to"}
)
"""Keys whose values are written as domains only."""

LONGEST: Final = 600
"""Characters of one value."""
_ITEMS: Final = 20
_DEPTH: Final = 4
_FRAMES: Final = 12
_CAUSES: Final = 5
_INT64: Final = 1 << 63  # orjson writes no more

_MAILBOX: Final = re.compile(
    r"""(?:"(?:[^"\\\n]|\\.)*"|[^\s"<>(),;:\\\[\]]+)(?:@|%40)(?=[^\s@])""",
)
_DOMAIN_ONLY: Final = "…@"


def scrub_text(text: str) -> str:
    """The text with the local part of everything that looks like a mailbox removed: ``…@example.org``."""
    if "@" in text or "%40" in text:
        text = _MAILBOX.sub(_DOMAIN_ONLY, text)
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()  # a lone surrogate cannot be written
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def scrub_fields(fields: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """The fields that may be written, in their order."""
    kept: dict[str, Any] = {}
    withheld = []
    for name, value in fields.items():
        key = scrub_text(name)
        if key in FORBIDDEN:
            withheld.append(key)
        elif key in MAILBOXES:
            kept[key] = _domains(value)
        else:
            kept[key] = scrub(value, depth)
    if withheld:
        kept["withheld"] = withheld
    return kept


def scrub(value: Any, depth: int = 0) -> Any:
    """A value fit for a line: numbers and short text as they are, our own objects as their type's name at the most."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, Enum):
        return scrub(value.value, depth)
    if isinstance(value, int):
        return value if -_INT64 <= value < _INT64 else str(value)[:40]
    if isinstance(value, str):
        return scrub_text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} octets>"
    if isinstance(value, Address | ReversePath):
        return _domains(value)
    if isinstance(value, BaseException):
        return describe(value)
    if isinstance(value, Path):
        return scrub_text(str(value))
    return _scrub_collection(value, depth)


def _scrub_collection(value: Any, depth: int) -> Any:
    if depth < _DEPTH and isinstance(value, Mapping):
        return scrub_fields({str(key): item for key, item in list(value.items())[:_ITEMS]}, depth + 1)
    if depth < _DEPTH and isinstance(value, list | tuple | set | frozenset):
        return [scrub(item, depth + 1) for item in list(value)[:_ITEMS]]
    known_by = getattr(value, "id", None) if dataclasses.is_dataclass(value) else None
    if isinstance(known_by, str):
        return f"<{type(value).__name__} {scrub_text(known_by)}>"
    return f"<{type(value).__name__}>"


def describe(error: BaseException) -> dict[str, Any]:
    """An exception in one object: type, place, causes, and its text where that is safe to show.

    The text of Postern's own errors and of the operating system's is shown, scrubbed; that of others is withheld: it
    may quote what it failed to read (``UnicodeDecodeError`` quotes the body).
    """
    chain: list[dict[str, Any]] = []
    seen: BaseException | None = error
    while seen is not None and len(chain) < _CAUSES:
        one: dict[str, Any] = {"type": type(seen).__qualname__}
        if isinstance(seen, PosternError | OSError):
            one["text"] = scrub_text(str(seen))
        one["at"] = [
            f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(seen.__traceback__, limit=-_FRAMES)
        ]
        chain.append(one)
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    first, *causes = chain
    return {**first, "causes": causes} if causes else first


def _domains(value: Any) -> Any:
    if isinstance(value, Address):
        return f"{_DOMAIN_ONLY}{value.domain}"
    if isinstance(value, ReversePath):
        return f"{_DOMAIN_ONLY}{value.domain}" if value.domain else "<>"
    if isinstance(value, str):
        _, at, domain = value.rpartition("@")
        return f"{_DOMAIN_ONLY}{domain[:255]}" if at else "<withheld>" if value else ""
    if isinstance(value, list | tuple | set | frozenset):
        return [_domains(item) for item in list(value)[:_ITEMS]]
    return scrub(value) if value is None or isinstance(value, int) else f"<{type(value).__name__}>"
