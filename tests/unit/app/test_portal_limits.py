"""Limits of the configuration reach the pages; what is not set has the default of the code."""

import dataclasses

import pytest

from relay.app.portal_limits import compose_options, limit_options, pdf_limits, view_limits
from relay.config.portal_limits import PortalLimitSettings
from relay.portal.compose.desk import ComposeOptions
from relay.portal.message.pdf import PdfLimits
from relay.portal.message.reader import ViewLimits
from relay.portal.options import LimitOptions, Rate

MAPPED = {
    "answer_text": lambda s: compose_options(s).text,
    "answer_files": lambda s: compose_options(s).files,
    "answer_size": lambda s: compose_options(s).octets,
    "forward_to": lambda s: compose_options(s).addresses,
    "forward_size": lambda s: compose_options(s).forward_octets,
    "view_text": lambda s: view_limits(s).text,
    "view_pictures": lambda s: view_limits(s).pictures,
    "view_parts": lambda s: view_limits(s).outline.parts,
    "pdf_text": lambda s: pdf_limits(s).characters,
    "pdf_pictures": lambda s: pdf_limits(s).pictures,
    "pdf_picture_size": lambda s: pdf_limits(s).picture_bytes,
    "shared_tries": lambda s: limit_options(s).shared_tries,
}


def test_defaults_are_those_of_the_code():
    settings = PortalLimitSettings()
    assert limit_options(settings) == LimitOptions()
    assert compose_options(settings) == ComposeOptions()
    assert view_limits(settings) == ViewLimits()
    assert pdf_limits(settings) == PdfLimits()


def test_every_setting_is_mapped():
    rates = {name for name in LimitOptions.__dataclass_fields__ if isinstance(getattr(LimitOptions(), name), Rate)}
    assert set(PortalLimitSettings.model_fields) == rates | set(MAPPED)


@pytest.mark.parametrize("name", sorted(PortalLimitSettings.model_fields))
def test_each_setting_changes_what_it_names_and_nothing_else(name):
    value = (
        "5KiB" if name in {"answer_size", "forward_size", "view_text", "view_pictures", "pdf_picture_size"} else 1_001
    )
    if name in {"answer_files", "forward_to", "pdf_pictures", "view_parts"}:
        value = 17
    settings = PortalLimitSettings(**{name: value})
    wanted = 5 * 1024 if value == "5KiB" else value
    if name in MAPPED:
        assert MAPPED[name](settings) == wanted
        assert limit_options(settings) == LimitOptions() or name == "shared_tries"
        return
    usual = getattr(LimitOptions(), name)
    assert limit_options(settings) == dataclasses.replace(
        LimitOptions(), **{name: dataclasses.replace(usual, most=wanted)}
    )
