"""The sides of the grid and the Galois elements: Apple's known answers (specification §2.7, §6)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.pir.dimensions import Dimensions, KeyCompression, galois_elements
from network_extension.pir.errors import ParameterError

PLAINTEXT = 2048


@pytest.mark.parametrize(
    ("plaintexts", "batch", "sides"),
    [(9, 1, (5, 2)), (20, 1, (10, 2)), (100, 1, (25, 4)), (72, 1, (24, 3)), (100, 3, (13, 8))],
)
def test_sides_as_apple_chooses_them(plaintexts: int, batch: int, sides: tuple[int, int]) -> None:
    grid = Dimensions.of(plaintexts, PLAINTEXT, PLAINTEXT, batch)
    assert (grid.rows, grid.columns) == sides


@pytest.mark.parametrize(
    ("buckets", "size", "plaintext", "sides"),
    [
        (869, 757, 1536, (55, 8)),
        (598, 991, 2048, (50, 6)),
        (598, 1024, 2048, (50, 6)),
        (5969, 1024, 2048, (97, 31)),
    ],
)
def test_sides_of_the_databases_that_apple_processed(
    buckets: int, size: int, plaintext: int, sides: tuple[int, int]
) -> None:
    grid = Dimensions.of(buckets, size, plaintext, 2)
    assert (grid.rows, grid.columns) == sides


@pytest.mark.parametrize(
    ("total", "compression", "elements"),
    [
        (32, KeyCompression.NONE, (257, 513, 1025, 2049, 4097)),
        (256, KeyCompression.NONE, (33, 65, 129, 257, 513, 1025, 2049, 4097)),
        (112, KeyCompression.HYBRID, (65, 129, 1025)),
        (112, KeyCompression.MAX, (65, 129)),
    ],
)
def test_elements_as_apple_chooses_them(total: int, compression: KeyCompression, elements: tuple[int, ...]) -> None:
    assert galois_elements(total, 4096, compression) == elements


@given(st.integers(1, 20000), st.integers(1, 9000), st.booleans(), st.integers(1, 4))
def test_every_entry_has_a_place_of_its_own(entries: int, size: int, uneven: bool, batch: int) -> None:
    grid = Dimensions.of(entries, size, PLAINTEXT, batch, uneven=uneven)
    assert grid.rows * grid.columns >= grid.plaintexts_needed
    assert grid.chunks * PLAINTEXT >= size
    for entry in {0, entries // 2, entries - 1}:
        row, column = grid.coordinates(entry)
        assert row < grid.rows and column < grid.columns
        assert grid.chunks > 1 or grid.offset(entry) + size <= PLAINTEXT


def test_a_square_where_that_is_asked_for() -> None:
    grid = Dimensions.of(100, PLAINTEXT, PLAINTEXT, uneven=False)
    assert (grid.rows, grid.columns) == (10, 10)


def test_sides_that_hold_too_little_are_refused() -> None:
    with pytest.raises(ParameterError, match="hold fewer"):
        Dimensions(2, 2, 100, PLAINTEXT, PLAINTEXT)
    with pytest.raises(ParameterError, match="none is 0"):
        Dimensions(0, 2, 100, PLAINTEXT, PLAINTEXT)
