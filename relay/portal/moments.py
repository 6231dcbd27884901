"""Dates and sizes as people say them, in the reader's language and the clinic's time zone."""

import datetime as dt
from email.utils import parsedate_to_datetime
from zoneinfo import ZoneInfo

from markupsafe import Markup

from relay.portal.words import Words


class Moments:
    """Writes moments. Jinja calls it with the page's words."""

    def __init__(self, time_zone: str = "UTC") -> None:
        """Take a zone.

        Raises:
            ZoneInfoNotFoundError: the IANA data base has no such zone.
        """
        self._zone = ZoneInfo(time_zone)

    def when(self, moment: float | str, text: Words) -> Markup | str:
        """A moment for people: unix seconds, or the value of a Date header; as it stands when it cannot be read."""
        at = self._read(moment)
        if at is None:
            return str(moment)
        return _written(at, "common.date_time", text, time=_clock(at, text), zone=at.tzname() or "")

    def day(self, moment: float | str, text: Words) -> Markup | str:
        """As :meth:`when`, without the time of day."""
        at = self._read(moment)
        return str(moment) if at is None else _written(at, "common.date", text)

    def time(self, moment: float, text: Words) -> str:
        """The time of day alone."""
        at = self._read(moment)
        return "" if at is None else _clock(at, text)

    def plain(self, moment: float | str, text: Words) -> str:
        """As :meth:`when`, as text."""
        shown = self.when(moment, text)
        return shown.striptags() if isinstance(shown, Markup) else shown

    def _read(self, moment: float | str) -> dt.datetime | None:
        try:
            if isinstance(moment, str):
                at = parsedate_to_datetime(moment)
                return (at if at.tzinfo else at.replace(tzinfo=dt.UTC)).astimezone(self._zone)
            return dt.datetime.fromtimestamp(moment, self._zone)
        except (ValueError, TypeError, IndexError, OverflowError, OSError):
            return None


def size(octets: int, text: Words) -> Markup:
    """A size as people say it: 1 KB is 1,000 octets, as on the boxes of disks and phones."""
    if octets < 1000:
        return text("common.size_bytes", number=octets)
    if octets < 999_500:
        return text("common.size_kb", number=round(octets / 1000))
    number = f"{octets / 1_000_000:.1f}".removesuffix(".0")
    return text("common.size_mb", number=number.replace(".", ",") if text.language == "es" else number)


def _clock(at: dt.datetime, text: Words) -> str:
    if text.language == "en":
        return f"{at.hour % 12 or 12}:{at.minute:02d} {'AM' if at.hour < 12 else 'PM'}"
    return f"{at.hour}:{at.minute:02d}"


def _written(at: dt.datetime, key: str, text: Words, **more: str) -> Markup:
    shown = text(key, day=at.day, month=text(f"month.{at.month}"), year=at.year, **more)
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(timespec="seconds"), shown)
