"""pbzx: how Apple's pkgbuild and Software Update compress a payload, in chunks of xz.

    "pbzx", size of a full chunk (8 bytes), then for each chunk
    size when expanded (8 bytes), size here (8 bytes), an xz stream, or the bytes themselves where both sizes are one

Big-endian. Apple documents none of it; all readers that there are agree.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ..errors import UnreadableFile
from .byte_stream import ByteStream
from .compression import Compression, decompressed
from .limits import Budget

__all__ = ["MAGIC", "expanded_pbzx"]

MAGIC = b"pbzx"
_CHUNK = struct.Struct(">QQ")
_MAX_CHUNK = 1 << 30
"""Bytes. Apple's have 16 MiB."""


def expanded_pbzx(stream: ByteStream, budget: Budget) -> Iterator[bytes]:
    """What a pbzx holds, in pieces. `stream` is read to its end.

    Raises UnreadableFile: another format, cut off, a chunk that expands to more or less than it says, or more than the
    budget.
    """
    if stream.take(len(MAGIC)) != MAGIC:
        raise UnreadableFile(stream.what, "is no pbzx")
    full = int.from_bytes(stream.take(8), "big")
    if not 0 < full <= _MAX_CHUNK:
        raise UnreadableFile(stream.what, f"chunks of {full} bytes")
    while not stream.at_end():
        size, length = _CHUNK.unpack(stream.take(_CHUNK.size))
        if not 0 < size <= full or not length:
            raise UnreadableFile(stream.what, f"a chunk of {length} bytes that is to become {size} of {full}")
        yield from _chunk(stream, size, length, budget)


def _chunk(stream: ByteStream, size: int, length: int, budget: Budget) -> Iterator[bytes]:
    if length == size:
        for piece in stream.pieces(length):
            budget.expand(len(piece), stream.what)
            yield piece
        return
    found = 0
    for piece in decompressed(stream.pieces(length), Compression.XZ, stream.what, budget):
        found += len(piece)
        if found > size:
            break
        yield piece
    if found != size:
        raise UnreadableFile(stream.what, f"a chunk becomes {found} bytes or more, and says {size}")
