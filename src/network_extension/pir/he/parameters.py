"""The encryption parameters that are known to be good (specification §2.1).

A server tells its clients which parameters to use, and a client must not believe it: weak parameters would give its
queries away. So parameters are recognised, never taken as they come.
"""

from __future__ import annotations

from dataclasses import dataclass

from network_extension.pir.errors import ParameterError
from network_extension.pir.proto import he_pb2


@dataclass(frozen=True, slots=True)
class EncryptionParameters:
    """BFV's parameters: ring Z[X]/(X^degree + 1), plaintexts modulo `plaintext_modulus`, ciphertexts modulo the product
    of `ciphertext_moduli`; the last of `moduli` serves key switching only. Errors are centred binomial of standard
    deviation 3.2, secrets ternary; 128 bits of security against quantum computers.
    """

    name: str
    degree: int
    plaintext_modulus: int
    moduli: tuple[int, ...]

    @property
    def ciphertext_moduli(self) -> tuple[int, ...]:
        """What fresh ciphertexts are modulo of."""
        return self.moduli[:-1]

    @property
    def bits_per_coefficient(self) -> int:
        """Bits of data that one plaintext coefficient carries: floor(log2 t)."""
        return self.plaintext_modulus.bit_length() - 1

    @property
    def bytes_per_plaintext(self) -> int:
        """Bytes of data in one plaintext (§2.5)."""
        return self.degree * self.bits_per_coefficient // 8

    def message(self) -> he_pb2.EncryptionParameters:
        """The parameters as Apple writes them."""
        return he_pb2.EncryptionParameters(
            polynomial_degree=self.degree,
            plaintext_modulus=self.plaintext_modulus,
            coefficient_moduli=self.moduli,
            security_level=he_pb2.SECURITY_LEVEL_QUANTUM128,
            he_scheme=he_pb2.HE_SCHEME_BFV,
        )

    @classmethod
    def from_message(cls, message: he_pb2.EncryptionParameters) -> EncryptionParameters:
        """The known set that `message` describes. `ParameterError`: it is none of `PARAMETER_SETS`."""
        if message.he_scheme != he_pb2.HE_SCHEME_BFV:
            raise ParameterError(
                f"encryption parameters: scheme {message.he_scheme} is not BFV; process the database with BFV"
            )
        if message.security_level != he_pb2.SECURITY_LEVEL_QUANTUM128 or message.error_std_dev:
            raise ParameterError("encryption parameters: not of 128-bit security with errors of deviation 3.2; refused")
        moduli = tuple(message.coefficient_moduli)
        for known in PARAMETER_SETS.values():
            if (known.degree, known.plaintext_modulus, known.moduli) == (
                message.polynomial_degree,
                message.plaintext_modulus,
                moduli,
            ):
                return known
        raise ParameterError(
            f"encryption parameters: degree {message.polynomial_degree} with plaintext modulus "
            f"{message.plaintext_modulus} and these {len(moduli)} moduli is no known set; "
            f"use one of {', '.join(PARAMETER_SETS)}"
        )


_MODULI_27_28_28 = (134176769, 268369921, 268361729)
_PLAINTEXT_MODULI = {4: 11, 5: 17, 6: 37, 13: 4099, 16: 40961, 17: 65537}

PARAMETER_SETS: dict[str, EncryptionParameters] = {
    parameters.name: parameters
    for parameters in (
        EncryptionParameters(f"n_4096_logq_27_28_28_logt_{bits}", 4096, plaintext_modulus, _MODULI_27_28_28)
        for bits, plaintext_modulus in _PLAINTEXT_MODULI.items()
    )
}
"""The sets that are supported, by Apple's names: those whose moduli fit 32-bit words. For keywords Apple recommends
n_4096_logq_27_28_28_logt_5."""

WIDE_PARAMETER_SETS = (
    "n_4096_logq_16_33_33_logt_4",
    "n_8192_logq_3x55_logt_23",
    "n_8192_logq_3x55_logt_28",
    "n_8192_logq_3x55_logt_29",
    "n_8192_logq_3x55_logt_41",
    "n_8192_logq_28_60_60_logt_20",
    "n_8192_logq_29_60_60_logt_15",
    "n_8192_logq_40_60_60_logt_26",
)
"""Apple's sets with moduli that need 64-bit words. None is for URL filters, and none is supported."""


def parameters_named(name: str) -> EncryptionParameters:
    """The set of Apple's `name`. `ParameterError`: unknown, or one that needs 64-bit words."""
    if name in PARAMETER_SETS:
        return PARAMETER_SETS[name]
    if name in WIDE_PARAMETER_SETS:
        raise ParameterError(
            f"encryption parameters {name} have moduli of more than 32 bits, which are not supported; "
            "use n_4096_logq_27_28_28_logt_5"
        )
    raise ParameterError(f"encryption parameters {name!r} are unknown; use one of {', '.join(PARAMETER_SETS)}")
