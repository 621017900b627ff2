"""A shard's plaintexts as the server multiplies them, in a file beside the `.bin`: mapped, not read.

Unpacking takes a second for a million rows and memory for each process that does it. A mapped file takes neither, and
all processes share its pages. It is made when a shard is opened for the first time, and made again when the `.bin` has
changed: by size and time of modification, or by its digest where only these differ (a copy, a hard link).

    4,096 bytes: magic, size and time of the .bin, its SHA-256, number of plaintexts      then uint32 (n, L, N)
"""

from __future__ import annotations

import hashlib
import struct
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .errors import DatabaseError
from .he.context import Context
from .plaintext_file import Plaintexts, check_count, read_plaintexts
from .replacing import replacing

SUFFIX = ".native"
_MAGIC = b"netext PIR 1 " + sys.byteorder.encode().ljust(7)
_HEAD = struct.Struct("<20sQq32sQ")
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
    digest: bytes


def _source(path: Path) -> _Source:
    try:
        status = path.stat()
        return _Source(status.st_size, status.st_mtime_ns, _digest(path))
    except OSError as error:
        raise DatabaseError(f"{path}: {error.strerror}; name a processed database") from error


def _write(path: Path, plaintexts: Plaintexts, source: _Source) -> None:
    with replacing(path.with_name(path.name + SUFFIX)) as file:
        head = _HEAD.pack(_MAGIC, *source, plaintexts.shape[0])
        file.write(head.ljust(_DATA, b"\0"))
        file.write(np.ascontiguousarray(plaintexts).data)


def _map(native: Path, path: Path, shape: tuple[int, int, int]) -> Plaintexts | None:
    """The mapped file if it is of the `.bin` as it is now."""
    try:
        with native.open("rb") as file:
            head = file.read(_HEAD.size)
        size = native.stat().st_size
        status = path.stat()
        if len(head) < _HEAD.size or size != _DATA + 4 * shape[0] * shape[1] * shape[2]:
            return None
        magic, bin_size, modified, digest, count = _HEAD.unpack(head)
        if magic != _MAGIC or count != shape[0] or bin_size != status.st_size:
            return None
        if modified != status.st_mtime_ns and digest != _digest(path):
            return None
        return np.memmap(native, np.uint32, "r", _DATA, shape)
    except OSError:
        return None


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


__all__ = ["SUFFIX", "open_plaintexts", "write_native"]
