"""cpio: the payload of an installer package. Portable (odc, 070707), newc (070701) and newc with sums (070702).

Read as a stream. Hard links come in three ways: each with its content (odc of cpio itself), the first alone with it
(odc of libarchive), or the last alone (newc). So empty ones wait until content comes, or the end.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import UnreadableFile
from .byte_stream import ByteStream
from .limits import quoted
from .unpacked_folder import UnpackedFolder

__all__ = ["MAGICS", "read_cpio"]

_ODC, _NEWC, _CRC = b"070707", b"070701", b"070702"
MAGICS = (_ODC, _NEWC, _CRC)
_TRAILER = "TRAILER!!!"
_MAX_TARGET = 1 << 16


class _Header(NamedTuple):
    inode: tuple[int, ...]
    """Device and number."""
    mode: int
    links: int
    size: int
    name_size: int
    sum: int | None
    """Of a file's bytes, modulo 2**32; nobody counts those of links."""
    alignment: int


def read_cpio(stream: ByteStream, into: UnpackedFolder) -> None:
    """Unpack up to the trailer; what comes behind it is left.

    Raises UnreadableFile: another format, cut off, a sum that does not hold, and what UnpackedFolder refuses.
    """
    linked = _HardLinks(into)
    start = stream.offset
    while True:
        header = _header(stream)
        name = _name(stream, header, into)
        stream.skip(-(stream.offset - start) % header.alignment)
        if name == _TRAILER:
            break
        _entry(name, header, stream, into, linked)
        stream.skip(-(stream.offset - start) % header.alignment)
    linked.finish()


def _entry(name: str, header: _Header, stream: ByteStream, into: UnpackedFolder, linked: _HardLinks) -> None:
    kind = stat.S_IFMT(header.mode)
    if kind == stat.S_IFLNK:
        into.link(name, _target(stream, header, into.what))
        return
    content = _summed(stream, header, name)
    if kind in (stat.S_IFREG, 0):
        linked.write(name, header, content)
        return
    if kind == stat.S_IFDIR:
        into.folder(name)
    else:
        into.leave_out(name, "a device, a pipe or a socket")
    for _ in content:
        pass


def _summed(stream: ByteStream, header: _Header, name: str) -> Iterator[bytes]:
    found = 0
    for piece in stream.pieces(header.size):
        if header.sum is not None:
            found += sum(piece)
        yield piece
    if header.sum is not None and found & 0xFFFFFFFF != header.sum:
        raise UnreadableFile(stream.what, f"{quoted(name)}: the sum of its bytes does not hold")


class _HardLinks:
    """Files with more than one name."""

    def __init__(self, into: UnpackedFolder) -> None:
        self._into = into
        self._written: dict[tuple[int, ...], str] = {}
        self._empty: dict[tuple[int, ...], list[tuple[str, bool]]] = {}

    def write(self, name: str, header: _Header, content: Iterator[bytes]) -> None:
        executable = bool(header.mode & 0o111)
        if header.links < 2:
            self._into.write(name, content, executable)
        elif header.size:
            self._into.write(name, content, executable)
            self._written[header.inode] = name
            for waiting, its_mode in self._empty.pop(header.inode, ()):
                self._copy(waiting, name, its_mode)
        elif header.inode in self._written:
            self._copy(name, self._written[header.inode], executable)
        else:
            self._into.budget.enter(self._into.what)  # bounds what waits here
            self._empty.setdefault(header.inode, []).append((name, executable))

    def finish(self) -> None:
        """What waited in vain is empty."""
        for waiting in self._empty.values():
            for name, executable in waiting:
                self._into.write(name, (), executable)

    def _copy(self, name: str, earlier: str, executable: bool) -> None:
        self._into.copy(name, earlier, executable)


def _header(stream: ByteStream) -> _Header:
    magic = stream.take(6)
    if magic == _ODC:
        raw = stream.take(70)
        widths, base = [6, 6, 6, 6, 6, 6, 6, 11, 6, 11], 8
    elif magic in (_NEWC, _CRC):
        raw = stream.take(104)
        widths, base = [8] * 13, 16
    else:
        raise UnreadableFile(stream.what, f"no cpio header after {stream.offset - 6} bytes, but {magic.hex()}")
    fields: list[int] = []
    at = 0
    for width in widths:
        fields.append(_number(raw[at : at + width], base, stream.what))
        at += width
    if base == 8:
        device, inode, mode, _, _, links, _, _, name_size, size = fields
        return _Header((device, inode), mode, links, size, name_size, None, 1)
    inode, mode, _, _, links, _, size, major, minor, _, _, name_size, check = fields
    return _Header((major, minor, inode), mode, links, size, name_size, check if magic == _CRC else None, 4)


def _number(digits: bytes, base: int, what: str) -> int:
    try:
        text = digits.decode("ascii")
        if not text.isalnum():  # int() would take signs, spaces and underscores
            raise ValueError
        return int(text, base)
    except ValueError:
        raise UnreadableFile(what, f"a number in a header is {quoted(digits.decode('latin-1'))}") from None


def _name(stream: ByteStream, header: _Header, into: UnpackedFolder) -> str:
    if not 0 < header.name_size <= into.limits.name + 3:  # "./" before it, and a NUL behind
        raise UnreadableFile(into.what, f"a name of {header.name_size} bytes")
    raw, nul, behind = stream.take(header.name_size).partition(b"\0")
    if not nul or any(behind):
        raise UnreadableFile(into.what, f"the name {quoted(raw.decode('latin-1'))} does not end where it should")
    return _decoded(raw, into.what)


def _target(stream: ByteStream, header: _Header, what: str) -> str:
    if header.size > _MAX_TARGET:
        raise UnreadableFile(what, f"a symbolic link to a name of {header.size} bytes")
    return _decoded(stream.take(header.size), what)


def _decoded(raw: bytes, what: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise UnreadableFile(what, f"the name {quoted(raw.decode('latin-1'))} is not UTF-8") from None
