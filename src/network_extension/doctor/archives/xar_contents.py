"""The table of contents of a xar: files by number, where they lie in the heap, and with which checksums."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

from ..errors import UnreadableFile
from .bounded_xml import read_elements
from .limits import quoted

__all__ = ["Contents", "HeapData", "XarFile", "read_contents"]

_WHAT = "table of contents"
_MAX_PATH = 4096
_SIGNATURES = ("signature", "x-signature")


@dataclass
class HeapData:
    """Where bytes lie in the heap, and what they are."""

    offset: int
    length: int
    """In the heap."""
    size: int
    """When unpacked."""
    encoding: str
    archived: tuple[str, bytes] | None
    """Algorithm and value of the checksum of the bytes in the heap."""
    extracted: tuple[str, bytes] | None


@dataclass
class XarFile:
    """One entry."""

    identifier: str
    parent: XarFile | None
    fields: dict[tuple[str, ...], str] = field(default_factory=dict)
    """Texts by their place below the entry."""
    attributes: dict[tuple[str, str], str] = field(default_factory=dict)
    """By element and attribute."""
    path: str = ""
    data: HeapData | None = None

    @property
    def kind(self) -> str:
        """file, directory, symlink, hardlink, and others."""
        return self.fields.get(("type",), "").strip() or "file"

    @property
    def is_executable(self) -> bool:
        """By its mode."""
        digits = self.fields.get(("mode",), "").strip()
        return (
            digits.isascii()
            and digits.isdigit()
            and "8" not in digits[-3:]
            and any(int(digit) & 1 for digit in digits[-3:])
        )


@dataclass
class Contents:
    """All of it."""

    files: list[XarFile] = field(default_factory=list)
    """Folders before what is in them."""
    checksum: tuple[int, int] | None = None
    """Offset and size in the heap of the table's own checksum."""
    is_signed: bool = False


_FIELDS = frozenset(
    [
        ("name",),
        ("type",),
        ("mode",),
        ("link",),
        ("data", "offset"),
        ("data", "length"),
        ("data", "size"),
        ("data", "archived-checksum"),
        ("data", "extracted-checksum"),
        ("data", "unarchived-checksum"),
    ]
)
_ATTRIBUTES = frozenset(
    [
        ("name", "enctype"),
        ("type", "link"),
        ("encoding", "style"),
        ("archived-checksum", "style"),
        ("extracted-checksum", "style"),
        ("unarchived-checksum", "style"),
    ]
)


class _Builder:
    """Takes elements in document order; a name may come behind the files of its folder."""

    def __init__(self, what: str, most: int) -> None:
        self.contents = Contents()
        self.what = what
        self._most = most
        self._open: list[XarFile] = []
        self._own: dict[str, int] = {}

    def start(self, path: tuple[str, ...], attributes: dict[str, str]) -> None:
        if path[:2] != ("xar", "toc"):
            if path != ("xar",):
                raise UnreadableFile(self.what, f"{_WHAT}: the element {quoted('/'.join(path[:3]))}")
            return
        if len(path) == 3 and path[2] in _SIGNATURES:
            self.contents.is_signed = True
        if path[-1] == "file" and len(path) == 3 + len(self._open):
            if len(self.contents.files) == self._most:
                raise UnreadableFile(self.what, f"more than {self._most} files and folders")
            found = XarFile(attributes.get("id", ""), self._open[-1] if self._open else None)
            self._open.append(found)
            self.contents.files.append(found)
        elif self._open and self._below(path) in _FIELDS | {("data", "encoding")}:
            for name, value in attributes.items():
                if (path[-1], name) in _ATTRIBUTES:
                    self._open[-1].attributes[path[-1], name] = value

    def end(self, path: tuple[str, ...], text: str) -> None:
        if path[:2] != ("xar", "toc"):
            return
        if path[2:3] == ("checksum",) and path[3:] in (("offset",), ("size",)):
            self._own[path[3]] = _number(text, self.what)
        elif path[-1] == "file" and len(path) == 2 + len(self._open):
            self._open.pop()
        elif self._open and (place := self._below(path)) in _FIELDS:
            fields = self._open[-1].fields
            if place in fields:
                raise UnreadableFile(self.what, f"{_WHAT}: {quoted(fields[place])} has two of {'/'.join(place)}")
            fields[place] = text

    def _below(self, path: tuple[str, ...]) -> tuple[str, ...]:
        return path[2 + len(self._open) :]

    def finish(self) -> Contents:
        if self._own:
            if self._own.keys() != {"offset", "size"}:
                raise UnreadableFile(self.what, f"{_WHAT}: its checksum lacks a place")
            self.contents.checksum = self._own["offset"], self._own["size"]
        for file in self.contents.files:
            name = self._name(file)
            file.path = f"{file.parent.path}/{name}" if file.parent else name
            if len(file.path) > _MAX_PATH:
                raise UnreadableFile(self.what, f"{_WHAT}: a name of {len(file.path)} letters")
            file.data = _data(file, self.what)
        return self.contents

    def _name(self, file: XarFile) -> str:
        name = file.fields.get(("name",), "")
        if file.attributes.get(("name", "enctype")) == "base64":
            try:
                name = base64.b64decode(name).decode()
            except (binascii.Error, ValueError):
                raise UnreadableFile(self.what, f"{_WHAT}: the name {quoted(name)} is not base64") from None
        if name in ("", ".") or "/" in name:
            raise UnreadableFile(self.what, f"{_WHAT}: a file named {quoted(name)}")
        return name


def read_contents(data: bytes, what: str, most: int) -> Contents:
    """At most `most` files. Raises UnreadableFile: no such XML, a name that is none, numbers that are none."""
    builder = _Builder(what, most)
    read_elements(data, f"{what}: {_WHAT}", builder.start, builder.end)
    return builder.finish()


def _data(file: XarFile, what: str) -> HeapData | None:
    places = [("data", name) for name in ("offset", "length", "size")]
    found = [file.fields[place] for place in places if place in file.fields]
    if not found:
        return None
    if len(found) < len(places):
        raise UnreadableFile(what, f"{_WHAT}: {quoted(file.path)} lacks an offset or a size")
    offset, length, size = (_number(text, what) for text in found)
    encoding = file.attributes.get(("encoding", "style"), "application/octet-stream")
    extracted = _checksum(file, "extracted-checksum", what) or _checksum(file, "unarchived-checksum", what)
    return HeapData(offset, length, size, encoding, _checksum(file, "archived-checksum", what), extracted)


def _checksum(file: XarFile, element: str, what: str) -> tuple[str, bytes] | None:
    text = file.fields.get(("data", element), "").strip()
    style = file.attributes.get((element, "style"), "").lower()
    if not text or style == "none":
        return None
    try:
        return style, bytes.fromhex(text)
    except ValueError:
        raise UnreadableFile(what, f"{_WHAT}: {quoted(file.path)} has the checksum {quoted(text)}") from None


def _number(text: str, what: str) -> int:
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 19:
        raise UnreadableFile(what, f"{_WHAT}: the number {quoted(text)}")
    return int(digits)
