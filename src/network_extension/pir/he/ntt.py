"""The negacyclic number-theoretic transform: products of polynomials modulo X^N + 1 become products of values.

The transform (specification §2.2) evaluates a polynomial at the odd powers of psi, the smallest primitive 2N-th root of
unity. In *Coeff* form a row holds coefficients 0 … N-1; in *Eval* form it holds values. Wire formats keep Eval rows in
the order in which the in-place Cooley-Tukey network leaves them, bit-reversed ("wire order").

Memory order. The last stages of the network pair neighbours, which no vector unit likes. So N = n1 * n2 values are seen
as a matrix of n1 rows: the first stages pair whole rows, then the matrix is transposed, and the last stages pair whole
rows again, each column with its own factor. The result stays transposed: Eval rows in memory are always in this order,
value j1 * n2 + j2 of the wire at place j2 * n1 + j1. All that is done to them is done value by value, so the order
matters only where wire formats are read or written: `from_wire_order`, `to_wire_order`.

Ranges. Inputs may lie below 2 q; each stage adds at most 2 q; with six stages before and after the reduction that the
transposition does on the way, 14 q fit a word (`modular`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from network_extension.pir.he.compiled import compiled, inlined
from network_extension.pir.he.modular import Words, below, reduce, shoup_companion, shoup_companions, times
from network_extension.pir.he.roots import powers, smallest_root


class NttTables(NamedTuple):
    """Constants of transforms, one row for each modulus. A tuple of arrays, because kernels take it as it is.

    The column factors are for stages before the transposition (one for a block), the row factors for stages after it
    (one for a block and a column). Shoup companions stand beside their factors.
    """

    moduli: Words
    reciprocals: Words
    """floor(2^32 / q)."""
    radixes: Words
    """2^32 mod q, for `reduce_sum`."""
    radix_companions: Words
    negative_inverses: Words
    """-1/q mod 2^32, for `redc`."""
    columns: Words
    """(moduli, n1): powers of psi."""
    column_companions: Words
    rows: Words
    """(moduli, n2, n1)."""
    row_companions: Words
    inverse_columns: Words
    """Powers of 1/psi; places 0 and 1 hold 1/N and its product with the last stage's power."""
    inverse_column_companions: Words
    inverse_rows: Words
    inverse_row_companions: Words


def ntt_tables(moduli: tuple[int, ...], degree: int) -> NttTables:
    """Tables for polynomials of `degree` coefficients (a power of two, at least 4) modulo each of the primes.

    `ParameterError`: a prime has no 2N-th root of unity.
    """
    forward = [_factors(smallest_root(q, 2 * degree), q, degree) for q in moduli]
    inverse = [_factors(pow(smallest_root(q, 2 * degree), -1, q), q, degree) for q in moduli]
    for (columns, column_companions, _, _), q in zip(inverse, moduli, strict=True):
        scale = pow(degree, -1, q)
        for place, factor in ((0, scale), (1, scale * int(columns[1]) % q)):
            columns[place], column_companions[place] = factor, shoup_companion(factor, q)
    return NttTables(
        np.array(moduli, np.uint32),
        np.array([(1 << 32) // q for q in moduli], np.uint32),
        np.array([(1 << 32) % q for q in moduli], np.uint32),
        np.array([shoup_companion((1 << 32) % q, q) for q in moduli], np.uint32),
        np.array([pow(-q, -1, 1 << 32) for q in moduli], np.uint32),
        *(np.stack(arrays) for arrays in zip(*forward, strict=True)),
        *(np.stack(arrays) for arrays in zip(*inverse, strict=True)),
    )


def _factors(root: int, modulus: int, degree: int) -> tuple[Words, Words, Words, Words]:
    """Column factors (n1) and row factors (n2, n1) of the network with `root`, each with companions."""
    height, width = matrix_shape(degree)
    table = np.array(powers(root, degree, modulus), np.uint32)
    rows = np.zeros((width, height), np.uint32)
    blocks = 1
    while blocks < width:
        # The network's factor for row j1's block b of `blocks` in it stands at place height*blocks + j1*blocks + b.
        rows[blocks : 2 * blocks] = table[height * blocks : 2 * height * blocks].reshape(height, blocks).T
        blocks *= 2
    columns = table[:height].copy()
    return columns, shoup_companions(columns, modulus), rows, shoup_companions(rows, modulus)


def matrix_shape(degree: int) -> tuple[int, int]:
    """(n1, n2): the matrix that `degree` values are seen as; n1 >= n2."""
    width = 1 << ((degree.bit_length() - 1) // 2)
    return degree // width, width


def from_wire_order(values: Words) -> Words:
    """Eval rows in memory order; the last axis of `values` is in wire order."""
    height, width = matrix_shape(values.shape[-1])
    matrix = values.reshape(*values.shape[:-1], height, width)
    return np.ascontiguousarray(matrix.swapaxes(-1, -2)).reshape(values.shape)


def to_wire_order(values: Words) -> Words:
    """Eval rows in wire order; the last axis of `values` is in memory order."""
    height, width = matrix_shape(values.shape[-1])
    matrix = values.reshape(*values.shape[:-1], width, height)
    return np.ascontiguousarray(matrix.swapaxes(-1, -2)).reshape(values.shape)


@inlined
def _butterflies(low: Words, high: Words, factor: np.uint32, companion: np.uint32, modulus: np.uint32) -> None:
    """One block of a stage with one factor: (x, y) becomes (x + w y, x - w y)."""
    twice = np.uint32(modulus + modulus)
    for k in range(low.size):
        product = times(high[k], factor, companion, modulus)
        value = low[k]
        low[k] = value + product
        high[k] = value + twice - product


@inlined
def _column_butterflies(low: Words, high: Words, factors: Words, companions: Words, modulus: np.uint32) -> None:
    """As `_butterflies`, with a factor for each column."""
    twice = np.uint32(modulus + modulus)
    for k in range(low.size):
        product = times(high[k], factors[k], companions[k], modulus)
        value = low[k]
        low[k] = value + product
        high[k] = value + twice - product


@inlined
def _transpose_reduced(
    source: Words, target: Words, height: int, width: int, reciprocal: np.uint32, modulus: np.uint32
) -> None:
    """Matrix (height, width) `source` to its transpose in `target`, each value brought below 2 q."""
    for j2 in range(width):
        place = target[j2 * height : (j2 + 1) * height]
        for j1 in range(height):
            place[j1] = reduce(source[j1 * width + j2], reciprocal, modulus)


@compiled
def forward(source: Words, scratch: Words, target: Words, row: int, tables: NttTables) -> None:
    """Coeff `source` (N, below 2 q) to Eval `target` (N, below 14 q, in memory order), modulo prime number `row`.

    `scratch` is as long as they are and may be `source`, which is then lost; `target` is another array.
    """
    modulus, reciprocal = tables.moduli[row], tables.reciprocals[row]
    columns, companions = tables.columns[row], tables.column_companions[row]
    width, height = tables.rows.shape[1], tables.rows.shape[2]
    scratch[:] = source
    blocks, half = 1, source.size // 2
    while blocks < height:
        for block in range(blocks):
            start = 2 * block * half
            _butterflies(
                scratch[start : start + half],
                scratch[start + half : start + 2 * half],
                columns[blocks + block],
                companions[blocks + block],
                modulus,
            )
        blocks, half = 2 * blocks, half // 2
    _transpose_reduced(scratch, target, height, width, reciprocal, modulus)
    blocks, half = 1, width // 2
    while blocks < width:
        for block in range(blocks):
            factors, factor_companions = tables.rows[row, blocks + block], tables.row_companions[row, blocks + block]
            for pair in range(half):
                low = (2 * block * half + pair) * height
                high = low + half * height
                _column_butterflies(
                    target[low : low + height], target[high : high + height], factors, factor_companions, modulus
                )
        blocks, half = 2 * blocks, half // 2


@compiled
def normalise(values: Words, row: int, tables: NttTables) -> None:
    """Each of `values` (any words) into [0, q), modulo prime number `row`."""
    modulus, reciprocal = tables.moduli[row], tables.reciprocals[row]
    for k in range(values.size):
        values[k] = below(reduce(values[k], reciprocal, modulus), modulus)


@inlined
def _inverse_butterflies(low: Words, high: Words, factor: np.uint32, companion: np.uint32, modulus: np.uint32) -> None:
    """One block of an inverse stage with one factor: (x, y) becomes (x + y, (x - y) w), all below 2 q."""
    twice = np.uint32(modulus + modulus)
    for k in range(low.size):
        first, second = low[k], high[k]
        low[k] = below(np.uint32(first + second), twice)
        high[k] = times(np.uint32(first + twice - second), factor, companion, modulus)


@inlined
def _inverse_column_butterflies(low: Words, high: Words, factors: Words, companions: Words, modulus: np.uint32) -> None:
    """As `_inverse_butterflies`, with a factor for each column."""
    twice = np.uint32(modulus + modulus)
    for k in range(low.size):
        first, second = low[k], high[k]
        low[k] = below(np.uint32(first + second), twice)
        high[k] = times(np.uint32(first + twice - second), factors[k], companions[k], modulus)


@compiled
def inverse(values: Words, target: Words, row: int, tables: NttTables) -> None:
    """Eval `values` (N, below 2 q, in memory order; lost) to Coeff `target` (N, in [0, q)), modulo prime `row`."""
    modulus = tables.moduli[row]
    columns, companions = tables.inverse_columns[row], tables.inverse_column_companions[row]
    width, height = tables.rows.shape[1], tables.rows.shape[2]
    blocks, half = width // 2, 1
    while blocks:
        for block in range(blocks):
            factors = tables.inverse_rows[row, blocks + block]
            factor_companions = tables.inverse_row_companions[row, blocks + block]
            for pair in range(half):
                low = (2 * block * half + pair) * height
                high = low + half * height
                _inverse_column_butterflies(
                    values[low : low + height], values[high : high + height], factors, factor_companions, modulus
                )
        blocks, half = blocks // 2, 2 * half
    for j1 in range(height):
        place = target[j1 * width : (j1 + 1) * width]
        for j2 in range(width):
            place[j2] = values[j2 * height + j1]
    blocks, half = height // 2, width
    while blocks > 1:
        for block in range(blocks):
            start = 2 * block * half
            _inverse_butterflies(
                target[start : start + half],
                target[start + half : start + 2 * half],
                columns[blocks + block],
                companions[blocks + block],
                modulus,
            )
        blocks, half = blocks // 2, 2 * half
    _last_inverse_stage(target[:half], target[half:], columns[:2], companions[:2], modulus)


@inlined
def _last_inverse_stage(low: Words, high: Words, factors: Words, companions: Words, modulus: np.uint32) -> None:
    """The stage over the whole polynomial, with the division by N folded into its two factors."""
    twice = np.uint32(modulus + modulus)
    for k in range(low.size):
        first, second = low[k], high[k]
        low[k] = below(times(np.uint32(first + second), factors[0], companions[0], modulus), modulus)
        high[k] = below(times(np.uint32(first + twice - second), factors[1], companions[1], modulus), modulus)


@compiled
def forward_rows(values: Words, first_row: int, tables: NttTables) -> None:
    """In place: Coeff polynomials (count, rows, N) to Eval form in [0, q); row i is modulo prime `first_row` + i."""
    scratch = np.empty(values.shape[2], np.uint32)
    for index in range(values.shape[0]):
        for row in range(values.shape[1]):
            target = values[index, row]
            scratch[:] = target
            forward(scratch, scratch, target, first_row + row, tables)
            normalise(target, first_row + row, tables)


@compiled
def inverse_rows(values: Words, first_row: int, tables: NttTables) -> None:
    """In place: Eval polynomials (count, rows, N) to Coeff form in [0, q); row i is modulo prime `first_row` + i."""
    scratch = np.empty(values.shape[2], np.uint32)
    for index in range(values.shape[0]):
        for row in range(values.shape[1]):
            target = values[index, row]
            scratch[:] = target
            inverse(scratch, target, first_row + row, tables)
