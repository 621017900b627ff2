"""From the ciphertext moduli Q = q0 q1 to three more primes B = b0 b1 b2, and back divided by Q / t.

A product of two ciphertexts is one of integers, not of residues: it needs room for N Q^2. So both are lifted to the
smallest integers behind their residues, modulo the primes of B as well; products are summed modulo all five primes;
then round(t x / Q) is computed exactly modulo B, and brought back modulo Q. Both ways are Garner's mixed-radix
conversion, which is exact and needs words only: with two moduli x = x0 + q0 v for v = (x1 - x0) / q0 mod q1, and
whether x is in the upper half, and so stands for x - Q, shows in v alone.

Apple has BEHZ (eprint 2016/510) here, whose approximations add a little noise. The results differ in noise only, and
nothing of it is on the wire.

Room: a sum of C products is below C N Q^2 / 2, its scaled value below t C N Q / 2, and B must be twice that: with
t = 17 for C up to 2^15 whatever the operands are. With the largest t the bound holds for C up to 8; honest operands are
random and stay below it by 8 bits more, and others harm only their own answer.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from network_extension.pir.he.compiled import compiled
from network_extension.pir.he.context import EXTENSION_MODULI
from network_extension.pir.he.modular import Words, below, reduce, shoup_companion, times
from network_extension.pir.he.ntt import NttTables
from network_extension.pir.he.parameters import EncryptionParameters


class ExtensionTables(NamedTuple):
    """Factors, each with its Shoup companion behind it: arrays (…, 2)."""

    first_row: int
    """The row of b0 in the transform tables."""
    q0_inverse: Words
    """1/q0 mod q1."""
    q0: Words
    """q0 modulo each prime of B."""
    product: Words
    """Q modulo each prime of B; no companions."""
    plaintext_q: Words
    """t modulo q0 and q1."""
    plaintext_b: Words
    """t modulo each prime of B."""
    product_inverses: Words
    """1/Q modulo each prime of B."""
    b0_inverse1: Words
    """1/b0 mod b1."""
    b0_inverse2: Words
    """1/b0 mod b2."""
    b1_inverse2: Words
    """1/b1 mod b2."""
    b0: Words
    """b0 modulo q0 and q1."""
    b0_b1: Words
    """b0 b1 modulo q0 and q1."""
    extension: Words
    """B modulo q0 and q1; no companions."""


def _factor(value: int, modulus: int) -> list[int]:
    residue = value % modulus
    return [residue, shoup_companion(residue, modulus)]


@cache
def extension_tables(parameters: EncryptionParameters) -> ExtensionTables:
    """The constants for `parameters`, which have two ciphertext moduli."""
    q0, q1 = parameters.ciphertext_moduli
    b0, b1, b2 = EXTENSION_MODULI
    q, t = q0 * q1, parameters.plaintext_modulus

    def factors(value: int, moduli: tuple[int, ...]) -> Words:
        return np.array([_factor(value, modulus) for modulus in moduli], np.uint32)

    return ExtensionTables(
        len(parameters.moduli),
        np.array(_factor(pow(q0, -1, q1), q1), np.uint32),
        factors(q0, EXTENSION_MODULI),
        np.array([q % b for b in EXTENSION_MODULI], np.uint32),
        factors(t, (q0, q1)),
        factors(t, EXTENSION_MODULI),
        np.array([_factor(pow(q, -1, b), b) for b in EXTENSION_MODULI], np.uint32),
        np.array(_factor(pow(b0, -1, b1), b1), np.uint32),
        np.array(_factor(pow(b0, -1, b2), b2), np.uint32),
        np.array(_factor(pow(b1, -1, b2), b2), np.uint32),
        factors(b0, (q0, q1)),
        factors(b0 * b1, (q0, q1)),
        np.array([math.prod(EXTENSION_MODULI) % q_i for q_i in (q0, q1)], np.uint32),
    )


@compiled
def extend(source: Words, target: Words, extension: ExtensionTables, tables: NttTables) -> None:
    """`source` (2, N, Coeff in [0, q)) to `target` (3, N, Coeff below 2 b): the same centred integers modulo B."""
    low, high = source[0], source[1]
    q1 = tables.moduli[1]
    half = np.uint32(q1 >> np.uint32(1))
    inverse, inverse_companion = extension.q0_inverse[0], extension.q0_inverse[1]
    for index in range(target.shape[0]):
        modulus = tables.moduli[extension.first_row + index]
        reciprocal = tables.reciprocals[extension.first_row + index]
        q0, q0_companion = extension.q0[index, 0], extension.q0[index, 1]
        lowered = np.uint32(modulus - extension.product[index])
        place = target[index]
        for k in range(place.size):
            digit = below(times(np.uint32(high[k] + q1 - low[k]), inverse, inverse_companion, q1), q1)
            value = np.uint32(low[k] + times(digit, q0, q0_companion, modulus))
            place[k] = reduce(np.uint32(value + (lowered if digit > half else np.uint32(0))), reciprocal, modulus)


@compiled
def scale_and_round(
    residues: Words, extended: Words, target: Words, extension: ExtensionTables, tables: NttTables
) -> None:
    """round(t x / Q) modulo q0 and q1 in `target` (2, N), for the x that is `residues` (2, N) modulo Q and `extended`
    (3, N) modulo B; all Coeff in [0, q). `extended` is lost.

    With r = t x mod Q, centred, the quotient (t x - r) / Q is whole.
    """
    q0, q1 = tables.moduli[0], tables.moduli[1]
    half = np.uint32(q1 >> np.uint32(1))
    inverse, inverse_companion = extension.q0_inverse[0], extension.q0_inverse[1]
    t0, t0_companion = extension.plaintext_q[0, 0], extension.plaintext_q[0, 1]
    t1, t1_companion = extension.plaintext_q[1, 0], extension.plaintext_q[1, 1]
    low, high = residues[0], residues[1]
    for index in range(extended.shape[0]):
        modulus = tables.moduli[extension.first_row + index]
        reciprocal = tables.reciprocals[extension.first_row + index]
        q0_b, q0_companion = extension.q0[index, 0], extension.q0[index, 1]
        t, t_companion = extension.plaintext_b[index, 0], extension.plaintext_b[index, 1]
        quotient, quotient_companion = extension.product_inverses[index, 0], extension.product_inverses[index, 1]
        lowered = np.uint32(modulus - extension.product[index])
        offset = np.uint32(modulus + modulus)
        place = extended[index]
        for k in range(place.size):
            first = below(times(low[k], t0, t0_companion, q0), q0)
            second = below(times(high[k], t1, t1_companion, q1), q1)
            digit = below(times(np.uint32(second + q1 - first), inverse, inverse_companion, q1), q1)
            remainder = np.uint32(first + times(digit, q0_b, q0_companion, modulus))
            remainder = reduce(np.uint32(remainder + (lowered if digit > half else np.uint32(0))), reciprocal, modulus)
            difference = np.uint32(times(place[k], t, t_companion, modulus) + offset - remainder)
            place[k] = below(times(difference, quotient, quotient_companion, modulus), modulus)
    _return_to_base(extended, target, extension, tables)


@compiled
def _return_to_base(extended: Words, target: Words, extension: ExtensionTables, tables: NttTables) -> None:
    """The centred integers behind `extended` (3, N, in [0, b)), modulo q0 and q1: (2, N) in [0, q)."""
    row = extension.first_row
    b1, b2 = tables.moduli[row + 1], tables.moduli[row + 2]
    half, twice = np.uint32(b2 >> np.uint32(1)), np.uint32(b2 + b2)
    inverse01, companion01 = extension.b0_inverse1[0], extension.b0_inverse1[1]
    inverse02, companion02 = extension.b0_inverse2[0], extension.b0_inverse2[1]
    inverse12, companion12 = extension.b1_inverse2[0], extension.b1_inverse2[1]
    low, middle, high = extended[0], extended[1], extended[2]
    for index in range(target.shape[0]):
        modulus, reciprocal = tables.moduli[index], tables.reciprocals[index]
        b0, b0_companion = extension.b0[index, 0], extension.b0[index, 1]
        b0_b1, b0_b1_companion = extension.b0_b1[index, 0], extension.b0_b1[index, 1]
        lowered = np.uint32(modulus - extension.extension[index])
        place = target[index]
        for k in range(place.size):
            second = below(times(np.uint32(middle[k] + b1 - low[k]), inverse01, companion01, b1), b1)
            third = np.uint32(times(np.uint32(high[k] + b2 - low[k]), inverse02, companion02, b2) + twice - second)
            third = below(times(third, inverse12, companion12, b2), b2)
            value = np.uint32(low[k] + times(second, b0, b0_companion, modulus))
            value = np.uint32(value + times(third, b0_b1, b0_b1_companion, modulus))
            value = np.uint32(value + (lowered if third > half else np.uint32(0)))
            place[k] = below(reduce(value, reciprocal, modulus), modulus)
