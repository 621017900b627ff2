"""The values of a table in a document, taken out with their checks."""

from __future__ import annotations

from typing import Any, NamedTuple

from .document import Misfit
from .places import Way

MOST_ITEMS = 10_000


class Table(NamedTuple):
    """One table of a document, with the way to it."""

    data: dict[str, Any]
    way: Way

    def text(self, key: str) -> str:
        """A text that is not empty. Raises Misfit."""
        value = self.data[key]
        if not isinstance(value, str) or not value or not value.isprintable():
            raise Misfit((*self.way, key), f"{key}: a text is needed, not {shown(value)}")
        return value

    def items(self, key: str) -> list[tuple[Any, Way]]:
        """One value, or those of an array that is not empty, each with its way."""
        value, way = self.data[key], (*self.way, key)
        if not isinstance(value, list):
            return [(value, way)]
        if not value:
            raise Misfit(way, f"{key}: an empty list matches nothing; leave the key out to match everything")
        if len(value) > MOST_ITEMS:
            raise Misfit(way, f"{key}: {len(value)} items, more than {MOST_ITEMS}; put them into a file: list = …")
        return [(item, (*way, number)) for number, item in enumerate(value)]

    def texts(self, key: str) -> list[tuple[str, Way]]:
        """The same, of texts."""
        for value, way in self.items(key):
            if not isinstance(value, str) or not value or "\0" in value:
                raise Misfit(way, f"{key}: a text is needed, not {shown(value)}")
        return self.items(key)


def shown(value: Any) -> str:
    """A value in a message: short, on one line."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"
