"""Secret keys, and the evaluation keys that let a server compute without them (specification §2.4).

A *key-switch key* for s' encrypts, for each ciphertext modulus q_i, the secret s' times the key-switch modulus on the
row of q_i alone. Galois keys switch s(X^g) back to s after a substitution; the relinearisation key switches s^2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from network_extension.pir.errors import ParameterError
from network_extension.pir.he.context import Context
from network_extension.pir.he.drbg import SEED_SIZE, uniform_polynomial
from network_extension.pir.he.galois import substituted
from network_extension.pir.he.modular import Words, montgomery_form
from network_extension.pir.he.ntt import forward_rows, from_wire_order, inverse_rows
from network_extension.pir.he.sampling import RandomBytes, error_polynomial, signed_rows, ternary_polynomial


@dataclass(frozen=True, slots=True, eq=False)
class SecretKey:
    """A ternary polynomial s over all moduli, key-switch modulus included. Never leaves the client."""

    values: Words = field(repr=False)
    """(L+1, N), Eval in memory order."""


@dataclass(frozen=True, slots=True, eq=False)
class KeySwitchKey:
    """What switches ciphertext parts from one secret to another."""

    factors: Words = field(repr=False)
    """(L, 2, L+1, N): for each ciphertext modulus the two polynomials over all moduli, Eval in memory order, times 2^32
    (`modular.montgomery_form`)."""
    seeds: tuple[bytes, ...] = field(repr=False)
    """What the second polynomials come from, for the wire."""


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationKey:
    """A client's keys for a server. They tell nothing of the secret key, and stay the same for many queries."""

    galois: Mapping[int, KeySwitchKey]
    """By Galois element."""
    relinearisation: KeySwitchKey | None

    def relinearisation_factors(self) -> Words:
        """The relinearisation key's `factors`. `ParameterError`: the client sent none."""
        if self.relinearisation is None:
            raise ParameterError("evaluation key: without relinearisation key; make the key for this database")
        return self.relinearisation.factors


def generate_secret_key(context: Context, random: RandomBytes) -> SecretKey:
    """A new secret key from `random`."""
    return SecretKey(_values(context, ternary_polynomial(context.degree, random)))


def generate_evaluation_key(
    context: Context, secret: SecretKey, galois_elements: Iterable[int], has_relin: bool, random: RandomBytes
) -> EvaluationKey:
    """Keys of `secret` for the substitutions `galois_elements`, and for relinearisation where `has_relin`.

    `ParameterError`: an element is even or not in 3 … 2N-1.
    """
    coefficients = _secret_coefficients(context, secret)
    galois = {}
    for element in galois_elements:
        check_galois_element(context, element)
        source = _values(context, substituted(coefficients, element))
        galois[element] = _key_switch_key(context, secret, source, random)
    relinearisation = None
    if has_relin:
        square = _product(context, secret.values, secret.values)
        relinearisation = _key_switch_key(context, secret, square, random)
    return EvaluationKey(galois, relinearisation)


def check_galois_element(context: Context, element: int) -> None:
    """`ParameterError`: `element` names no substitution but the trivial one."""
    if not (2 < element < 2 * context.degree and element % 2):
        raise ParameterError(f"Galois element {element} is not an odd number between 3 and {2 * context.degree - 1}")


def _key_switch_key(context: Context, secret: SecretKey, source: Words, random: RandomBytes) -> KeySwitchKey:
    """From secret `source` (L+1, N, Eval) to `secret`."""
    moduli = context.parameters.moduli
    level = context.level
    factors = np.empty((level, 2, level + 1, context.degree), np.uint32)
    seeds = []
    for digit in range(level):
        seeds.append(random(SEED_SIZE))
        uniform = from_wire_order(uniform_polynomial(seeds[-1], moduli, context.degree))
        masked = _product(context, uniform, secret.values).astype(np.uint64)
        masked += _values(context, error_polynomial(context.degree, random))
        for row, modulus in enumerate(moduli):
            first = np.uint64(2 * modulus) - masked[row]
            if row == digit:
                first += source[row].astype(np.uint64) * np.uint64(moduli[-1] % modulus)
            factors[digit, 0, row] = montgomery_form((first % np.uint64(modulus)).astype(np.uint32), modulus)
            factors[digit, 1, row] = montgomery_form(uniform[row], modulus)
    return KeySwitchKey(factors, tuple(seeds))


def _values(context: Context, coefficients: npt.NDArray[np.int32]) -> Words:
    """(L+1, N) Eval of a small signed polynomial."""
    rows = np.empty((context.level + 1, context.degree), np.uint32)
    signed_rows(coefficients, context.tables.moduli[: context.level + 1], rows)
    forward_rows(rows[None], 0, context.tables)
    return rows


def _secret_coefficients(context: Context, secret: SecretKey) -> npt.NDArray[np.int32]:
    """The secret's coefficients, -1, 0 or 1 each."""
    row = secret.values[:1].copy()
    inverse_rows(row[None], 0, context.tables)
    modulus = context.parameters.moduli[0]
    signed = row[0].astype(np.int64)
    coefficients: npt.NDArray[np.int32] = np.where(signed > modulus // 2, signed - modulus, signed).astype(np.int32)
    return coefficients


def _product(context: Context, first: Words, second: Words) -> Words:
    """Products value by value of two polynomials over the same moduli."""
    moduli = context.tables.moduli[: first.shape[0], None].astype(np.uint64)
    return (first.astype(np.uint64) * second % moduli).astype(np.uint32)
