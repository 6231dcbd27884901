"""What pages say, in the reader's language: data files of sentences, one a language, with the same keys."""

import functools
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Final

from markupsafe import Markup, escape

LANGUAGES: Final[Mapping[str, str]] = {"en": "English", "es": "Español"}
"""Language tag to the name that its speakers know it by."""
DEFAULT: Final = "en"
_MAX_HEADER: Final = 256  # characters of Accept-Language that are read


class Words:
    """The sentences of one language. Call it with a key: ``words("inbox.title")``."""

    def __init__(self, language: str, sentences: Mapping[str, str]) -> None:
        self.language = language
        self._sentences = sentences

    def __call__(self, key: str, /, **values: object) -> Markup:
        """The sentence with its ``{places}`` filled; what is filled in is escaped, so nothing in it becomes markup.

        Raises:
            KeyError: no such sentence, or a place without a value: a fault of the page, and tests find it.
        """
        return escape(self._sentences[key]).format(**values)

    def count(self, key: str, number: int, /, **values: object) -> Markup:
        """The sentence for a number of things: ``key.one`` for 1, ``key.other`` else (the rule of en and es)."""
        return self(f"{key}.{'one' if number == 1 else 'other'}", number=number, **values)

    def keys(self) -> frozenset[str]:
        """All keys."""
        return frozenset(self._sentences)


@functools.cache
def words(language: str) -> Words:
    """The sentences of a language; of English for one that is not there."""
    known = language if language in LANGUAGES else DEFAULT
    source = resources.files(__package__).joinpath("translations", f"{known}.toml").read_text("utf-8")
    return Words(known, dict(_flat(tomllib.loads(source), "")))


def choose(preferred: Iterable[str], accepted: str, fallback: str = DEFAULT) -> str:
    """The language to write in: the first that the reader or the sender asked for and that is there.

    Args:
        preferred: tags in order, such as a choice of the reader's; empty ones are passed over.
        accepted: the Accept-Language header (RFC 9110 section 12.5.4); its weights are heeded.
        fallback: when nothing fits.
    """
    for tag in (*preferred, *_accepted(accepted), fallback):
        primary = tag.partition("-")[0].lower()
        if primary in LANGUAGES:
            return primary
    return DEFAULT


def _accepted(header: str) -> list[str]:
    ranked = []
    for place, item in enumerate(header[:_MAX_HEADER].split(",")):
        tag, _, parameter = item.strip().partition(";")
        weight = parameter.strip().removeprefix("q=") or "1"
        try:
            quality = float(weight)
        except ValueError:
            continue
        if quality > 0:
            ranked.append((-quality, place, tag.strip()))
    return [tag for _, _, tag in sorted(ranked)]


def _flat(table: Mapping[str, object], before: str) -> Iterable[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", str(value).strip()
