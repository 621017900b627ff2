"""When a rule holds: between two moments, at hours of the day, on days of the week."""

from __future__ import annotations

import re
from datetime import datetime, time
from typing import NamedTuple

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FULL_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_HOURS = re.compile(r"\s*(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})\s*\Z")


class Hours(NamedTuple):
    """From a time of the day to another, which is not part of it; past midnight if that comes first."""

    start: time
    end: time

    @classmethod
    def parse(cls, text: str) -> Hours:
        """`09:00-17:30`, `22:00-06:00`, `08:00-24:00`. Raises ValueError."""
        match = _HOURS.match(text)
        if match is None:
            raise ValueError(f"{text!r} is not of the form 09:00-17:30")
        first, last = (int(match[1]), int(match[2])), (int(match[3]), int(match[4]))
        if last == (24, 0):
            last = (0, 0)
        try:
            hours = cls(time(*first), time(*last))
        except ValueError:
            raise ValueError(f"{text!r}: hours are 00 to 23, minutes 00 to 59") from None
        if hours.start == hours.end and (first, last) != ((0, 0), (0, 0)):
            raise ValueError(f"{text!r} begins when it ends, so it never holds")
        return hours

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}"


class TimeLimits(NamedTuple):
    """All that is given must hold. Hours past midnight belong to the day on which they began."""

    start: datetime | None = None
    """Aware, as is `end`."""
    end: datetime | None = None
    hours: tuple[Hours, ...] = ()
    weekdays: frozenset[int] = frozenset()
    """0 is Monday; empty is every day."""

    def holds(self, now: datetime) -> bool:
        """`now` is aware, in the zone whose hours and days are meant."""
        if (self.start is not None and now < self.start) or (self.end is not None and now >= self.end):
            return False
        if not self.hours:
            return not self.weekdays or now.weekday() in self.weekdays
        return any(self._within(hours, now) for hours in self.hours)

    def is_over(self, now: datetime) -> bool:
        """Whether it will never hold again."""
        return self.end is not None and now >= self.end

    def _within(self, hours: Hours, now: datetime) -> bool:
        clock = now.time()
        if hours.start < hours.end:
            return hours.start <= clock < hours.end and self._on(now.weekday())
        if clock >= hours.start:
            return self._on(now.weekday())
        return clock < hours.end and self._on((now.weekday() - 1) % len(WEEKDAYS))

    def _on(self, weekday: int) -> bool:
        return not self.weekdays or weekday in self.weekdays

    def __str__(self) -> str:
        parts = [f"from {self.start:%Y-%m-%d %H:%M}"] if self.start else []
        parts += [f"until {self.end:%Y-%m-%d %H:%M}"] if self.end else []
        parts += [", ".join(map(str, self.hours))] if self.hours else []
        parts += [" ".join(WEEKDAYS[day] for day in sorted(self.weekdays))] if self.weekdays else []
        return ", ".join(parts)


def parse_weekdays(text: str) -> frozenset[int]:
    """`mon`, `mon-fri`, `sat-mon`. Raises ValueError."""
    first, dash, last = (part.strip().lower() for part in text.partition("-"))
    start, end = _weekday(first), _weekday(last if dash else first)
    return frozenset((start + step) % 7 for step in range((end - start) % 7 + 1))


def _weekday(text: str) -> int:
    if len(text) >= 3:
        for number, name in enumerate(_FULL_NAMES):
            if name.startswith(text):
                return number
    raise ValueError(f"{text!r} is not a day of the week; {', '.join(WEEKDAYS)} are")
