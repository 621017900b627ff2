"""Plaintexts: bytes as coefficients, coefficients as polynomials in Eval form, and those as bytes of a file (§2.5)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from network_extension.pir.errors import ParameterError, SerializationError
from network_extension.pir.he.compiled import compiled
from network_extension.pir.he.context import Context
from network_extension.pir.he.modular import Words
from network_extension.pir.he.ntt import NttTables, forward_rows, matrix_shape
from network_extension.pir.he.packing import Bytes, coefficient_bits, packed_size, unpack_row
from network_extension.pir.he.packing import pack as pack_row


def encode_plaintexts(context: Context, data: Bytes) -> Words:
    """(n, L, N) Eval in memory order, from `data` (n, bytes_per_plaintext).

    `ParameterError`: rows of another size.
    """
    parameters = context.parameters
    if data.ndim != 2 or data.shape[1] != parameters.bytes_per_plaintext:
        raise ParameterError(f"plaintexts: rows of {parameters.bytes_per_plaintext} bytes are wanted, not {data.shape}")
    values = np.empty((data.shape[0], context.level, context.degree), np.uint32)
    moduli = context.tables.moduli[: context.level]
    _encode(np.ascontiguousarray(data), parameters.bits_per_coefficient, parameters.plaintext_modulus, moduli, values)
    forward_rows(values, 0, context.tables)
    return values


@compiled
def _encode(data: Bytes, bits: int, plaintext_modulus: int, moduli: Words, values: Words) -> None:
    """Coefficients of `bits` bits, most significant first, as centred residues: what is above t/2 stands for itself
    less t.
    """
    half = np.uint64(plaintext_modulus // 2)
    mask = np.uint64((1 << bits) - 1)
    for index in range(data.shape[0]):
        held, pending, place = np.uint64(0), 0, 0
        for k in range(values.shape[2]):
            while pending < bits:
                held = (held << np.uint64(8)) | np.uint64(data[index, place])
                pending += 8
                place += 1
            pending -= bits
            value = (held >> np.uint64(pending)) & mask
            for row in range(moduli.size):
                residue = value + np.uint64(moduli[row]) - np.uint64(plaintext_modulus) if value > half else value
                values[index, row, k] = np.uint32(residue)


def decode_coefficients(context: Context, coefficients: npt.NDArray[np.uint32]) -> bytes:
    """The bytes_per_plaintext bytes that a decrypted plaintext (N,) holds.

    `SerializationError`: a coefficient that no byte encodes to; the noise was too large, or the answer is false.
    """
    bits = context.parameters.bits_per_coefficient
    if int(coefficients.max()) >> bits:
        raise SerializationError("answer: it decrypts to no bytes; its noise was too large, or it is of another key")
    return pack_row(coefficients, bits)


def packed_plaintext_size(context: Context) -> int:
    """Bytes of a packed plaintext: 28,160."""
    return sum(packed_size(context.degree, coefficient_bits(q)) for q in context.parameters.ciphertext_moduli)


def pack_plaintexts(context: Context, values: Words) -> Bytes:
    """(n, packed size) wire bytes of `values` (n, L, N), Eval in memory order."""
    packed = np.zeros((values.shape[0], packed_plaintext_size(context)), np.uint8)
    height, width = matrix_shape(context.degree)
    _pack_plaintexts(np.ascontiguousarray(values), _bit_counts(context), height, width, packed)
    return packed


def unpack_plaintexts(context: Context, packed: Bytes, target: Words) -> None:
    """The inverse of `pack_plaintexts`: `packed` (n, packed size; may be strided) to `target` (n, L, N).

    `SerializationError`: rows of another size, or a value that is not below its modulus.
    """
    if packed.ndim != 2 or packed.shape[1] != packed_plaintext_size(context):
        raise SerializationError("database: its plaintexts have another size; was it processed for other parameters?")
    if not _unpack_plaintexts(packed, _bit_counts(context), target, context.tables):
        raise SerializationError("database: a value is not below its modulus; the file is damaged, process it again")


def _bit_counts(context: Context) -> npt.NDArray[np.int64]:
    return np.array([coefficient_bits(q) for q in context.parameters.ciphertext_moduli], np.int64)


@compiled
def _pack_plaintexts(values: Words, bit_counts: npt.NDArray[np.int64], height: int, width: int, packed: Bytes) -> None:
    for index in range(values.shape[0]):
        place = 0
        for row in range(values.shape[1]):
            bits = bit_counts[row]
            held, pending = np.uint64(0), 0
            for j1 in range(height):
                for j2 in range(width):
                    held = (held << np.uint64(bits)) | np.uint64(values[index, row, j2 * height + j1])
                    pending += bits
                    while pending >= 8:
                        pending -= 8
                        packed[index, place] = np.uint8((held >> np.uint64(pending)) & np.uint64(255))
                        place += 1


@compiled
def _unpack_plaintexts(packed: Bytes, bit_counts: npt.NDArray[np.int64], target: Words, tables: NttTables) -> bool:
    """False where a value is not below its modulus."""
    height, width = tables.rows.shape[2], tables.rows.shape[1]
    degree = target.shape[2]
    row_bytes = np.empty(degree * 4 + 8, np.uint8)
    wire = np.empty(degree, np.uint32)
    good = True
    for index in range(packed.shape[0]):
        start = 0
        for row in range(target.shape[1]):
            size = degree * bit_counts[row] // 8
            row_bytes[:size] = packed[index, start : start + size]
            unpack_row(row_bytes, bit_counts[row], 0, wire)
            start += size
            largest = np.uint32(0)
            for k in range(degree):
                largest = max(largest, wire[k])
            good = good and largest < tables.moduli[row]
            for j2 in range(width):
                for j1 in range(height):
                    target[index, row, j2 * height + j1] = wire[j1 * width + j2]
    return good
