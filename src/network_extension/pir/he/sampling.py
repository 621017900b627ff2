"""Secret randomness: ternary secrets and centred binomial errors (specification §2.1).

The bytes come from the caller's source, which is the system's in earnest. Nothing branches on them, and no table is
indexed by them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from network_extension.pir.he.compiled import compiled
from network_extension.pir.he.modular import Words

RandomBytes = Callable[[int], bytes]
"""`random(n)` gives n bytes that nobody can guess; `os.urandom` in earnest."""

_ERROR_BITS = np.uint64((1 << 21) - 1)
"""k = ceil(2 * 3.2^2) = 21 coins on each side give the deviation 3.2."""
_SECOND_HALF = np.uint64(21)


def ternary_polynomial(degree: int, random: RandomBytes) -> npt.NDArray[np.int32]:
    """`degree` coefficients, each -1, 0 or 1 with the same probability."""
    # The remainder of 64 bits by 3 is even to 2^-64.
    draws = np.frombuffer(random(8 * degree), "<u8")
    coefficients: npt.NDArray[np.int32] = (draws % np.uint64(3)).astype(np.int32) - 1
    return coefficients


def error_polynomial(degree: int, random: RandomBytes) -> npt.NDArray[np.int32]:
    """`degree` coefficients: heads of 21 coins less heads of 21 others, so -21 … 21 with deviation 3.24."""
    draws = np.frombuffer(random(8 * degree), "<u8")
    first, second = draws & _ERROR_BITS, (draws >> _SECOND_HALF) & _ERROR_BITS
    errors: npt.NDArray[np.int32] = np.bitwise_count(first).astype(np.int32) - np.bitwise_count(second).astype(np.int32)
    return errors


@compiled
def signed_rows(coefficients: npt.NDArray[np.int32], moduli: Words, target: Words) -> None:
    """Signed `coefficients` (N), smaller than each modulus, as residues: row i of `target` modulo `moduli[i]`."""
    for row in range(moduli.size):
        modulus = np.int64(moduli[row])
        place = target[row]
        for k in range(coefficients.size):
            value = np.int64(coefficients[k])
            place[k] = np.uint32(value + (modulus & (value >> np.int64(63))))
