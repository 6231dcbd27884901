"""HTML of mail made harmless: a list of what may stay (nh3, which is ammonia in Rust), and nothing from elsewhere.

This is the first of three walls. The frame in which the result is shown runs no script (``sandbox``), and its policy
loads nothing from anywhere but the pictures that the message brings (:mod:`relay.portal.message.frame`).
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Final

import nh3

from relay.mail.weight import is_light

_ALLOWED: Final = tomllib.loads(resources.files(__package__).joinpath("html.toml").read_text("utf-8"))
_STYLES: Final = frozenset(_ALLOWED["styles"])
_BAD_STYLE: Final = re.compile(r"url|image|expression|@|\\|<|/\*|var\s*\(|attr\s*\(|env\s*\(", re.IGNORECASE)
_DATA_PICTURE: Final = re.compile(r"data:image/(?:png|jpe?g|gif|webp);base64,[A-Za-z0-9+/=\s]+\Z", re.IGNORECASE)
_LINK: Final = re.compile(r"(?:https?://|mailto:|tel:)", re.IGNORECASE)
_PICTURE: Final = re.compile(r'src="cid:postern-([0-9a-f]{16})-(\d+)"')


class TooHeavyError(Exception):
    """Parsing it would take too long (:mod:`relay.mail.weight`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaned:
    """What is left of a message's HTML.

    Attributes:
        html: safe to stand in the body of a document that runs no script.
        blocked: how many pictures from elsewhere were left out.
        pictures: parts that it shows, by their index, each once.
    """

    html: str
    blocked: int
    pictures: tuple[int, ...]


def clean(source: str, pictures: Mapping[str, int], token: str) -> Cleaned:
    """Clean HTML.

    Args:
        source: what the message holds.
        pictures: Content-ID to the index of the part, for those that may be shown.
        token: 16 hex digits that the message cannot know: marks where pictures go, see :func:`places`.

    Raises:
        TooHeavyError: parsing it would take too long.
    """
    if not is_light(source):
        raise TooHeavyError
    blocked = 0
    shown: dict[int, None] = {}

    def look(tag: str, name: str, value: str) -> str | None:
        nonlocal blocked
        if name == "href":
            return value if _LINK.match(value.strip()) else None
        if name == "style":
            return _style(value) or None
        if tag == "img" and name == "src":
            part = pictures.get(value.strip()[4:].strip("<>")) if value.strip()[:4].lower() == "cid:" else None
            if part is not None:
                shown[part] = None
                return f"cid:postern-{token}-{part}"
            if _DATA_PICTURE.match(value):
                return value
            blocked += 1
            return None
        return value

    html = nh3.clean(
        source,
        tags=set(_ALLOWED["elements"]),
        clean_content_tags=set(_ALLOWED["dropped"]),
        attributes={element: set(names) for element, names in _ALLOWED["attributes"].items()},
        attribute_filter=look,
        strip_comments=True,
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
        url_schemes={"http", "https", "mailto", "tel", "cid", "data"},
        url_relative="deny",
    )
    return Cleaned(html=html, blocked=blocked, pictures=tuple(shown))


def _style(value: str) -> str:
    """The declarations of a ``style`` attribute that may stay."""
    kept = []
    for declaration in value.split(";"):
        name, colon, setting = declaration.partition(":")
        if colon and name.strip().lower() in _STYLES and not _BAD_STYLE.search(setting):
            kept.append(f"{name.strip().lower()}:{setting.strip()}")
    return ";".join(kept)


def places(html: str, token: str) -> list[str | int]:
    """The HTML cut where pictures go: text, and the index of a part for each ``src`` between."""
    out: list[str | int] = []
    at = 0
    for found in _PICTURE.finditer(html):
        if found[1] == token:
            out += [html[at : found.start()], int(found[2])]
            at = found.end()
    return [*out, html[at:]]
