"""Key switching: a polynomial that belongs to one secret becomes a ciphertext part that belongs to another (§2.4).

The polynomial is split into digits, one for each ciphertext modulus. Each digit is multiplied with its part of the key
over all moduli, where the key-switch modulus p makes room, and the sum is divided by p, which shrinks the key's noise.
All supported parameter sets have two ciphertext moduli, so sums have two products.
"""

from __future__ import annotations

import numpy as np

from network_extension.pir.he.compiled import compiled
from network_extension.pir.he.modular import Words, below, redc
from network_extension.pir.he.ntt import NttTables, forward, inverse
from network_extension.pir.he.rounding import RoundingTables, divide_and_round


@compiled
def switch_key(source: Words, factors: Words, target: Words, rounding: RoundingTables, tables: NttTables) -> None:
    """`source` (L, N, Coeff in [0, q)) by the key `factors` (L, 2, L+1, N) to `target` (2, L, N, Coeff in [0, q)).

    `rounding` is for division by the key-switch modulus. A digit modulo one prime is taken as it is modulo another:
    transforms bear values up to twice their modulus.
    """
    level, degree = source.shape
    digits = np.empty((level, degree), np.uint32)
    scratch = np.empty(degree, np.uint32)
    sums = np.empty((2, level + 1, degree), np.uint32)
    for row in range(level + 1):
        for digit in range(level):
            forward(source[digit], scratch, digits[digit], row, tables)
        for poly in range(2):
            _product_sums(digits[0], factors[0, poly, row], digits[1], factors[1, poly, row], scratch, row, tables)
            inverse(scratch, sums[poly, row], row, tables)
    for poly in range(2):
        divide_and_round(sums[poly], target[poly], rounding, tables)


@compiled
def _product_sums(
    first: Words, first_factors: Words, second: Words, second_factors: Words, target: Words, row: int, tables: NttTables
) -> None:
    """first * first_factors + second * second_factors below 2 q; the factors are in Montgomery form.

    With digits below 14 q the sum is below 28 q^2, and `redc` leaves less than 2.75 q.
    """
    modulus, negative_inverse = tables.moduli[row], tables.negative_inverses[row]
    twice = np.uint32(modulus + modulus)
    for k in range(target.size):
        total = np.uint64(first[k]) * np.uint64(first_factors[k]) + np.uint64(second[k]) * np.uint64(second_factors[k])
        target[k] = below(redc(total, modulus, negative_inverse), twice)
