"""XML from an archive, element by element: of bounded size and depth, and without a document type.

Without a document type there are no entities to expand.
"""

from __future__ import annotations

from collections.abc import Callable
from xml.parsers import expat

from ..errors import UnreadableFile

__all__ = ["MAX_SIZE", "read_elements"]

MAX_SIZE = 8 << 20
"""Bytes. A table of contents has about one KiB for each file, and a package some five files."""
MAX_DEPTH = 80
MAX_ELEMENTS = 500_000
_FEED = 1 << 18

Start = Callable[[tuple[str, ...], dict[str, str]], None]
"""Called with an element's path from the root, itself last, and its attributes."""
End = Callable[[tuple[str, ...], str], None]
"""Called with its path and the text that it holds itself."""


def read_elements(data: bytes, what: str, start: Start, end: End) -> None:
    """Call `start` and `end` for each element. Raises UnreadableFile: no XML in UTF-8, too large, or too deep."""
    if len(data) > MAX_SIZE:
        raise UnreadableFile(what, f"XML of {len(data)} bytes")
    path: list[str] = []
    texts: list[list[str]] = []
    count = 0

    def started(name: str, attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if len(path) == MAX_DEPTH or count > MAX_ELEMENTS:
            raise UnreadableFile(what, f"XML nested deeper than {MAX_DEPTH}, or more than {MAX_ELEMENTS} elements")
        path.append(name)
        texts.append([])
        start(tuple(path), attributes)

    def ended(_: str) -> None:
        end(tuple(path), "".join(texts.pop()))
        path.pop()

    def text(found: str) -> None:
        if texts:
            texts[-1].append(found)

    def document_type(*_: object) -> None:
        raise UnreadableFile(what, "XML with a document type, which could define entities")

    parser = expat.ParserCreate("UTF-8")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = started, ended
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = text, document_type
    try:
        # In parts, because expat goes on to the end of what it has when a handler raises.
        for at in range(0, len(data), _FEED):
            parser.Parse(data[at : at + _FEED])
        parser.Parse(b"", True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise UnreadableFile(what, f"is not XML: {error}") from None
