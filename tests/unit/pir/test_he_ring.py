"""The ring's arithmetic against its definitions, in Python's own integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network_extension.pir.errors import ParameterError
from network_extension.pir.he.context import Context
from network_extension.pir.he.drbg import uniform_polynomial
from network_extension.pir.he.galois import expansion_element, substituted, substitution
from network_extension.pir.he.modular import Words
from network_extension.pir.he.ntt import forward_rows, from_wire_order, inverse_rows, ntt_tables, to_wire_order
from network_extension.pir.he.packing import coefficient_bits, pack, packed_size, unpack
from network_extension.pir.he.parameters import parameters_named
from network_extension.pir.he.roots import smallest_root

CONTEXT = Context.of(parameters_named("n_4096_logq_27_28_28_logt_5"))
N = CONTEXT.degree
MODULI = [int(modulus) for modulus in CONTEXT.tables.moduli]
ROWS = pytest.mark.parametrize("row", range(len(MODULI)))


def transformed(coefficients: list[int] | Words, row: int) -> Words:
    """Eval form modulo the prime number `row`, in memory order."""
    values = np.array(coefficients, np.uint32).reshape(1, 1, N)
    forward_rows(values, row, CONTEXT.tables)
    row_values: Words = values[0, 0]
    return row_values


def transformed_back(values: Words, row: int) -> list[int]:
    held = np.array(values, np.uint32).reshape(1, 1, N)
    inverse_rows(held, row, CONTEXT.tables)
    return [int(value) for value in held[0, 0]]


def random_row(row: int, seed: int) -> Words:
    return np.random.default_rng(seed).integers(0, MODULI[row], N, dtype=np.uint32)


@ROWS
def test_a_transform_evaluates_at_the_odd_powers_of_the_root(row: int) -> None:
    """Value i of the wire is the polynomial at psi^(2 bitreverse(i) + 1) (specification §2.2)."""
    modulus, coefficients = MODULI[row], [int(value) for value in random_row(row, row)]
    wire = to_wire_order(transformed(coefficients, row)[None])[0]
    psi, bits = smallest_root(modulus, 2 * N), N.bit_length() - 1
    for index in (0, 1, 2, 77, N // 2, N - 1):
        point = pow(psi, 2 * int(f"{index:0{bits}b}"[::-1], 2) + 1, modulus)
        value = 0
        for coefficient in reversed(coefficients):
            value = (value * point + coefficient) % modulus
        assert value == int(wire[index])


def test_the_known_answers_of_the_specification() -> None:
    """§2.2: a transform of four coefficients modulo 97; §2.3: what a seed of zeros stands for."""
    tables = ntt_tables((97,), 4)
    values = np.array([[[1, 2, 3, 4]]], np.uint32)
    forward_rows(values, 0, tables)
    assert to_wire_order(values[0]).tolist() == [[30, 7, 64, 0]]
    assert uniform_polynomial(bytes(32), [11, 13], 4).tolist() == [[4, 0, 2, 8], [10, 9, 3, 2]]


@ROWS
def test_there_and_back(row: int) -> None:
    values = random_row(row, 9)
    assert transformed_back(transformed(values, row), row) == values.tolist()
    for extreme in ([0] * N, [MODULI[row] - 1] * N):
        assert transformed_back(transformed(extreme, row), row) == extreme


def test_the_wires_order_is_a_permutation() -> None:
    values = np.arange(2 * N, dtype=np.uint32).reshape(2, N)
    assert (from_wire_order(to_wire_order(values)) == values).all()
    assert sorted(to_wire_order(values)[0].tolist()) == list(range(N))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, 2**27)), min_size=1, max_size=4), st.integers(0, 99))
def test_products_of_values_are_products_of_polynomials(terms: list[tuple[int, int]], seed: int) -> None:
    """Modulo X^N + 1: what runs over the end comes back with the other sign."""
    row, modulus = 0, MODULI[0]
    dense = [int(value) for value in random_row(row, seed)]
    expected = [0] * N
    sparse = [0] * N
    for place, factor in terms:
        sparse[place] = (sparse[place] + factor) % modulus
        for index, value in enumerate(dense):
            sign = 1 if index + place < N else -1
            expected[(index + place) % N] += sign * factor * value
    product = transformed(dense, row).astype(np.uint64) * transformed(sparse, row) % np.uint64(modulus)
    assert transformed_back(product.astype(np.uint32), row) == [value % modulus for value in expected]


@given(st.integers(1, 32), st.integers(0, 50), st.data())
def test_packed_rows_are_bit_strings(bits: int, count: int, data: st.DataObject) -> None:
    """The highest bit first, without gaps; zeros fill the last byte."""
    skip = data.draw(st.integers(0, 32 - bits))
    kept = data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=count, max_size=count))
    text = "".join(f"{value:0{bits}b}" for value in kept)
    expected = bytes(int(text[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(text), 8))
    low = data.draw(st.integers(0, 2**skip - 1))
    packed = pack(np.array([value << skip | low for value in kept], np.uint32), bits, skip)
    assert packed == expected and len(packed) == packed_size(count, bits)
    assert unpack(packed, count, bits, skip).tolist() == [value << skip for value in kept]


@pytest.mark.parametrize(("modulus", "skip", "bits"), [(2, 0, 1), (3, 0, 2), (1 << 28, 0, 28), (134176769, 7, 20)])
def test_bits_of_a_coefficient(modulus: int, skip: int, bits: int) -> None:
    assert coefficient_bits(modulus, skip) == bits


@given(st.integers(1, N).map(lambda half: 2 * half - 1), st.lists(st.tuples(st.integers(0, N - 1), st.integers(-9, 9))))
def test_a_substitution_puts_powers_in_the_place_of_powers(element: int, terms: list[tuple[int, int]]) -> None:
    coefficients = np.zeros(N, np.int32)
    expected = [0] * N
    for place, factor in terms:
        coefficients[place] += factor
        power = place * element % (2 * N)
        expected[power % N] += factor if power < N else -factor
    assert substituted(coefficients, element).tolist() == expected


def test_how_substitutions_are_reached() -> None:
    elements = [expansion_element(step, N) for step in range(1, 13)]
    assert elements == [2 ** (13 - step) + 1 for step in range(1, 13)]
    for target in elements:
        assert substitution(target, elements, N).repeats == 1
    way = substitution(N + 1, [3], N)
    assert way.element == 3 and pow(3, way.repeats, 2 * N) == N + 1
    with pytest.raises(ParameterError, match="none of its Galois elements leads to 3"):
        substitution(3, [5], N)
