"""Property lists that are signed: XML only, bounded, with times in UTC."""

from __future__ import annotations

import plistlib
from datetime import UTC, datetime
from typing import Any
from xml.parsers.expat import ExpatError

from .errors import UnreadableFile

__all__ = ["MAX_SIZE", "read_xml_plist"]

MAX_SIZE = 16 << 20
"""Bytes. A profile for a hundred thousand devices has 6 MiB."""
MAX_DEPTH = 32


def read_xml_plist(data: bytes, what: str) -> dict[str, Any]:
    """The dictionary of an XML property list. Dates are aware, in UTC; entity declarations are refused by plistlib.

    Raises UnreadableFile.
    """
    if len(data) > MAX_SIZE:
        raise UnreadableFile(what, f"a property list of {len(data)} bytes")
    try:
        value = plistlib.loads(data, fmt=plistlib.FMT_XML)
    except (
        ExpatError,
        ValueError,  # the plist's own error among them
        TypeError,
        LookupError,
        AttributeError,  # a date that does not look like one
        ArithmeticError,
        RecursionError,
    ) as error:
        raise UnreadableFile(what, f"not an XML property list: {str(error)[:200] or type(error).__name__}") from error
    if not isinstance(value, dict):
        raise UnreadableFile(what, "the property list is not a dictionary")
    return {key: _in_utc(item, what, 1) for key, item in value.items()}


def _in_utc(value: Any, what: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise UnreadableFile(what, f"a property list nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        return {key: _in_utc(item, what, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_in_utc(item, what, depth + 1) for item in value]
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    return value
