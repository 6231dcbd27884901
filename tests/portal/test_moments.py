"""Dates and sizes as people say them."""

import pytest

from relay.portal.moments import Moments, size
from relay.portal.words import words

MOMENTS = Moments("America/Chicago")


@pytest.mark.parametrize(
    ("moment", "language", "expected"),
    [
        (1_790_000_000.0, "en", "September 21, 2026, 9:13 AM CDT"),
        (1_790_000_000.0, "es", "21 de septiembre de 2026, 9:13 CDT"),
        ("Mon, 21 Sep 2026 14:13:20 +0000", "en", "September 21, 2026, 9:13 AM CDT"),
        ("Mon, 21 Sep 2026 14:13:20 -0000", "en", "September 21, 2026, 9:13 AM CDT"),
    ],
)
def test_dates_are_written_in_words(moment, language, expected):
    shown = MOMENTS.when(moment, words(language))
    assert str(shown) == f'<time datetime="2026-09-21T09:13:20-05:00">{expected}</time>'
    assert MOMENTS.plain(moment, words(language)) == expected


@pytest.mark.parametrize(
    "moment", ["", "yesterday <b>", "Mon, 99 Foo 2026", "Mon, 21 Sep 99999 14:13:20 +0000", "\0", 1e300, float("nan")]
)
def test_a_date_that_cannot_be_read_stays_text(moment):
    shown = MOMENTS.when(moment, words("en"))
    assert shown == str(moment)
    assert not hasattr(shown, "__html__")
    assert MOMENTS.day(moment, words("es")) == str(moment)


@pytest.mark.parametrize(("hour", "expected"), [(0, "12:00 AM"), (11, "11:00 AM"), (12, "12:00 PM"), (23, "11:00 PM")])
def test_the_clock_of_twelve_hours(hour, expected):
    assert Moments().time(hour * 3600.0, words("en")) == expected


@pytest.mark.parametrize(
    ("octets", "language", "expected"),
    [
        (0, "en", "0 bytes"),
        (999, "en", "999 bytes"),
        (1000, "en", "1 KB"),
        (999_499, "en", "999 KB"),
        (999_500, "en", "1 MB"),
        (25_400_000, "es", "25,4 MB"),
    ],
)
def test_sizes(octets, language, expected):
    assert size(octets, words(language)) == expected
