"""Roots of unity modulo a prime, and the order in which transforms keep their powers."""

from __future__ import annotations

from network_extension.pir.errors import ParameterError


def smallest_root(modulus: int, order: int) -> int:
    """The smallest primitive root of unity of the power-of-two `order` modulo the prime `modulus`.

    Values in Eval form go over the wire, so both sides must take the same root: the smallest (specification §2.2).
    `ParameterError`: the prime has no such root.
    """
    if (modulus - 1) % order:
        raise ParameterError(
            f"modulus {modulus} has no root of unity of order {order}: take a prime of the form k*order+1"
        )
    root = _some_root(modulus, order)
    step = root * root % modulus
    smallest = candidate = root
    # The primitive roots are the odd powers of any of them.
    for _ in range(order // 2 - 1):
        candidate = candidate * step % modulus
        smallest = min(smallest, candidate)
    return smallest


def _some_root(modulus: int, order: int) -> int:
    for base in range(2, modulus):
        root = pow(base, (modulus - 1) // order, modulus)
        if pow(root, order // 2, modulus) == modulus - 1:
            return root
    raise ParameterError(f"modulus {modulus} has no primitive root of order {order}: is it a prime?")


def bit_reversed(count: int) -> list[int]:
    """0 … count-1 with their bits in reverse order, for a power of two `count`."""
    order = [0]
    while len(order) < count:
        order = [2 * index for index in order] + [2 * index + 1 for index in order]
    return order


def powers(root: int, count: int, modulus: int) -> list[int]:
    """root^0 … root^(count-1) modulo `modulus`, at bit-reversed places."""
    natural = [1] * count
    for index in range(1, count):
        natural[index] = natural[index - 1] * root % modulus
    return [natural[index] for index in bit_reversed(count)]
