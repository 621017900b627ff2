"""xar, Apple's archive of installer packages: a header, a table of contents in zlib's XML, and a heap of files.

    "xar!", size of the header, version 1, size of the table compressed and expanded, kind of its checksum
    the table; behind it the heap, from where all offsets count; its first bytes are the checksum of the table

Big-endian. A signature of the package signs that checksum, so it is what holds everything together: the table has the
checksum of each file. Behind the heap `stapler` puts a notarisation ticket, with a trailer that begins with "t8lr"
(seen by the makers of other readers; Apple documents none of it).
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from typing import IO, NamedTuple

from ..errors import UnreadableFile
from .bounded_xml import MAX_SIZE
from .byte_stream import file_part
from .compression import Compression, decompressed
from .limits import quoted
from .unpacked_folder import UnpackedFolder
from .xar_contents import Contents, HeapData, XarFile, read_contents

__all__ = ["MAGIC", "UnpackedXar", "unpack_xar"]

MAGIC = b"xar!"
_HEADER = struct.Struct(">4sHHQQI")
_TRAILER_MAGIC, _TRAILER_SIZE = b"t8lr", 16
_MAX_HEADER = 1024
_ALGORITHMS = {0: "", 1: "sha1", 2: "md5", 3: "sha256", 4: "sha512"}
_KNOWN = ("sha1", "md5", "sha256", "sha384", "sha512")
_ENCODINGS = {
    "application/x-gzip": Compression.ZLIB,
    "application/zlib": Compression.ZLIB,
    "application/x-bzip2": Compression.BZIP2,
    "application/x-lzma": Compression.LZMA,
    "application/x-xz": Compression.LZMA,
}
_STORED = "application/octet-stream"


class UnpackedXar(NamedTuple):
    """What a xar says of itself besides its files."""

    is_signed: bool
    """Whether its table has a signature. Nothing of it is verified."""
    is_stapled: bool
    """Whether a ticket's trailer ends it."""


def unpack_xar(file: IO[bytes], into: UnpackedFolder) -> UnpackedXar:
    """Every file of the table; checksums of the table, and of each file before and after decompression, have to hold.

    Raises UnreadableFile: damaged, cut off, other encodings or checksums, and what UnpackedFolder refuses.
    """
    size = file.seek(0, os.SEEK_END)
    heap, algorithm, table = _table(file, size, into)
    contents = read_contents(_expanded(table, into), into.what, into.limits.entries)
    _check_table(file, heap, size, algorithm, table, contents, into.what)
    by_identifier = {found.identifier: found for found in contents.files}
    for found in contents.files:
        if found.kind != "hardlink" or found.attributes.get(("type", "link")) == "original":
            _unpack(file, heap, size, found, into)
    for found in contents.files:
        if found.kind == "hardlink" and (other := found.attributes.get(("type", "link"), "")) != "original":
            if other not in by_identifier:
                raise _fault(found, into, "a hard link to nothing")
            into.copy(found.path, by_identifier[other].path, found.is_executable)
    return UnpackedXar(contents.is_signed, _is_stapled(file, size, into.what))


def _table(file: IO[bytes], size: int, into: UnpackedFolder) -> tuple[int, str, bytes]:
    """Where the heap begins, the algorithm of the table's checksum, and the table as it is compressed."""
    head = b"".join(file_part(file, into.what, 0, min(_MAX_HEADER, size)))
    if len(head) < _HEADER.size:
        raise UnreadableFile(into.what, "cut off within the header")
    magic, header_size, version, packed, expanded, kind = _HEADER.unpack_from(head)
    if magic != MAGIC or version != 1 or not _HEADER.size <= header_size <= min(_MAX_HEADER, size):
        raise UnreadableFile(into.what, f"a xar of version {version} with a header of {header_size} bytes")
    if packed > MAX_SIZE or expanded > MAX_SIZE:
        raise UnreadableFile(into.what, f"a table of contents of {packed} bytes that is to become {expanded}")
    algorithm = _ALGORITHMS.get(kind)
    name = head[_HEADER.size : header_size].rstrip(b"\0")
    if kind == 3 and name:  # other xars than Apple's: "other", and its name behind
        algorithm = name.decode("latin-1").lower()
    if algorithm is None or (algorithm and algorithm not in _KNOWN):
        raise UnreadableFile(into.what, f"a checksum of the kind {kind} {quoted(algorithm or '')}")
    table = b"".join(file_part(file, into.what, header_size, packed))
    return header_size + packed, algorithm, table


def _expanded(table: bytes, into: UnpackedFolder) -> bytes:
    what = f"{into.what}: table of contents"
    found = bytearray()
    for piece in decompressed([table], Compression.ZLIB, what, into.budget):
        found += piece
        if len(found) > MAX_SIZE:
            raise UnreadableFile(what, f"becomes more than {MAX_SIZE} bytes")
    return bytes(found)


def _check_table(
    file: IO[bytes], heap: int, size: int, algorithm: str, table: bytes, contents: Contents, what: str
) -> None:
    if not algorithm:
        return
    digest = hashlib.new(algorithm, table, usedforsecurity=False).digest()
    offset, length = contents.checksum or (0, len(digest))
    if length != len(digest) or offset + length > size - heap:
        raise UnreadableFile(what, f"the checksum of its table of contents, {length} bytes at {offset}, is not there")
    if b"".join(file_part(file, what, heap + offset, length)) != digest:
        raise UnreadableFile(what, "the checksum of its table of contents does not hold")


def _unpack(file: IO[bytes], heap: int, size: int, found: XarFile, into: UnpackedFolder) -> None:
    if found.kind == "directory":
        into.folder(found.path)
    elif found.kind == "symlink":
        into.link(found.path, found.fields.get(("link",), ""))
    elif found.kind in ("file", "hardlink"):
        content = iter(()) if found.data is None else _content(file, heap, size, found, found.data, into)
        into.write(found.path, content, found.is_executable)
    else:
        into.leave_out(found.path, f"an entry of the kind {quoted(found.kind)}")


def _content(
    file: IO[bytes], heap: int, size: int, found: XarFile, data: HeapData, into: UnpackedFolder
) -> Iterator[bytes]:
    if data.offset + data.length > size - heap:
        raise _fault(found, into, f"its {data.length} bytes at {data.offset} of the heap are not in the file")
    raw = file_part(file, into.what, heap + data.offset, data.length)
    pieces = _checked(raw, data.archived, found, into)
    if data.encoding in _ENCODINGS:
        what = f"{into.what}: {quoted(found.path)}"
        pieces = decompressed(pieces, _ENCODINGS[data.encoding], what, into.budget)
    elif data.encoding != _STORED:
        raise _fault(found, into, f"is encoded as {quoted(data.encoding)}, which is not read here")
    left = data.size
    for piece in _checked(pieces, data.extracted, found, into):
        left -= len(piece)
        if left < 0:
            break
        yield piece
    if left:
        raise _fault(found, into, f"becomes more or less than the {data.size} bytes that it says")


def _checked(
    pieces: Iterator[bytes], checksum: tuple[str, bytes] | None, found: XarFile, into: UnpackedFolder
) -> Iterator[bytes]:
    """The same pieces; an error at their end when the checksum of all is another."""
    if checksum is None:
        yield from pieces
        return
    algorithm, wanted = checksum
    if algorithm not in _KNOWN:
        raise _fault(found, into, f"has a checksum of the kind {quoted(algorithm)}")
    digest = hashlib.new(algorithm, usedforsecurity=False)
    for piece in pieces:
        digest.update(piece)
        yield piece
    if digest.digest() != wanted:
        raise _fault(found, into, f"its {algorithm} checksum does not hold")


def _is_stapled(file: IO[bytes], size: int, what: str) -> bool:
    if size < _TRAILER_SIZE:
        return False
    raw = b"".join(file_part(file, what, size - _TRAILER_SIZE, _TRAILER_SIZE))
    return raw.startswith(_TRAILER_MAGIC)


def _fault(found: XarFile, into: UnpackedFolder, why: str) -> UnreadableFile:
    return UnreadableFile(into.what, f"{quoted(found.path)}: {why}")
