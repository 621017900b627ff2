"""The keys of a `[[rule]]` that limit it in time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Any

from .document import Misfit
from .places import Way
from .tables import Table, shown
from .times import Hours, TimeLimits, parse_weekdays


def time_limits_of(table: Table) -> TimeLimits:
    """All keys that limit a rule in time. Raises Misfit."""
    start = _moment(table, "from") if "from" in table.data else None
    end = _moment(table, "until") if table.data.get("until", "exit") not in ("exit", "restart") else None
    if start is not None and end is not None and end <= start:
        raise Misfit((*table.way, "until"), f"until: {end:%Y-%m-%d %H:%M} is not after from, {start:%Y-%m-%d %H:%M}")
    if table.data.get("until") == "exit" and "pid" not in table.data:
        raise Misfit((*table.way, "until"), 'until: "exit" needs the process that is meant, pid = …')
    hours = [_parsed(Hours.parse, "hours", text, way) for text, way in _texts(table, "hours")]
    days = [_parsed(parse_weekdays, "weekdays", text, way) for text, way in _texts(table, "weekdays")]
    return TimeLimits(start, end, tuple(hours), frozenset().union(*days))


def _texts(table: Table, key: str) -> list[tuple[str, Way]]:
    return table.texts(key) if key in table.data else []


def _parsed(parse: Callable[[str], Any], key: str, text: str, way: Way) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise Misfit(way, f"{key}: {error}") from None


def _moment(table: Table, key: str) -> datetime:
    value = table.data[key]
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return value.astimezone()
        if isinstance(value, date):
            return datetime(value.year, value.month, value.day).astimezone()
    except (ValueError, OverflowError, OSError):
        pass
    words = ', "exit" or "restart"' if key == "until" else ""
    raise Misfit(
        (*table.way, key), f"{key}: a date and time as 2027-01-31T18:00:00{words} is needed, not {shown(value)}"
    )
