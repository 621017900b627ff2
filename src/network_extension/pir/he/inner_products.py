"""The first dimension: for each column of a database, the sum of its plaintexts times the query's ciphertexts.

This reads the whole database once, and is bound by memory. A plaintext is read in tiles of one page of memory; the
query's tiles for all rows stay in the processor's cache while all columns pass by.
"""

from __future__ import annotations

import numpy as np

from network_extension.pir.he.compiled import compiled, inlined
from network_extension.pir.he.modular import Sums, Words, reduce_sum
from network_extension.pir.he.ntt import NttTables

_TILE = 1024
"""Coefficients: 4 kB, the stretch that hardware prefetches in one go."""
_ROWS_UNREDUCED = 128
"""2^56 for a product, 64 bits for a sum."""


@compiled
def column_sums(plaintexts: Words, query: Words, target: Words, tables: NttTables) -> None:
    """`target` (columns, 2, L, N, Eval below 2 q): for each column of `plaintexts` (columns, rows, L, N) the sum over
    rows of plaintext times ciphertext of `query` (rows, 2, L, N); both Eval in [0, q).
    """
    degree = query.shape[3]
    tile = min(_TILE, degree)
    first, second = np.empty(tile, np.uint64), np.empty(tile, np.uint64)
    for row in range(query.shape[2]):
        for start in range(0, degree, tile):
            for column in range(plaintexts.shape[0]):
                first[:] = np.uint64(0)
                second[:] = np.uint64(0)
                for index in range(query.shape[0]):
                    _add_products(
                        plaintexts[column, index, row, start : start + tile],
                        query[index, 0, row, start : start + tile],
                        query[index, 1, row, start : start + tile],
                        first,
                        second,
                    )
                    if index % _ROWS_UNREDUCED == _ROWS_UNREDUCED - 1:
                        _reduce(first, row, tables)
                        _reduce(second, row, tables)
                _reduce(first, row, tables)
                _reduce(second, row, tables)
                target[column, 0, row, start : start + tile] = first
                target[column, 1, row, start : start + tile] = second


@inlined
def _add_products(plaintext: Words, first_query: Words, second_query: Words, first: Sums, second: Sums) -> None:
    for k in range(first.size):
        value = np.uint64(plaintext[k])
        first[k] += value * np.uint64(first_query[k])
        second[k] += value * np.uint64(second_query[k])


@compiled
def _reduce(sums: Sums, row: int, tables: NttTables) -> None:
    modulus, reciprocal = tables.moduli[row], tables.reciprocals[row]
    radix, radix_companion = tables.radixes[row], tables.radix_companions[row]
    for k in range(sums.size):
        sums[k] = np.uint64(reduce_sum(sums[k], radix, radix_companion, reciprocal, modulus))
