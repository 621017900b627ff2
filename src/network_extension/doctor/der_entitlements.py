"""Entitlements as a code signature holds them: in DER (slot 7), which the system reads, and as XML (slot 5).

    70 L { 02 01 01, dictionary }          the whole, version 1
    B0 L { 30 L { 0C key, value } … }      a dictionary; signers sort it by the bytes of its keys
    30 L { value … }                       an array
    01 boolean, 02 integer, 04 data, 0C text

Seen in signed apps, save for data. An older form, with a SET for the whole, is refused. DER (X.690 §10)
has only one form for each value: what is read goes back to the same bytes, unless keys are out of order.
"""

from __future__ import annotations

import plistlib
from collections.abc import Iterator
from typing import NamedTuple
from xml.parsers.expat import ExpatError

from .bounded_bytes import BoundedBytes
from .errors import UnreadableFile

__all__ = [
    "MAX_DEPTH",
    "MAX_SIZE",
    "Difference",
    "Value",
    "differences",
    "encode_der_entitlements",
    "read_der_entitlements",
    "read_xml_entitlements",
]

Value = bool | int | str | bytes | list["Value"] | dict[str, "Value"]
"""What DER holds. XML has dates and reals besides, which code signing cannot turn into DER."""

_WHAT, _WHAT_XML = "DER entitlements", "XML entitlements"
MAX_SIZE = 1 << 20
"""Bytes. Those of an app have a few hundred."""
MAX_DEPTH = 32
_BOOLEAN, _INTEGER, _DATA, _TEXT, _SEQUENCE, _WHOLE, _DICTIONARY = 0x01, 0x02, 0x04, 0x0C, 0x30, 0x70, 0xB0
_VERSION = b"\x02\x01\x01"
_MAX_INTEGER = 16  # bytes; plists hold 8, and one more for what is unsigned


class Difference(NamedTuple):
    """A key of which the two forms say different things; None: that form lacks it."""

    key: str
    xml: object
    der: object


def read_der_entitlements(data: bytes | memoryview) -> dict[str, Value]:
    """The dictionary in a slot's content (the blob without its head of eight bytes).

    Raises UnreadableFile: not DER, or a key twice.
    """
    if len(data) > MAX_SIZE:
        raise UnreadableFile(_WHAT, f"{len(data)} bytes")
    whole = _only(BoundedBytes(data, _WHAT), _WHOLE)
    version, dictionary = _pair(whole)
    if version.tag != _INTEGER or version.content != _VERSION[2:]:
        raise UnreadableFile(_WHAT, "of a version that is not 1")
    if dictionary.tag != _DICTIONARY:
        raise UnreadableFile(_WHAT, f"tag {dictionary.tag:#x} where the dictionary is expected")
    return _dictionary(dictionary.content, 1)


class _Element(NamedTuple):
    tag: int
    content: memoryview


def _elements(data: BoundedBytes) -> Iterator[_Element]:
    at = 0
    while at < len(data):
        tag, first = data.part(at, 2)
        at += 2
        length = first
        if first & 0x80:
            width = first & 0x7F
            if not 0 < width <= 4:
                raise UnreadableFile(_WHAT, f"a length of {width} bytes")
            length = int.from_bytes(data.part(at, width), "big")
            if length < 0x80 or length >> 8 * (width - 1) == 0:
                raise UnreadableFile(_WHAT, f"a length of {length} in {width} bytes")
            at += width
        yield _Element(tag, data.part(at, length))
        at += length


def _only(data: BoundedBytes, tag: int) -> memoryview:
    found = list(_elements(data))
    if len(found) != 1 or found[0].tag != tag:
        tags = ", ".join(f"{element.tag:#x}" for element in found[:4]) or "nothing"
        raise UnreadableFile(_WHAT, f"{tags} where one element {tag:#x} is expected")
    return found[0].content


def _pair(content: memoryview) -> tuple[_Element, _Element]:
    found = list(_elements(BoundedBytes(content, _WHAT)))
    if len(found) != 2:
        raise UnreadableFile(_WHAT, f"{len(found)} elements where a pair is expected")
    return found[0], found[1]


def _value(element: _Element, depth: int) -> Value:
    tag, content = element
    if depth > MAX_DEPTH:
        raise UnreadableFile(_WHAT, f"nested deeper than {MAX_DEPTH}")
    match tag:
        case 0x01:
            if bytes(content) not in (b"\x00", b"\xff"):
                raise UnreadableFile(_WHAT, f"a boolean of {bytes(content[:8]).hex()}")
            return content[0] != 0
        case 0x02:
            return _integer(content)
        case 0x04:
            return bytes(content)
        case 0x0C:
            return _text(content)
        case 0x30:
            return [_value(item, depth + 1) for item in _elements(BoundedBytes(content, _WHAT))]
        case 0xB0:
            return _dictionary(content, depth)
        case _:
            raise UnreadableFile(_WHAT, f"a value of tag {tag:#x}")


def _dictionary(content: memoryview, depth: int) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for entry in _elements(BoundedBytes(content, _WHAT)):
        if entry.tag != _SEQUENCE:
            raise UnreadableFile(_WHAT, f"tag {entry.tag:#x} where a key with its value is expected")
        key, value = _pair(entry.content)
        if key.tag != _TEXT:
            raise UnreadableFile(_WHAT, f"a key of tag {key.tag:#x}")
        name = _text(key.content)
        if name in found:
            raise UnreadableFile(_WHAT, f"the key {name!r} twice")
        found[name] = _value(value, depth + 1)
    return found


def _integer(content: memoryview) -> int:
    raw = bytes(content)
    if not 0 < len(raw) <= _MAX_INTEGER or raw != _integer_bytes(int.from_bytes(raw, "big", signed=True)):
        raise UnreadableFile(_WHAT, f"an integer of {len(raw)} bytes")
    return int.from_bytes(raw, "big", signed=True)


def _integer_bytes(value: int) -> bytes:
    """Two's complement, as short as can be."""
    bits = (value if value >= 0 else ~value).bit_length() + 1
    return value.to_bytes((bits + 7) // 8, "big", signed=True)


def _text(content: memoryview) -> str:
    try:
        return bytes(content).decode()
    except UnicodeDecodeError:
        raise UnreadableFile(_WHAT, "a text that is not UTF-8") from None


def encode_der_entitlements(entitlements: dict[str, Value]) -> bytes:
    """The content of slot 7 for a dictionary: what `read_der_entitlements` reads.

    Raises UnreadableFile: a value that this form cannot hold (a date, a real), or nested too deep.
    """
    return _element(_WHOLE, _VERSION + _encoded(entitlements, 1))


def _encoded(value: object, depth: int) -> bytes:
    if depth > MAX_DEPTH:
        raise UnreadableFile(_WHAT, f"nested deeper than {MAX_DEPTH}")
    match value:
        case bool():
            return _element(_BOOLEAN, b"\xff" if value else b"\x00")
        case int():
            return _element(_INTEGER, _integer_bytes(value))
        case str():
            return _element(_TEXT, _utf8(value))
        case bytes():
            return _element(_DATA, value)
        case list():
            return _element(_SEQUENCE, b"".join(_encoded(item, depth + 1) for item in value))
        case dict():
            entries = sorted((_utf8(str(key)), _encoded(item, depth + 1)) for key, item in value.items())
            pairs = (_element(_SEQUENCE, _element(_TEXT, key) + item) for key, item in entries)
            return _element(_DICTIONARY, b"".join(pairs))
        case _:
            raise UnreadableFile(_WHAT, f"a value of type {type(value).__name__} has no form there")


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise UnreadableFile(_WHAT, f"{text[:100]!r} is no text of UTF-8") from None


def _element(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    width = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | width]) + length.to_bytes(width, "big") + content


def read_xml_entitlements(data: bytes | memoryview) -> dict[str, object]:
    """The dictionary in slot 5's content: an XML property list.

    Raises UnreadableFile: no XML property list, no dictionary, too large, or nested too deep.
    """
    if len(data) > MAX_SIZE:
        raise UnreadableFile(_WHAT_XML, f"{len(data)} bytes")
    try:
        found = plistlib.loads(bytes(data), fmt=plistlib.FMT_XML)
    except (ExpatError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        # Whatever plistlib's element handlers stumble over: a date or a number that is none, an end without a start.
        raise UnreadableFile(_WHAT_XML, f"no XML property list: {str(error)[:200]}") from None
    if not isinstance(found, dict):
        raise UnreadableFile(_WHAT_XML, "no dictionary")
    level: list[object] = [found]
    for _ in range(MAX_DEPTH + 1):
        level = [item for value in level for item in _inner(value)]
        if not level:
            return found
    raise UnreadableFile(_WHAT_XML, f"nested deeper than {MAX_DEPTH}")


def _inner(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def differences(xml: dict[str, object], der: dict[str, Value]) -> tuple[Difference, ...]:
    """The keys of which the two forms say different things, sorted. Types count: the integer 1 is not true."""
    return tuple(
        Difference(key, xml.get(key), der.get(key))
        for key in sorted(xml.keys() | der.keys())
        if key not in xml or key not in der or not _same(xml[key], der[key])
    )


def _same(left: object, right: object) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(_same(*pair) for pair in zip(left, right, strict=True))
    return type(left) is type(right) and left == right
