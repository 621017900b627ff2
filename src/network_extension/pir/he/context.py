"""What is computed once for a parameter set: transform tables over all primes that its arithmetic needs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from network_extension.pir.he.ntt import NttTables, ntt_tables
from network_extension.pir.he.parameters import EncryptionParameters

EXTENSION_MODULI = (268460033, 268582913, 268640257)
"""The first primes above 2^28 with roots of unity of order 8192: room for products of ciphertexts
(`multiplication`).
"""


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """A parameter set with its tables. Get it with `Context.of`; it is shared and never changes."""

    parameters: EncryptionParameters
    tables: NttTables
    """For the ciphertext moduli, the key-switch modulus, and then `EXTENSION_MODULI`."""

    @property
    def degree(self) -> int:
        """N: coefficients of a polynomial."""
        return self.parameters.degree

    @property
    def level(self) -> int:
        """L: ciphertext moduli, and so rows of a polynomial in a fresh ciphertext."""
        return len(self.parameters.moduli) - 1

    @staticmethod
    def of(parameters: EncryptionParameters) -> Context:
        """The context of `parameters`: made at the first call (15 ms), then the same."""
        return _context(parameters)


@cache
def _context(parameters: EncryptionParameters) -> Context:
    return Context(parameters, ntt_tables(parameters.moduli + EXTENSION_MODULI, parameters.degree))
