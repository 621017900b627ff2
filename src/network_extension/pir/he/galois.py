"""Substitutions X -> X^g, which permute a polynomial's coefficients and their signs; the heart of query expansion."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from network_extension.pir.errors import ParameterError
from network_extension.pir.he.compiled import inlined
from network_extension.pir.he.modular import Words


@dataclass(frozen=True, slots=True)
class Substitution:
    """X -> X^target, done as `repeats` times X -> X^element, because only keys for `element` are there."""

    target: int
    element: int
    repeats: int


def substitution(target: int, elements: Iterable[int], degree: int) -> Substitution:
    """How to reach X -> X^target with keys for `elements`: by the largest one that is not larger (§2.7).

    `ParameterError`: no repetition of it gives the target.
    """
    element = max((element for element in elements if element <= target), default=0)
    reached = 1
    for repeats in range(1, degree.bit_length() + degree if element else 0):
        reached = reached * element % (2 * degree)
        if reached == target:
            return Substitution(target, element, repeats)
        if reached == 1:
            break
    raise ParameterError(
        f"evaluation key: none of its Galois elements leads to {target}; make the key for this database"
    )


def expansion_element(step: int, degree: int) -> int:
    """The substitution of step 1, 2, … of a query's expansion: 2^(log2 N - step + 1) + 1."""
    return (2 * degree >> step) + 1


def substituted(coefficients: npt.NDArray[np.int32], element: int) -> npt.NDArray[np.int32]:
    """Signed `coefficients` (N) of p(X^element)."""
    degree = coefficients.size
    places = np.arange(degree, dtype=np.int64) * element % (2 * degree)
    result = np.empty_like(coefficients)
    result[places % degree] = np.where(places < degree, coefficients, -coefficients)
    return result


@inlined
def substitute(source: Words, element: int, modulus: np.uint32, target: Words) -> None:
    """Row `source` (N, Coeff, in [0, q)) of p(X) to row `target` of p(X^element)."""
    degree = source.size
    place, mask = 0, 2 * degree - 1
    for k in range(degree):
        value = source[k]
        negated = np.uint32(modulus - value) if value else value
        target[place & (degree - 1)] = value if place < degree else negated
        place = (place + element) & mask
