"""The two hash functions of the prefilter, one string at a time.

They are FNV-1a and MurmurHash3 (x86, 32 bits), both public domain; specification §3.1. `bloom_kernels` has the same
for millions of strings. FNV-1, which multiplies before it xors, is what Apple's sample made filters with while iOS 26
was in beta, and what several tools make to this day: a released system finds nothing in such a filter that was put in.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

_MASK = 0xFFFFFFFF
FNV_OFFSET = 0x811C9DC5
FNV_PRIME = 0x01000193


class BloomHash(StrEnum):
    """The first of the two hash functions that a filter was made with. The second is always MurmurHash3."""

    FNV_1A = "FNV-1a"
    """What released systems test with: xor, then multiply."""
    FNV_1 = "FNV-1"
    """What betas tested with: multiply, then xor. Read here, never written."""


def fnv_1a(data: bytes) -> int:
    """FNV-1a of 32 bits."""
    value = FNV_OFFSET
    for byte in data:
        value = ((value ^ byte) * FNV_PRIME) & _MASK
    return value


def fnv_1(data: bytes) -> int:
    """FNV-1 of 32 bits, of beta systems."""
    value = FNV_OFFSET
    for byte in data:
        value = ((value * FNV_PRIME) & _MASK) ^ byte
    return value


def murmur_3(data: bytes, seed: int) -> int:
    """MurmurHash3_x86_32 of `data`; `seed` has 32 bits."""
    value = seed
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        value ^= _scrambled(int.from_bytes(data[at : at + 4], "little"))
        value = (_rotated(value, 13) * 5 + 0xE6546B64) & _MASK
    if whole < len(data):
        value ^= _scrambled(int.from_bytes(data[whole:], "little"))
    value ^= len(data)
    value = ((value ^ (value >> 16)) * 0x85EBCA6B) & _MASK
    value = ((value ^ (value >> 13)) * 0xC2B2AE35) & _MASK
    return value ^ (value >> 16)


def _scrambled(word: int) -> int:
    return (_rotated((word * 0xCC9E2D51) & _MASK, 15) * 0x1B873593) & _MASK


def _rotated(value: int, places: int) -> int:
    return ((value << places) | (value >> (32 - places))) & _MASK


def hash_pair(data: bytes, murmur_seed: int, kind: BloomHash = BloomHash.FNV_1A) -> tuple[int, int]:
    """Both hashes of a string: where its bits begin, and how far they lie apart."""
    first = fnv_1a(data) if kind is BloomHash.FNV_1A else fnv_1(data)
    return first, murmur_3(data, murmur_seed)


def bit_indices(first: int, second: int, hash_count: int, bit_count: int) -> Iterator[int]:
    """The bits of a string: `first + i * second`, wrapped at 2^32 before it is taken modulo `bit_count`."""
    for _ in range(hash_count):
        yield first % bit_count
        first = (first + second) & _MASK
