"""The portal's limits as its rooms take them; whatever is not set has the default of the code."""

import dataclasses
from typing import Any

from relay.config.portal_limits import PortalLimitSettings
from relay.portal.compose.desk import ComposeOptions
from relay.portal.message.outline import OutlineLimits
from relay.portal.message.pdf import PdfLimits
from relay.portal.message.reader import ViewLimits
from relay.portal.options import LimitOptions, Rate


def limit_options(settings: PortalLimitSettings) -> LimitOptions:
    """How often: each limit keeps its window."""
    usual = LimitOptions()
    chosen: dict[str, Any] = {}
    for field in dataclasses.fields(LimitOptions):
        rate = getattr(usual, field.name)
        if isinstance(rate, Rate):
            chosen[field.name] = dataclasses.replace(rate, most=getattr(settings, field.name))
    return dataclasses.replace(usual, **chosen, shared_tries=settings.shared_tries)


def compose_options(settings: PortalLimitSettings) -> ComposeOptions:
    """What an answer may hold."""
    return ComposeOptions(
        text=settings.answer_text,
        files=settings.answer_files,
        octets=settings.answer_size,
        addresses=settings.forward_to,
        forward_octets=settings.forward_size,
    )


def view_limits(settings: PortalLimitSettings) -> ViewLimits:
    """What showing a message may cost."""
    return ViewLimits(
        text=settings.view_text,
        pictures=settings.view_pictures,
        outline=OutlineLimits(parts=settings.view_parts),
    )


def pdf_limits(settings: PortalLimitSettings) -> PdfLimits:
    """What a PDF copy may hold."""
    return PdfLimits(
        characters=settings.pdf_text, pictures=settings.pdf_pictures, picture_bytes=settings.pdf_picture_size
    )
