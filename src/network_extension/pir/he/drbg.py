"""Random polynomials from a seed: NIST's CTR_DRBG with AES-128, as both sides of a seeded ciphertext run it.

A fresh ciphertext's second polynomial is uniformly random, so its 32-byte seed is sent instead (specification §2.3).
The generator is that of SP 800-90A 10.2.1 without derivation function, without personalisation, never reseeded. Its
output is taken in requests of 4,096 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from network_extension.pir.errors import SerializationError
from network_extension.pir.he.compiled import compiled
from network_extension.pir.he.modular import Words, below, reduce, shoup_companion, times

SEED_SIZE = 32
_REQUEST_SIZE = 4096
_BLOCK_SIZE = 16
_ZEROS = bytes(_REQUEST_SIZE + SEED_SIZE)


class NistCtrDrbg:
    """The generator for one seed of 32 bytes. Its output is public, so AES need not hide anything here."""

    __slots__ = ("_counter", "_key")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_SIZE:
            raise SerializationError(f"seed of a ciphertext has {len(seed)} bytes instead of {SEED_SIZE}")
        first = _counter_stream(bytes(16), bytes(_BLOCK_SIZE), SEED_SIZE)
        self._set_state((int.from_bytes(first, "big") ^ int.from_bytes(seed, "big")).to_bytes(SEED_SIZE, "big"))

    def _set_state(self, state: bytes) -> None:
        self._key, self._counter = state[:16], state[16:]

    def blocks(self, count: int) -> bytes:
        """The output of `count` requests of 4,096 bytes each."""
        output = []
        for _ in range(count):
            # The state's update is the two blocks that follow a request's output, because no input is added.
            stream = _counter_stream(self._key, self._counter, _REQUEST_SIZE + SEED_SIZE)
            output.append(stream[:_REQUEST_SIZE])
            self._set_state(stream[_REQUEST_SIZE:])
        return b"".join(output)


def _counter_stream(key: bytes, counter: bytes, size: int) -> bytes:
    """`size` bytes of AES over counter + 1, counter + 2, …"""
    first = (int.from_bytes(counter, "big") + 1) % (1 << 128)
    encryptor = Cipher(algorithms.AES128(key), modes.CTR(first.to_bytes(_BLOCK_SIZE, "big"))).encryptor()
    return encryptor.update(_ZEROS[:size])


def uniform_polynomial(seed: bytes, moduli: Sequence[int], degree: int) -> Words:
    """(moduli, degree) uniformly random values: row after row, 128 bits little-endian modulo q for each (§2.3).

    They are values of a polynomial in Eval form, in wire order. `SerializationError`: the seed is not of 32 bytes.
    """
    size = len(moduli) * degree * _BLOCK_SIZE
    stream = NistCtrDrbg(seed).blocks(-(-size // _REQUEST_SIZE))
    limbs = np.frombuffer(stream, "<u4")[: size // 4].astype(np.uint32, copy=False)
    result = np.empty((len(moduli), degree), np.uint32)
    for row, modulus in enumerate(moduli):
        radixes = [(1 << 32 * limb) % modulus for limb in range(4)]
        _reduce_wide(
            limbs[row * degree * 4 : (row + 1) * degree * 4],
            np.array(radixes, np.uint32),
            np.array([shoup_companion(radix, modulus) for radix in radixes], np.uint32),
            np.uint32(modulus),
            np.uint32((1 << 32) // modulus),
            result[row],
        )
    return result


@compiled
def _reduce_wide(
    limbs: npt.NDArray[np.uint32],
    radixes: Words,
    companions: Words,
    modulus: np.uint32,
    reciprocal: np.uint32,
    target: Words,
) -> None:
    """Numbers of four 32-bit limbs each, the low one first, modulo `modulus`; `radixes` are 2^(32 i) modulo it."""
    for k in range(target.size):
        total = np.uint32(0)
        for limb in range(4):
            total = np.uint32(total + times(limbs[4 * k + limb], radixes[limb], companions[limb], modulus))
        target[k] = below(reduce(total, reciprocal, modulus), modulus)
