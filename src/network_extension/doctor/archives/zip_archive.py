"""zip: what Finder makes, .ipa and wheels. Stored, deflated, bzip2 or xz; neither encrypted nor in several parts."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from typing import IO

from ..errors import UnreadableFile
from .byte_stream import file_part
from .compression import Compression, decompressed
from .limits import quoted
from .unpacked_folder import UnpackedFolder
from .zip_directory import LOCAL, ZipEntry, read_zip_directory

__all__ = ["MAGICS", "unpack_zip"]

MAGICS = (b"PK\3\4", b"PK\5\6")
"""Of the first local header; of the end, in a zip that holds nothing."""
_COMPRESSIONS = {8: Compression.DEFLATE, 12: Compression.BZIP2, 95: Compression.XZ}
_STORED, _ENCRYPTED = 0, 0x2041
_MAX_TARGET = 1 << 16


def unpack_zip(file: IO[bytes], into: UnpackedFolder) -> None:
    """Every entry of the directory, whose sizes and CRC have to hold.

    Raises UnreadableFile: damaged, encrypted, another way of compression, and what UnpackedFolder refuses.
    """
    size = file.seek(0, os.SEEK_END)
    for entry in read_zip_directory(file, size, into.what, into.limits.entries):
        _unpack(file, entry, into)


def _unpack(file: IO[bytes], entry: ZipEntry, into: UnpackedFolder) -> None:
    kind = stat.S_IFMT(entry.mode)
    if entry.is_folder:
        into.folder(entry.name)
    elif kind == stat.S_IFLNK:
        if entry.size > _MAX_TARGET:
            raise _fault(entry, into, f"a symbolic link to a name of {entry.size} bytes")
        target = b"".join(_content(file, entry, into))
        try:
            into.link(entry.name, target.decode())
        except UnicodeDecodeError:
            raise _fault(entry, into, "a symbolic link to a name that is not UTF-8") from None
    elif kind in (stat.S_IFREG, 0):
        into.write(entry.name, _content(file, entry, into), bool(entry.mode & 0o111))
    else:
        into.leave_out(entry.name, "a device, a pipe or a socket")


def _content(file: IO[bytes], entry: ZipEntry, into: UnpackedFolder) -> Iterator[bytes]:
    if entry.flags & _ENCRYPTED:
        raise _fault(entry, into, "is encrypted")
    pieces = file_part(file, into.what, _start(file, entry, into), entry.packed)
    if entry.method in _COMPRESSIONS:
        what = f"{into.what}: {quoted(entry.name)}"
        pieces = decompressed(pieces, _COMPRESSIONS[entry.method], what, into.budget)
    elif entry.method != _STORED:
        raise _fault(entry, into, f"is compressed in way {entry.method}, which is not read here")
    size, crc = 0, 0
    for piece in pieces:
        size += len(piece)
        crc = zlib.crc32(piece, crc)
        if size > entry.size:
            break
        yield piece
    if size != entry.size:
        raise _fault(entry, into, f"has {size} bytes or more, where the directory says {entry.size}")
    if crc != entry.crc:
        raise _fault(entry, into, "its CRC does not hold")


def _start(file: IO[bytes], entry: ZipEntry, into: UnpackedFolder) -> int:
    """Where its bytes begin: behind a local header that tells the same name."""
    header = b"".join(file_part(file, into.what, entry.offset, LOCAL.size))
    magic, _, flags, method, *_, name_size, extra_size = LOCAL.unpack(header)
    name = b"".join(file_part(file, into.what, entry.offset + LOCAL.size, name_size))
    if magic != MAGICS[0] or name != entry.raw_name or method != entry.method or flags & 1 != entry.flags & 1:
        raise _fault(entry, into, "its header and the directory contradict each other")
    return entry.offset + LOCAL.size + int(name_size) + int(extra_size)


def _fault(entry: ZipEntry, into: UnpackedFolder, why: str) -> UnreadableFile:
    return UnreadableFile(into.what, f"{quoted(entry.name)}: {why}")
