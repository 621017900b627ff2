"""A shard's plaintexts as the server multiplies them, in a file beside the `.bin`: mapped, not read.

Unpacking takes a second for a million rows and memory for each process that does it. A mapped file takes neither, and
all processes share its pages. It is made when a shard is opened for the first time, and made again when the `.bin` has
changed: by size, time of modification and inode, or by its digest where only the last two differ (a copy). A checksum
of its own data is compared at each opening, 0.1 s for a million rows: a flipped bit would be a row that no lookup
finds.

    4,096 bytes: magic; size, time, inode and SHA-256 of the .bin; number of plaintexts; CRC-32 of what follows
    then uint32 (n, L, N)
"""

from __future__ import annotations

import hashlib
import struct
import sys
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .errors import DatabaseError
from .he.context import Context
from .plaintext_file import Plaintexts, check_count, read_plaintexts
from .replacing import replacing

SUFFIX = ".native"
_MAGIC = b"netext PIR 2 " + sys.byteorder.encode().ljust(7)
_HEAD = struct.Struct("<20sQqQ32sQI")
_DATA = 4096


def open_plaintexts(path: Path, context: Context, count: int) -> Plaintexts:
    """The `count` plaintexts of the `.bin` at `path`, mapped where the folder can be written, else in memory.

    `DatabaseError`: the `.bin` is damaged, or not of this size.
    """
    native = path.with_name(path.name + SUFFIX)
    shape = count, context.level, context.degree
    mapped = _map(native, path, shape)
    if mapped is not None:
        return mapped
    check_count(path, count)  # before there is room made for them
    source = _source(path)
    plaintexts = np.zeros(shape, np.uint32)
    read_plaintexts(path, context, count, plaintexts)
    if _source(path) != source:
        raise DatabaseError(f"{path}: changed while it was read; open it again when it is whole")
    try:
        _write(path, plaintexts, source)
    except DatabaseError:  # a folder of somebody else's: this process keeps its own copy
        return plaintexts
    mapped = _map(native, path, shape)
    return plaintexts if mapped is None else mapped


def write_native(path: Path, plaintexts: Plaintexts) -> None:
    """Write the file beside the `.bin` at `path`, which is there already and has these plaintexts.

    `DatabaseError`: the disk.
    """
    _write(path, plaintexts, _source(path))


class _Source(NamedTuple):
    """Which `.bin` it was made from."""

    size: int
    modified: int
    inode: int
    digest: bytes


def _source(path: Path) -> _Source:
    try:
        status = path.stat()
        return _Source(status.st_size, status.st_mtime_ns, status.st_ino, _digest(path))
    except OSError as error:
        raise DatabaseError(f"{path}: {error.strerror}; name a processed database") from error


def _write(path: Path, plaintexts: Plaintexts, source: _Source) -> None:
    with replacing(path.with_name(path.name + SUFFIX)) as file:
        data = np.ascontiguousarray(plaintexts).data
        head = _HEAD.pack(_MAGIC, *source, plaintexts.shape[0], zlib.crc32(data))
        file.write(head.ljust(_DATA, b"\0"))
        file.write(data)


def _map(native: Path, path: Path, shape: tuple[int, int, int]) -> Plaintexts | None:
    """The mapped file if it is whole, and of the `.bin` as it is now."""
    try:
        with native.open("rb") as file:
            head = file.read(_HEAD.size)
        size = native.stat().st_size
        status = path.stat()
        if len(head) < _HEAD.size or size != _DATA + 4 * shape[0] * shape[1] * shape[2]:
            return None
        magic, bin_size, modified, inode, digest, count, checksum = _HEAD.unpack(head)
        if magic != _MAGIC or count != shape[0] or bin_size != status.st_size:
            return None
        if (modified, inode) != (status.st_mtime_ns, status.st_ino) and digest != _digest(path):
            return None
        mapped = np.memmap(native, np.uint32, "r", _DATA, shape)
        return mapped if zlib.crc32(mapped.data) == checksum else None
    except OSError:
        return None


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


__all__ = ["SUFFIX", "open_plaintexts", "write_native"]
