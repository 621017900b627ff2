"""Encryption, decryption, and how much noise a ciphertext can still take (specification §2.4).

A ciphertext (c0, c1) of the plaintext m under the secret s has c0 + c1 s = Delta m + noise modulo Q, with
Delta = floor(Q / t). It decrypts as long as the noise stays below Delta / 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from network_extension.pir.errors import ParameterError
from network_extension.pir.he.context import Context
from network_extension.pir.he.drbg import SEED_SIZE, uniform_polynomial
from network_extension.pir.he.keys import SecretKey
from network_extension.pir.he.modular import Words
from network_extension.pir.he.ntt import forward_rows, from_wire_order, inverse_rows
from network_extension.pir.he.sampling import RandomBytes, error_polynomial, signed_rows

Coefficients = npt.NDArray[np.uint32]
"""(N,) plaintext coefficients in [0, t)."""


@dataclass(frozen=True, slots=True, eq=False)
class Ciphertext:
    """Two polynomials in Coeff form, modulo the first `polys.shape[1]` ciphertext moduli."""

    polys: Words = field(repr=False)
    """(2, rows, N)."""
    seed: bytes | None = None
    """What the second polynomial comes from, in a fresh ciphertext: the wire carries it instead."""


def encrypt(context: Context, plaintext: Coefficients, secret: SecretKey, random: RandomBytes) -> Ciphertext:
    """A fresh ciphertext of `plaintext`, with a seed for its second polynomial.

    `ParameterError`: not N coefficients, or one that is not below t.
    """
    parameters, level = context.parameters, context.level
    if plaintext.shape != (context.degree,) or int(plaintext.max()) >= parameters.plaintext_modulus:
        raise ParameterError(
            f"plaintext: {context.degree} coefficients below {parameters.plaintext_modulus} are wanted"
        )
    seed = random(SEED_SIZE)
    polys = np.empty((2, level, context.degree), np.uint32)
    polys[1] = seeded_values(context, seed, level)
    moduli = context.tables.moduli[:level, None].astype(np.uint64)
    polys[0] = polys[1].astype(np.uint64) * secret.values[:level] % moduli
    inverse_rows(polys, 0, context.tables)
    noise = np.empty((level, context.degree), np.uint32)
    signed_rows(error_polynomial(context.degree, random), context.tables.moduli[:level], noise)
    polys[0] = (_scaled(context, plaintext) + np.uint64(2) * moduli - polys[0] - noise) % moduli
    return Ciphertext(polys, seed)


def seeded_values(context: Context, seed: bytes, rows: int) -> Words:
    """(rows, N) Eval in memory order: the uniformly random polynomial that `seed` stands for."""
    return from_wire_order(uniform_polynomial(seed, context.parameters.moduli[:rows], context.degree))


def _scaled(context: Context, plaintext: Coefficients) -> npt.NDArray[np.uint64]:
    """(L, N): round(Q m / t), as floor(Q/t) m + floor(((Q mod t) m + floor((t+1)/2)) / t)."""
    t = context.parameters.plaintext_modulus
    product = math.prod(context.parameters.ciphertext_moduli)
    message = plaintext.astype(np.uint64)
    correction = (message * np.uint64(product % t) + np.uint64((t + 1) // 2)) // np.uint64(t)
    rows = [message * np.uint64(product // t % q) + correction for q in context.parameters.ciphertext_moduli]
    return np.stack(rows)


def decrypt(context: Context, ciphertext: Ciphertext, secret: SecretKey) -> Coefficients:
    """The plaintext's N coefficients, in [0, t). Whether the noise was small enough nobody can tell from them."""
    t = context.parameters.plaintext_modulus
    phase = _phase(context, ciphertext, secret)
    rows = phase.shape[0]
    modulus = math.prod(context.parameters.ciphertext_moduli[:rows])
    if rows == 1:  # what responses are
        scaled = (phase[0].astype(np.uint64) * np.uint64(t) + np.uint64(modulus // 2)) // np.uint64(modulus)
        return np.array(scaled % np.uint64(t), np.uint32)
    composed = [(value * t + modulus // 2) // modulus % t for value in _composed(context, phase)]
    return np.array(composed, np.uint32)


def noise_budget(context: Context, ciphertext: Ciphertext, secret: SecretKey) -> float:
    """Bits by which the noise may still grow before decryption fails; 0 or less: it already may.

    log2(q / (2 max |t (c0 + c1 s) mod q|)), centred. Only the holder of the secret can know it, and must not tell the
    server: that would give the secret away, query by query.
    """
    phase = _phase(context, ciphertext, secret)
    modulus = math.prod(context.parameters.ciphertext_moduli[: phase.shape[0]])
    t = context.parameters.plaintext_modulus
    residues = (value * t % modulus for value in _composed(context, phase))
    largest = max(min(residue, modulus - residue) for residue in residues)
    return math.log2(modulus) - math.log2(max(largest, 1)) - 1


def _phase(context: Context, ciphertext: Ciphertext, secret: SecretKey) -> Words:
    """(rows, N) Coeff of c0 + c1 s."""
    first, second = ciphertext.polys
    rows = first.shape[0]
    moduli = context.tables.moduli[:rows, None].astype(np.uint64)
    product = second.copy()
    forward_rows(product[None], 0, context.tables)
    product[:] = product.astype(np.uint64) * secret.values[:rows] % moduli
    inverse_rows(product[None], 0, context.tables)
    return np.array((product.astype(np.uint64) + first) % moduli, np.uint32)


def _composed(context: Context, rows: Words) -> list[int]:
    """The N numbers in [0, q) whose residues `rows` are, by the Chinese remainder theorem."""
    moduli = context.parameters.ciphertext_moduli[: rows.shape[0]]
    product = math.prod(moduli)
    weights = [product // q * pow(product // q, -1, q) for q in moduli]
    return [
        sum(weight * value for weight, value in zip(weights, column, strict=True)) % product
        for column in rows.T.tolist()
    ]
