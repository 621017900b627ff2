"""Division by one of the moduli, with rounding: how ciphertexts lose a modulus, and most of their noise with it (§2.4).

With x the centred number behind the rows and p the modulus that goes, round(x / p) modulo each modulus that stays is
(x + h - ((x + h) mod p)) / p for h = floor(p / 2).
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from network_extension.pir.he.compiled import compiled
from network_extension.pir.he.modular import Words, below, reduce, shoup_companion, times
from network_extension.pir.he.ntt import NttTables
from network_extension.pir.he.parameters import EncryptionParameters


class RoundingTables(NamedTuple):
    """Constants of a division: one entry for each modulus that stays."""

    divisor: np.uint32
    half: np.uint32
    halves: Words
    """half mod q."""
    inverses: Words
    """1/divisor mod q, and its Shoup companion."""
    inverse_companions: Words


@cache
def rounding_tables(parameters: EncryptionParameters, last_row: int) -> RoundingTables:
    """For dividing by modulus number `last_row`; the moduli before it stay."""
    divisor = parameters.moduli[last_row]
    staying = parameters.moduli[:last_row]
    inverses = [pow(divisor, -1, q) for q in staying]
    return RoundingTables(
        np.uint32(divisor),
        np.uint32(divisor // 2),
        np.array([divisor // 2 % q for q in staying], np.uint32),
        np.array(inverses, np.uint32),
        np.array([shoup_companion(inverse, q) for inverse, q in zip(inverses, staying, strict=True)], np.uint32),
    )


@compiled
def divide_and_round(source: Words, target: Words, rounding: RoundingTables, tables: NttTables) -> None:
    """`source` (rows + 1, N, Coeff in [0, q); the last row is the divisor's) to `target` (rows, N, in [0, q))."""
    last = source[target.shape[0]]
    divisor, half = rounding.divisor, rounding.half
    for row in range(target.shape[0]):
        modulus, reciprocal = tables.moduli[row], tables.reciprocals[row]
        inverse, companion = rounding.inverses[row], rounding.inverse_companions[row]
        offset = np.uint32(rounding.halves[row] + modulus + modulus)
        values, place = source[row], target[row]
        for k in range(values.size):
            remainder = reduce(below(np.uint32(last[k] + half), divisor), reciprocal, modulus)
            difference = np.uint32(values[k] + offset - remainder)
            place[k] = below(times(difference, inverse, companion, modulus), modulus)
