"""A bucket of a cuckoo table as bytes (§2.6): a count, then for each entry its hash, its value's length, its value."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from .cuckoo import Placement
from .errors import SerializationError
from .he.compiled import compiled

LONGEST_VALUE = 0xFFFF
_ENTRY = struct.Struct("<QH")


def read_bucket(data: bytes) -> dict[int, bytes]:
    """The values of a bucket by their keywords' hashes. Bytes behind the last entry are padding.

    `SerializationError`: an entry ends behind the bucket.
    """
    found, position = dict[int, bytes](), 1
    for _ in range(data[0] if data else 0):
        if position + _ENTRY.size > len(data):
            raise SerializationError("hash bucket: an entry ends behind it; the answer is not of this database")
        hashed, size = _ENTRY.unpack_from(data, position)
        position += _ENTRY.size
        if position + size > len(data):
            raise SerializationError("hash bucket: a value ends behind it; the answer is not of this database")
        found.setdefault(hashed, data[position : position + size])
        position += size
    return found


def write_buckets(
    placement: Placement,
    hashes: npt.NDArray[np.uint64],
    values: npt.NDArray[np.uint8],
    value_ends: npt.NDArray[np.int64],
    entry_size: int,
) -> npt.NDArray[np.uint8]:
    """All buckets as bytes, (buckets, entry_size), padded with zeros.

    `values` holds the values one behind the other, the i-th ends at `value_ends[i]`. `ValueError`: a bucket is larger
    than `entry_size`.
    """
    if int(placement.sizes.max(initial=0)) > entry_size:
        raise ValueError(f"a bucket of {placement.sizes.max()} bytes does not fit into {entry_size}")
    buckets = np.zeros((placement.counts.shape[0], entry_size), np.uint8)
    _write_all(placement.slots, placement.counts, hashes, values, value_ends, buckets)
    return buckets


@compiled
def _write_all(
    slots: npt.NDArray[np.int32],
    counts: npt.NDArray[np.int32],
    hashes: npt.NDArray[np.uint64],
    values: npt.NDArray[np.uint8],
    value_ends: npt.NDArray[np.int64],
    buckets: npt.NDArray[np.uint8],
) -> None:
    for bucket in range(counts.shape[0]):
        out = buckets[bucket]
        out[0] = counts[bucket]
        at = 1
        for slot in range(counts[bucket]):
            entry = slots[bucket, slot]
            name = hashes[entry]
            for byte in range(8):
                out[at + byte] = (name >> np.uint64(8 * byte)) & np.uint64(0xFF)
            begin = value_ends[entry - 1] if entry else 0
            size = value_ends[entry] - begin
            out[at + 8] = size & 0xFF
            out[at + 9] = size >> 8
            at += 10
            for byte in range(size):
                out[at + byte] = values[begin + byte]
            at += size


__all__ = ["LONGEST_VALUE", "read_bucket", "write_buckets"]
