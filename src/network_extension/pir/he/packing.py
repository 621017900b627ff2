"""Rows of coefficients as bits, most significant bit first, and back (specification §2.5).

A coefficient modulo q takes ceil(log2 q) bits, less its `skip` low bits that are left out. A row is padded to whole
bytes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from network_extension.pir.he.compiled import compiled
from network_extension.pir.he.modular import Words

Bytes = npt.NDArray[np.uint8]

_PADDING = 8
"""Bytes that kernels may touch past the data."""


def coefficient_bits(modulus: int, skip: int = 0) -> int:
    """Bits of a packed coefficient modulo `modulus`."""
    return (modulus - 1).bit_length() - skip


def packed_size(count: int, bits: int) -> int:
    """Bytes of a row of `count` coefficients of `bits` bits."""
    return (count * bits + 7) // 8


def pack(values: Words, bits: int, skip: int = 0) -> bytes:
    """One row of `values`, each without its `skip` low bits, in `bits` bits (1 to 32) each."""
    packed = np.zeros(packed_size(values.size, bits), np.uint8)
    _pack(np.ascontiguousarray(values), bits, skip, packed)
    return packed.tobytes()


def unpack(data: bytes | memoryview, count: int, bits: int, skip: int = 0) -> Words:
    """The inverse of `pack`: `count` values from exactly `packed_size(count, bits)` bytes, low bits restored as 0."""
    padded = np.zeros(len(data) + _PADDING, np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    values = np.empty(count, np.uint32)
    unpack_row(padded, bits, skip, values)
    return values


@compiled
def _pack(values: Words, bits: int, skip: int, packed: Bytes) -> None:
    shift, width = np.uint64(skip), np.uint64(bits)
    held, pending, place = np.uint64(0), 0, 0
    for k in range(values.size):
        held = (held << width) | (np.uint64(values[k]) >> shift)
        pending += bits
        while pending >= 8:
            pending -= 8
            packed[place] = np.uint8((held >> np.uint64(pending)) & np.uint64(255))
            place += 1
    if pending:
        packed[place] = np.uint8((held << np.uint64(8 - pending)) & np.uint64(255))


@compiled
def unpack_row(packed: Bytes, bits: int, skip: int, values: Words) -> None:
    """`packed` (with 8 bytes to spare at its end) to `values`, in order. Reads 8 bytes for each value."""
    mask = np.uint64((1 << bits) - 1)
    shift = np.uint64(skip)
    for k in range(values.size):
        start = k * bits
        at = packed[start >> 3 : (start >> 3) + 8]
        window = np.uint64(0)
        for byte in range(8):
            window = (window << np.uint64(8)) | np.uint64(at[byte])
        values[k] = np.uint32(((window >> np.uint64(64 - bits - (start & 7))) & mask) << shift)
