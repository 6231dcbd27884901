import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("15m", 900), ("1.5h", 5400), ("4 h", 14400), ("5d", 432_000), ("0", 0), (0, 0)],
)
def test_durations_as_people_write_them(text, seconds):
    assert parse_duration(text) == seconds


def test_six_years_cover_any_six_calendar_years():
    assert parse_duration("6y") >= (6 * 365 + 2) * 86_400


@pytest.mark.parametrize(
    "text", ["", "15", 15, 1.5, None, True, False, "-5m", "5 min", "5M", "1e3s", "0.1ms", "٣m", "5m\n"]
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="is "):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("512B", 512), ("64KiB", 65536), ("1.5MiB", 1_572_864), ("2 GiB", 1 << 31), ("1TiB", 1 << 40)],
)
def test_sizes_as_people_write_them(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "25", 25, "25MB", "25kib", "-1B", "0.5B", None, True, "1e3B"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="is "):
        parse_size(text)


@given(st.integers(0, 10**15))
def test_a_size_written_and_read_is_itself(size):
    assert parse_size(format_size(size)) == size


@given(st.integers(0, 10**13))
def test_a_duration_written_and_read_is_itself(milliseconds):
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000
