"""How a tenant's pages look: its name, where it is, and its colour, made readable on light and dark ground."""

import re
from dataclasses import dataclass
from typing import Final

_HEX: Final = re.compile(r"#[0-9a-fA-F]{6}\Z")
_READABLE: Final = 4.6  # WCAG 2.1 1.4.3 asks 4.5 for text; a little more, for colours are rounded
_PAPER: Final = "#f4f5f7"
"""The darkest light ground that links stand on (``--ground`` in portal.css)."""
_NIGHT: Final = "#1b222c"
"""The lightest dark ground that links stand on (``--paper`` in the dark)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Brand:
    """A tenant as its patients know it. Nothing here may be about a patient.

    Attributes:
        name: on top of each page, in notices and mails: ``Riverside Clinic``.
        address: postal address, one line; may be empty.
        phone: whom to call; may be empty.
        accent: colour of buttons and links, ``#rrggbb``; it is darkened or lightened until it can be read.
        logo: the picture's octets (PNG, JPEG or WebP), or empty.
        logo_type: its media type.
    """

    name: str = "Secure messages"
    address: str = ""
    phone: str = ""
    accent: str = "#1b5e8c"
    logo: bytes = b""
    logo_type: str = "image/png"


def stylesheet(brand: Brand) -> str:
    """The brand's colours as CSS custom properties, for a light and a dark ground; contrast is 4.5 to 1 or better."""
    light = readable(brand.accent, _PAPER)
    dark = readable(brand.accent, _NIGHT)
    return (
        f":root{{--accent:{light};--link:{light};--on-accent:#ffffff}}\n"
        f"@media (prefers-color-scheme:dark){{:root{{--accent:{dark};--link:{dark};--on-accent:#0b1a26}}}}\n"
    )


def readable(colour: str, ground: str) -> str:
    """The colour, moved towards black or white until text of it can be read on the ground.

    Raises:
        ValueError: not ``#rrggbb``.
    """
    rgb = _rgb(colour)
    towards = 0 if _luminance(_rgb(ground)) > 0.5 else 255
    for step in range(21):
        mixed = tuple(round(value + (towards - value) * step / 20) for value in rgb)
        shown = "#" + "".join(f"{value:02x}" for value in mixed)
        if contrast(shown, ground) >= _READABLE:
            return shown
    return "#000000" if towards == 0 else "#ffffff"


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, 1 to 21 (WCAG 2.1)."""
    lighter, darker = sorted((_luminance(_rgb(one)), _luminance(_rgb(other))), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _rgb(colour: str) -> tuple[int, ...]:
    if not _HEX.match(colour):
        raise ValueError("a colour is written as #rrggbb")
    return tuple(int(colour[place : place + 2], 16) for place in (1, 3, 5))


def _luminance(rgb: tuple[int, ...]) -> float:
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (part / 255 for part in rgb)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
