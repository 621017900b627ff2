"""The processed database of a shard in Apple's format, `NAME-SHARD.bin` (§2.5).

A byte 1 for the version, the number of plaintexts (u32, little-endian), then for each plaintext a byte: 0, and it is
nil, all zeros; or 1, and its packed coefficients follow. The file has no checksum: a flipped bit is found only where it
makes a coefficient too large, so what builds databases keeps its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import DatabaseError, SerializationError
from .he.context import Context
from .he.plaintext import pack_plaintexts, packed_plaintext_size, unpack_plaintexts
from .replacing import replacing

VERSION = 1
NIL, PRESENT = 0, 1
_HEAD = struct.Struct("<BI")
_BLOCK = 256
"""Plaintexts that are packed at a time: 7 MB."""

Plaintexts = npt.NDArray[np.uint32]
"""(n, L, N), in Eval form and memory order; nil is zeros."""


def write_plaintexts(path: Path, context: Context, plaintexts: Plaintexts) -> None:
    """Write all plaintexts of a shard. `DatabaseError`: the disk; what was there before stays."""
    with replacing(path) as file:
        file.write(_HEAD.pack(VERSION, plaintexts.shape[0]))
        for start in range(0, plaintexts.shape[0], _BLOCK):
            block = np.ascontiguousarray(plaintexts[start : start + _BLOCK])
            packed = pack_plaintexts(context, block)
            records = np.empty((block.shape[0], packed.shape[1] + 1), np.uint8)
            records[:, 0], records[:, 1:] = PRESENT, packed
            present = np.logical_or.reduce(block, axis=(1, 2))
            if bool(present.all()):
                file.write(records.data)
                continue
            for record, is_there in zip(records, present.tolist(), strict=True):
                file.write(record.data if is_there else bytes((NIL,)))


def check_count(path: Path, count: int) -> None:
    """Raise `DatabaseError` unless the file may hold `count` plaintexts. Looks at its beginning and size only."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD.size)
        size = path.stat().st_size
    except OSError as error:
        raise DatabaseError(f"{path}: {error.strerror}; name a processed database") from error
    _check_head(path, head, size, count)
    if size < _HEAD.size + count:
        raise DatabaseError(f"{path}: ends before plaintext {size - _HEAD.size} of {count}; it was cut off")


def read_plaintexts(path: Path, context: Context, count: int, target: Plaintexts) -> None:
    """Read the `count` plaintexts of a shard into `target`, (count, L, N) of zeros.

    `DatabaseError`: another number of them, cut off, something behind them, or a value that cannot be.
    """
    size = packed_plaintext_size(context)
    try:
        data = np.fromfile(path, np.uint8)  # not mapped: Apple's tool writes over files that are in use
    except OSError as error:
        raise DatabaseError(f"{path}: {error.strerror}; name a processed database") from error
    _check_head(path, data[: _HEAD.size].tobytes(), data.size, count)
    try:
        for first, last, at in _runs(path, data, count, size):
            records = data[at : at + (last - first) * (size + 1)].reshape(last - first, size + 1)
            unpack_plaintexts(context, records[:, 1:], target[first:last])
    except SerializationError as error:
        raise DatabaseError(f"{path}: {error}") from error


def _check_head(path: Path, head: bytes, size: int, count: int) -> None:
    if len(head) < _HEAD.size:
        raise DatabaseError(f"{path}: {size} bytes are no database; process it again")
    version, found = _HEAD.unpack(head)
    if version != VERSION:
        raise DatabaseError(f"{path}: version {version} of the format is unknown; process it again")
    if found != count:
        raise DatabaseError(
            f"{path}: {found} plaintexts, and its parameters speak of {count}; they are not of one kind"
        )


def _runs(path: Path, data: npt.NDArray[np.uint8], count: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Plaintexts [first, last) that lie one behind the other from byte `at` on; nil ones lie between."""
    at, first, start = _HEAD.size, 0, _HEAD.size
    for index in range(count):
        if at >= data.size:
            raise DatabaseError(f"{path}: ends before plaintext {index} of {count}; it was cut off, process it again")
        tag = int(data[at])
        if tag == PRESENT:
            at += size + 1
        elif tag == NIL:
            if index > first:
                yield first, index, start
            at += 1
            first, start = index + 1, at
        else:
            raise DatabaseError(f"{path}: plaintext {index} begins with {tag}; the file is damaged, process it again")
    if at > data.size:
        raise DatabaseError(f"{path}: ends in the midst of a plaintext; it was cut off, process it again")
    if at < data.size:
        raise DatabaseError(f"{path}: {data.size - at} bytes behind the last plaintext; the file is damaged")
    if count > first:
        yield first, count, start


__all__ = ["Plaintexts", "read_plaintexts", "write_plaintexts"]
