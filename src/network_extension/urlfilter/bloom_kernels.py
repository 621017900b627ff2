"""The prefilter's inner loops over buffers of many strings, compiled.

A batch of strings is one buffer of bytes (uint8) with the place where each begins and ends (int64, both of the same
length). Hash pairs are uint32 of shape (strings, 2). All kernels run without the GIL. The arithmetic is in 64 bits with
a mask, because numba widens what two 32-bit numbers give.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..pir.he.compiled import compiled

Bytes = NDArray[np.uint8]
Offsets = NDArray[np.int64]
HashPairs = NDArray[np.uint32]

_MASK = np.uint64(0xFFFFFFFF)
_FNV_OFFSET, _FNV_PRIME = np.uint64(0x811C9DC5), np.uint64(0x01000193)
_C1, _C2 = np.uint64(0xCC9E2D51), np.uint64(0x1B873593)
_MIX_1, _MIX_2, _ADDED = np.uint64(0x85EBCA6B), np.uint64(0xC2B2AE35), np.uint64(0xE6546B64)
_NEWLINE = 10


@compiled
def line_bounds(buffer: Bytes) -> tuple[Offsets, Offsets]:
    """Where each line begins and ends (without its newline). The last may lack the newline; empty ones are left out."""
    count, previous = 0, -1
    for at in range(buffer.size):
        if buffer[at] == _NEWLINE:
            count += at > previous + 1
            previous = at
    count += buffer.size > previous + 1
    starts, ends = np.empty(count, np.int64), np.empty(count, np.int64)
    found, previous = 0, -1
    for at in range(buffer.size + 1):
        if at == buffer.size or buffer[at] == _NEWLINE:
            if at > previous + 1:
                starts[found], ends[found] = previous + 1, at
                found += 1
            previous = at
    return starts, ends


@compiled
def hash_strings(buffer: Bytes, starts: Offsets, ends: Offsets, murmur_seed: int, is_fnv_1a: bool) -> HashPairs:
    """Both hashes of every string of a batch (`bloom_hashes.hash_pair`)."""
    pairs = np.empty((starts.size, 2), np.uint32)
    for row in range(starts.size):
        first = _FNV_OFFSET
        if is_fnv_1a:
            for at in range(starts[row], ends[row]):
                first = ((first ^ np.uint64(buffer[at])) * _FNV_PRIME) & _MASK
        else:
            for at in range(starts[row], ends[row]):
                first = ((first * _FNV_PRIME) & _MASK) ^ np.uint64(buffer[at])
        pairs[row, 0] = first
        pairs[row, 1] = _murmur_3(buffer, starts[row], ends[row], np.uint64(murmur_seed))
    return pairs


@compiled
def _murmur_3(buffer: Bytes, start: int, end: int, seed: np.uint64) -> np.uint64:
    value, word, places = seed, np.uint64(0), np.uint64(0)
    for at in range(start, end):
        word |= np.uint64(buffer[at]) << places
        places += np.uint64(8)
        if places == np.uint64(32):
            value = (_rotated(value ^ _scrambled(word), 13) * np.uint64(5) + _ADDED) & _MASK
            word, places = np.uint64(0), np.uint64(0)
    if places:
        value ^= _scrambled(word)
    value ^= np.uint64(end - start) & _MASK
    value = ((value ^ (value >> np.uint64(16))) * _MIX_1) & _MASK
    value = ((value ^ (value >> np.uint64(13))) * _MIX_2) & _MASK
    return value ^ (value >> np.uint64(16))


@compiled
def _scrambled(word: np.uint64) -> np.uint64:
    return (_rotated((word * _C1) & _MASK, 15) * _C2) & _MASK


@compiled
def _rotated(value: np.uint64, places: int) -> np.uint64:
    return ((value << np.uint64(places)) | (value >> np.uint64(32 - places))) & _MASK


@compiled
def set_bits(pairs: HashPairs, hash_count: int, bit_count: int, data: Bytes) -> None:
    """Put every hashed string into the bit field `data`, in place; the lowest bit of a byte is its first."""
    bits = np.uint64(bit_count)
    for row in range(pairs.shape[0]):
        index, step = np.uint64(pairs[row, 0]), np.uint64(pairs[row, 1])
        for _ in range(hash_count):
            bit = index % bits
            data[bit >> np.uint64(3)] |= np.uint8(1 << (bit & np.uint64(7)))
            index = (index + step) & _MASK


@compiled
def count_members(pairs: HashPairs, hash_count: int, bit_count: int, data: Bytes, high_bit_first: bool) -> int:
    """How many of the hashed strings have all their bits set. `high_bit_first` reads bytes the wrong way round, as some
    tools write them.
    """
    bits, members = np.uint64(bit_count), 0
    for row in range(pairs.shape[0]):
        index, step = np.uint64(pairs[row, 0]), np.uint64(pairs[row, 1])
        is_member = True
        for _ in range(hash_count):
            bit = index % bits
            place = np.uint64(7) - (bit & np.uint64(7)) if high_bit_first else bit & np.uint64(7)
            if not (np.uint64(data[bit >> np.uint64(3)]) >> place) & np.uint64(1):
                is_member = False
                break
            index = (index + step) & _MASK
        members += is_member
    return members
