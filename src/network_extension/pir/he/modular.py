"""Arithmetic modulo primes below 2^29.01 in 32-bit words: the innermost kernels.

Everything is *lazy*: a value stands for its residue, but may lie above the modulus q by a stated factor, and is brought
into [0, q) only where it is stored for others or packed. With q < 2^28.01 a word holds 15 q, so most additions need no
correction.

- `times` is Shoup's product: the factor w is known beforehand, with its companion floor(w * 2^32 / q). One high product
  estimates the quotient, and the remainder is off by less than one q whatever the other factor is.
- `redc` is Montgomery's reduction, for sums of products: it divides by 2^32, so one factor of each product is stored
  times 2^32 (`montgomery_form`).

Shoup's companion: V. Shoup's NTL; lazy ranges: D. Harvey, "Faster arithmetic for number-theoretic transforms" (2014).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from network_extension.pir.he.compiled import inlined

Words = npt.NDArray[np.uint32]
"""Coefficients: rows of polynomials, one row a modulus."""
Sums = npt.NDArray[np.uint64]
"""Sums of products of coefficients, not yet reduced."""

_WORD = np.uint64(32)


@inlined
def times(value: np.uint32, factor: np.uint32, companion: np.uint32, modulus: np.uint32) -> np.uint32:
    """`value * factor` below 2 q, for any 32-bit `value` and a `factor` below q with its Shoup companion."""
    quotient = np.uint32((np.uint64(value) * np.uint64(companion)) >> _WORD)
    return np.uint32(np.uint32(value * factor) - np.uint32(quotient * modulus))


@inlined
def reduce(value: np.uint32, reciprocal: np.uint32, modulus: np.uint32) -> np.uint32:
    """`value` below 2 q, for any 32-bit `value`; `reciprocal` is floor(2^32 / q)."""
    quotient = np.uint32((np.uint64(value) * np.uint64(reciprocal)) >> _WORD)
    return np.uint32(value - np.uint32(quotient * modulus))


@inlined
def below(value: np.uint32, bound: np.uint32) -> np.uint32:
    """`value` below `bound`, for a value below twice the bound: the difference wraps when it is not wanted."""
    lower = np.uint32(value - bound)
    return lower if lower < value else value


@inlined
def redc(value: np.uint64, modulus: np.uint32, negative_inverse: np.uint32) -> np.uint32:
    """`value / 2^32` below `value / 2^32 + q`, for `value` below 2^63; `negative_inverse` is -1/q mod 2^32."""
    multiple = np.uint32(np.uint32(value) * negative_inverse)
    return np.uint32((value + np.uint64(multiple) * np.uint64(modulus)) >> _WORD)


@inlined
def reduce_sum(
    value: np.uint64, radix: np.uint32, radix_companion: np.uint32, reciprocal: np.uint32, modulus: np.uint32
) -> np.uint32:
    """`value` below 2 q, for any 64-bit value; `radix` is 2^32 mod q, with its Shoup companion."""
    high = times(np.uint32(value >> _WORD), radix, radix_companion, modulus)
    low = reduce(np.uint32(value), reciprocal, modulus)
    return below(np.uint32(high + low), np.uint32(modulus + modulus))


def shoup_companions(factors: Words, modulus: int) -> Words:
    """floor(w * 2^32 / q) for each factor w below q = `modulus`, which is below 2^31."""
    return ((factors.astype(np.uint64) << _WORD) // np.uint64(modulus)).astype(np.uint32)


def shoup_companion(factor: int, modulus: int) -> int:
    """floor(factor * 2^32 / modulus), for one factor below the modulus."""
    return (factor << 32) // modulus


def montgomery_form(values: Words, modulus: int) -> Words:
    """Each value times 2^32 modulo `modulus`, so that `redc` of a product with it gives the plain product."""
    return ((values.astype(np.uint64) << _WORD) % np.uint64(modulus)).astype(np.uint32)


def from_montgomery_form(values: Words, modulus: int) -> Words:
    """The inverse of `montgomery_form`."""
    inverse = np.uint64(pow(1 << 32, -1, modulus))
    return (values.astype(np.uint64) * inverse % np.uint64(modulus)).astype(np.uint32)
