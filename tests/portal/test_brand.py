"""A brand's colour can be read whatever it is (WCAG 2.1, 1.4.3)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.portal.brand import Brand, contrast, readable, stylesheet

colours = st.integers(0, 0xFFFFFF).map(lambda number: f"#{number:06x}")


def test_black_on_white_is_21_to_1():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@given(colours)
def test_any_colour_becomes_readable_on_both_grounds(colour):
    for ground in ("#f4f5f7", "#ffffff"):
        assert contrast(readable(colour, "#f4f5f7"), ground) >= 4.5
    for ground in ("#1b222c", "#12171e"):
        assert contrast(readable(colour, "#1b222c"), ground) >= 4.5


@given(colours)
def test_buttons_can_be_read(colour):
    light, dark = re.findall(r"--accent:(#[0-9a-f]{6})", stylesheet(Brand(accent=colour)))
    assert contrast(light, "#ffffff") >= 4.5
    assert contrast(dark, "#0b1a26") >= 4.5


@pytest.mark.parametrize("colour", ["", "red", "#fff", "#12345g", "#123456;}body{display:none"])
def test_what_is_no_colour_is_refused(colour):
    with pytest.raises(ValueError, match="#rrggbb"):
        readable(colour, "#ffffff")


def test_a_colour_that_can_be_read_stays():
    assert readable("#1b5e8c", "#f4f5f7") == "#1b5e8c"
