"""Info.plist as it stands in bundles: a property list in XML or in Apple's binary form, bounded in size and depth."""

from __future__ import annotations

import plistlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from .errors import UnreadableFile
from .xml_plist import read_xml_plist

__all__ = ["MAX_SIZE", "Text", "read_property_list", "texts"]

MAX_SIZE = 4 << 20
"""Bytes. That of an app has a few thousand."""
MAX_VALUES = 50_000
MAX_DEPTH = 32
_BINARY = b"bplist00"


def read_property_list(data: bytes, what: str = "Info.plist") -> dict[str, Any]:
    """The dictionary of a property list in either form. Raises UnreadableFile: neither, too large, or too deep.

    The binary form can name one value from many places, so that a small file is a huge tree: values count each time.
    """
    if len(data) > MAX_SIZE:
        raise UnreadableFile(what, f"{len(data)} bytes")
    if not data.startswith(_BINARY):
        return _bounded(read_xml_plist(data, what), what)
    try:
        found = plistlib.loads(data, fmt=plistlib.FMT_BINARY)
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError, AttributeError, MemoryError) as error:
        raise UnreadableFile(what, f"no binary property list: {str(error)[:200] or type(error).__name__}") from None
    if not isinstance(found, dict):
        raise UnreadableFile(what, "the property list is no dictionary")
    return _bounded(found, what)


def _bounded(found: dict[str, Any], what: str) -> dict[str, Any]:
    level: list[Any] = [found]
    count = 0
    for _ in range(MAX_DEPTH):
        count += len(level)
        if count > MAX_VALUES:
            raise UnreadableFile(what, f"more than {MAX_VALUES} values")
        following: list[Any] = []
        for value in level:
            following.extend(_inner(value))
            if len(following) > MAX_VALUES:
                raise UnreadableFile(what, f"more than {MAX_VALUES} values")
        if not following:
            return found
        level = following
    raise UnreadableFile(what, f"nested deeper than {MAX_DEPTH}")


def _inner(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.values()]
    return value if isinstance(value, list) else []


class Text(NamedTuple):
    """A text in a property list, and the keys that lead to it."""

    path: str
    """Keys and numbers, with dots: "NetworkExtension.NEProviderClasses.com.apple…"."""
    value: str


def texts(values: Mapping[str, Any]) -> Iterator[Text]:
    """All texts in a property list that `read_property_list` has read, keys that hold values among them."""
    waiting: list[tuple[str, Any]] = [("", dict(values))]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, str):
            yield Text(path, value)
        elif isinstance(value, dict):
            for key, item in reversed(value.items()):
                below = f"{path}.{key}" if path else str(key)
                yield Text(f"{below} (key)", str(key))
                waiting.append((below, item))
        elif isinstance(value, list):
            waiting.extend((f"{path}.{number}", item) for number, item in reversed([*enumerate(value)]))


def text_of(value: Any) -> str:
    """A value of a property list for a reader: short, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return f"<{value[:32].hex()}{'…' if len(value) > 32 else ''}>"
    if isinstance(value, list):
        return "[" + ", ".join(text_of(item) for item in value[:20]) + (", …]" if len(value) > 20 else "]")
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {text_of(item)}" for key, item in [*value.items()][:10]) + "}"
    return "nothing" if value is None else str(value)
