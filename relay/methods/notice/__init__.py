"""The sentences of notices, reminders and receipts: data files, one a language, with the same keys."""

import functools
import tomllib
from importlib import resources
from typing import Final

from relay.mail.notice import Texts

LANGUAGES: Final = ("en", "es")


@functools.cache
def load_texts() -> Texts:
    """All sentences: language to ``table.key`` to text."""
    return {language: _load(language) for language in LANGUAGES}


def _load(language: str) -> dict[str, str]:
    source = resources.files(__package__).joinpath(f"{language}.toml").read_text("utf-8")
    tables: dict[str, dict[str, str]] = tomllib.loads(source)
    return {f"{table}.{key}": text.strip() for table, keys in tables.items() for key, text in keys.items()}
