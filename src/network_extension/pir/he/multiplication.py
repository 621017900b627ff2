"""Sums of products of ciphertexts: the second dimension of a database.

(a0, a1) times (b0, b1) is the ciphertext (a0 b0, a0 b1 + a1 b0, a1 b1) of three parts, times t / Q and rounded. The sum
over a database's columns is taken before the rounding, so that rounding, relinearisation and all that follows are done
once for an answer, not once for a column (`base_extension` says how).
"""

from __future__ import annotations

import numpy as np

from network_extension.pir.he.base_extension import ExtensionTables, extend, scale_and_round
from network_extension.pir.he.compiled import compiled
from network_extension.pir.he.key_switching import switch_key
from network_extension.pir.he.modular import Sums, Words, below, reduce_sum
from network_extension.pir.he.ntt import NttTables, forward, inverse, normalise
from network_extension.pir.he.rounding import RoundingTables, divide_and_round

_COLUMNS_UNREDUCED = 32
"""2 * 2^(2*28.01) for a column, 64 bits for a sum: 127 would still fit."""


@compiled
def add_products(columns: Words, selectors: Words, sums: Sums, extension: ExtensionTables, tables: NttTables) -> None:
    """Adds the products of `columns` (C, 2, L, N, Eval below 2 q) with `selectors` (C, 2, L, N, Coeff in [0, q)).

    `sums` (3, L+3, N): the three parts modulo Q's and B's primes, Eval, below 2^32 before and after. `columns` are
    lost.
    """
    count, _, level, degree = columns.shape
    total = level + 3
    first = np.empty((2, total, degree), np.uint32)
    second = np.empty((2, total, degree), np.uint32)
    coefficients = np.empty((level, degree), np.uint32)
    for column in range(count):
        for poly in range(2):
            for row in range(level):
                first[poly, row] = columns[column, poly, row]
                normalise(first[poly, row], row, tables)
                inverse(columns[column, poly, row], coefficients[row], row, tables)
            _extend_to_eval(coefficients, first[poly], extension, tables)
            for row in range(level):
                _to_eval(selectors[column, poly, row], second[poly, row], row, tables)
            _extend_to_eval(selectors[column, poly], second[poly], extension, tables)
        for row in range(total):
            _add_row_products(first[0, row], first[1, row], second[0, row], second[1, row], sums, row)
        if column % _COLUMNS_UNREDUCED == _COLUMNS_UNREDUCED - 1:
            reduce_sums(sums, extension, tables)
    reduce_sums(sums, extension, tables)


@compiled
def _extend_to_eval(coefficients: Words, values: Words, extension: ExtensionTables, tables: NttTables) -> None:
    """Rows L … L+3 of `values` (Eval, in [0, b)) from `coefficients` (L, N, Coeff)."""
    level = coefficients.shape[0]
    extended = np.empty((3, coefficients.shape[1]), np.uint32)
    extend(coefficients, extended, extension, tables)
    for index in range(3):
        _to_eval(extended[index], values[level + index], extension.first_row + index, tables)


@compiled
def _to_eval(source: Words, target: Words, row: int, tables: NttTables) -> None:
    scratch = np.empty(source.size, np.uint32)
    forward(source, scratch, target, row, tables)
    normalise(target, row, tables)


@compiled
def _add_row_products(a0: Words, a1: Words, b0: Words, b1: Words, sums: Sums, row: int) -> None:
    outer, cross, inner = sums[0, row], sums[1, row], sums[2, row]
    for k in range(a0.size):
        outer[k] += np.uint64(a0[k]) * np.uint64(b0[k])
    for k in range(a0.size):
        cross[k] += np.uint64(a0[k]) * np.uint64(b1[k]) + np.uint64(a1[k]) * np.uint64(b0[k])
    for k in range(a0.size):
        inner[k] += np.uint64(a1[k]) * np.uint64(b1[k])


@compiled
def reduce_sums(sums: Sums, extension: ExtensionTables, tables: NttTables) -> None:
    """Brings each of `sums` (3, L+3, N) below 2 q."""
    level = sums.shape[1] - 3
    for part in range(sums.shape[0]):
        for index in range(sums.shape[1]):
            row = index if index < level else extension.first_row + index - level
            modulus, reciprocal = tables.moduli[row], tables.reciprocals[row]
            radix, radix_companion = tables.radixes[row], tables.radix_companions[row]
            place = sums[part, index]
            for k in range(place.size):
                place[k] = np.uint64(reduce_sum(place[k], radix, radix_companion, reciprocal, modulus))


@compiled
def finish_products(
    sums: Sums,
    relinearisation: Words,
    target: Words,
    extension: ExtensionTables,
    key_rounding: RoundingTables,
    rounding: RoundingTables,
    tables: NttTables,
) -> None:
    """`sums` of `add_products`, below 2 q each, to `target` (2, L-1, N, Coeff): scaled, relinearised by the key's
    factors, divided by the last ciphertext modulus.
    """
    level, degree = sums.shape[1] - 3, sums.shape[2]
    residues = np.empty((level, degree), np.uint32)
    extended = np.empty((3, degree), np.uint32)
    scratch = np.empty(degree, np.uint32)
    parts = np.empty((3, level, degree), np.uint32)
    for part in range(3):
        for index in range(level + 3):
            scratch[:] = sums[part, index]
            if index < level:
                inverse(scratch, residues[index], index, tables)
            else:
                inverse(scratch, extended[index - level], extension.first_row + index - level, tables)
        scale_and_round(residues, extended, parts[part], extension, tables)
    update = np.empty((2, level, degree), np.uint32)
    switch_key(parts[2], relinearisation, update, key_rounding, tables)
    for poly in range(2):
        for row in range(level):
            modulus = tables.moduli[row]
            place, addend = update[poly, row], parts[poly, row]
            for k in range(degree):
                place[k] = below(np.uint32(place[k] + addend[k]), modulus)
        divide_and_round(update[poly], target[poly], rounding, tables)
