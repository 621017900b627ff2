"""Property lists in Apple's DER coding, as in a profile's DER-Encoded-Profile.

The outermost dictionary is a SET, inner ones are [16]; an entry is a SEQUENCE of key and value. Entitlements stand
in [APPLICATION 16] behind a version. Strings are UTF8String, data OCTET STRING, lists SEQUENCE, dates UTCTime or
GeneralizedTime.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from asn1crypto import core

from .asn1 import Element, element_at, measure, reading
from .errors import UnreadableFile

__all__ = ["read_der_value"]

_BOOLEAN, _INTEGER, _OCTETS, _TEXT, _UTC_TIME, _TIME = 0x01, 0x02, 0x04, 0x0C, 0x17, 0x18
_LIST, _OUTER_DICTIONARY, _DICTIONARY, _ENTITLEMENTS = 0x30, 0x31, 0xB0, 0x70


def read_der_value(data: bytes, what: str) -> Any:
    """The value at the start of `data`: bool, int, bytes, str, datetime in UTC, list or dict. Raises UnreadableFile."""
    measure(data, what)  # bounds depth and number
    value, _ = _value(data, 0, len(data), what)
    return value


def _value(data: bytes, at: int, limit: int, what: str) -> tuple[Any, int]:
    element = element_at(data, at, limit, what)
    if element.end is None:
        raise UnreadableFile(what, f"indefinite length in DER at byte {at}")
    if element.tag == _LIST:
        return _items(data, element, what), element.end
    if element.tag in (_OUTER_DICTIONARY, _DICTIONARY):
        return _dictionary(data, element, what), element.end
    if element.tag == _ENTITLEMENTS:
        items = _items(data, element, what)
        if len(items) != 2 or not isinstance(items[1], dict):
            raise UnreadableFile(what, "entitlements are not a version and a dictionary")
        return items[1], element.end
    return _scalar(data, at, element, what), element.end


def _items(data: bytes, element: Element, what: str) -> list[Any]:
    items, at = [], element.start
    assert element.end is not None
    while at < element.end:
        item, at = _value(data, at, element.end, what)
        items.append(item)
    return items


def _dictionary(data: bytes, element: Element, what: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in _items(data, element, what):
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise UnreadableFile(what, "a dictionary's entry is not a key and a value")
        if pair[0] in found:
            raise UnreadableFile(what, f"the key {pair[0][:100]} occurs twice")
        found[pair[0]] = pair[1]
    return found


def _scalar(data: bytes, at: int, element: Element, what: str) -> Any:
    body = data[element.start : element.end]
    if element.tag == _BOOLEAN and len(body) == 1:
        return body != b"\0"
    if element.tag == _INTEGER:
        return int.from_bytes(body, signed=True)
    if element.tag == _OCTETS:
        return body
    with reading(what):
        if element.tag == _TEXT:
            return body.decode()
        if element.tag in (_UTC_TIME, _TIME):
            time = (core.UTCTime if element.tag == _UTC_TIME else core.GeneralizedTime).load(data[at : element.end])
            if isinstance(time.native, datetime):
                return time.native.astimezone(UTC)
    raise UnreadableFile(what, f"unknown value at byte {at}, tag {element.tag:#04x}")
