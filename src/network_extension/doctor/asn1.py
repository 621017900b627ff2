"""Bounds around ASN.1: bytes are measured in one pass before asn1crypto, which parses lazily, may see them.

asn1crypto trusts lengths only as far as its input goes, but it reads object identifiers and integers of any size (in
quadratic time), nests as deep as the bytes say, and raises whatever its lazy parts run into. `measure` bounds all of
that (X.690 §8.1); `load` takes indefinite lengths away, over which asn1crypto is quadratic too; `reading` makes one
error of the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from .errors import UnreadableFile

__all__ = ["MAX_DEPTH", "MAX_ELEMENTS", "Element", "Extent", "element_at", "encode", "load", "measure", "reading"]

MAX_DEPTH = 48
"""Elements inside elements. A code signature with its timestamp has 24."""
MAX_ELEMENTS = 200_000
"""Elements of one structure. A code signature with its timestamp has about 900."""
MAX_OBJECT_IDENTIFIER = 64
MAX_INTEGER = 4096  # bytes; an RSA key of 16,384 bits has 2,049
_INTEGER, _OCTETS, _OBJECT_IDENTIFIER = 0x02, 0x04, 0x06
_OCTETS_IN_PARTS = 0x24


class Element(NamedTuple):
    """A head of tag and length. `end` is None for the indefinite form."""

    tag: int
    """The first byte: class, constructed, and tag number. 0x1f in the lower five bits: a long tag follows."""
    tag_end: int
    """Offset behind the tag: of the length."""
    start: int
    """Offset of the contents."""
    end: int | None

    @property
    def constructed(self) -> bool:
        """Whether the contents are elements."""
        return bool(self.tag & 0x20)


class Extent(NamedTuple):
    """What `measure` finds."""

    end: int
    """Offset behind the element."""
    has_ber: bool
    """An element of indefinite length, or an octet string in parts, is among those within."""


@contextmanager
def reading(what: str) -> Iterator[None]:
    """What a parser raises over bad bytes becomes UnreadableFile about `what`."""
    try:
        yield
    except UnreadableFile:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UnreadableFile(what, lines[0][:200]) from error


def load(specification: Any, data: bytes, what: str) -> Any:
    """The asn1crypto object of the class `specification` that `data` starts with; bytes behind it are left alone.

    Where the bytes have indefinite lengths (BER), the object has definite ones. What is signed has none anyway: DER.
    Raises UnreadableFile.
    """
    extent = measure(data, what)
    with reading(what):
        return specification.load(_definite(data, what) if extent.has_ber else data[: extent.end])


def measure(data: bytes, what: str) -> Extent:
    """Where the element at the start of `data` ends. All elements in it are within bounds, and within their parents.

    Raises UnreadableFile.
    """
    at, elements, has_ber = 0, 0, False
    ends: list[int | None] = []  # of the elements that are open; None: ends with two zero bytes
    while True:
        elements += 1
        if elements > MAX_ELEMENTS:
            raise UnreadableFile(what, f"more than {MAX_ELEMENTS} ASN.1 elements")
        limit = next((end for end in reversed(ends) if end is not None), len(data))
        element = element_at(data, at, limit, what)
        at = element.start
        if element.constructed:
            ends.append(element.end)
            has_ber = has_ber or element.end is None or element.tag == _OCTETS_IN_PARTS
            if len(ends) > MAX_DEPTH:
                raise UnreadableFile(what, f"ASN.1 nested deeper than {MAX_DEPTH}")
        else:
            at = _check_size(element, what)
        while ends and _closes(data, at, ends[-1]):
            at += 2 if ends.pop() is None else 0
        if not ends:
            return Extent(at, has_ber)


def _closes(data: bytes, at: int, end: int | None) -> bool:
    return data[at : at + 2] == b"\0\0" if end is None else at == end


def _definite(data: bytes, what: str) -> bytes:
    """The element at the start of `data`, which was measured, with definite lengths and octet strings in one part."""
    at = 0
    open_elements: list[tuple[bytes, int | None, list[bytes]]] = []  # tag, end, encoded elements within
    while True:
        element = element_at(data, at, len(data), what)
        if element.constructed:
            open_elements.append((data[at : element.tag_end], element.end, []))
            at, done = element.start, None
        else:
            done, at = data[at : element.end], element.end or 0
        while True:
            if done is not None:
                if not open_elements:
                    return done
                open_elements[-1][2].append(done)
            tag, end, within = open_elements[-1]
            if not _closes(data, at, end):
                break
            open_elements.pop()
            at += 2 if end is None else 0
            done = _in_one_part(within, what) if tag[0] == _OCTETS_IN_PARTS else encode(tag, b"".join(within))


def _in_one_part(parts: list[bytes], what: str) -> bytes:
    elements = [(part, element_at(part, 0, len(part), what)) for part in parts]
    if any(element.tag != _OCTETS for _, element in elements):
        raise UnreadableFile(what, "an octet string has other parts than octet strings")
    return encode(bytes([_OCTETS]), b"".join(part[element.start :] for part, element in elements))


def encode(tag: bytes, body: bytes) -> bytes:
    """The DER of an element."""
    size = len(body)
    if size < 0x80:
        return tag + bytes([size]) + body
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return tag + bytes([0x80 | len(length)]) + length + body


def element_at(data: bytes, at: int, limit: int, what: str) -> Element:
    """The head of the element at `at`, which must end at `limit` or before. Raises UnreadableFile."""
    start = at
    if at + 2 > limit:
        raise UnreadableFile(what, f"cut off at byte {start}")
    tag = data[at]
    at += 1
    if tag & 0x1F == 0x1F:
        while data[at] & 0x80 and at - start < 4 and at + 2 < limit:
            at += 1
        at += 1
        if at >= limit or data[at - 1] & 0x80:
            raise UnreadableFile(what, f"bad ASN.1 tag at byte {start}")
    tag_end, length = at, data[at]
    at += 1
    if length == 0x80 and tag & 0x20:
        return Element(tag, tag_end, at, None)
    if length >= 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4 or at + count > limit:
            raise UnreadableFile(what, f"bad ASN.1 length at byte {start}")
        length = int.from_bytes(data[at : at + count])
        at += count
    if at + length > limit:
        raise UnreadableFile(what, f"the ASN.1 element at byte {start} is longer than what holds it")
    return Element(tag, tag_end, at, at + length)


def _check_size(element: Element, what: str) -> int:
    """The end of a primitive element, whose size may be read."""
    assert element.end is not None
    size = element.end - element.start
    if element.tag == _OBJECT_IDENTIFIER and not 1 <= size <= MAX_OBJECT_IDENTIFIER:
        raise UnreadableFile(what, f"an object identifier of {size} bytes")
    if element.tag == _INTEGER and not 1 <= size <= MAX_INTEGER:
        raise UnreadableFile(what, f"an integer of {size} bytes")
    return element.end
