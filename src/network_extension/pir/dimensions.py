"""How the buckets of a table are laid out for index PIR: a grid of plaintexts, asked by row and by column (§2.7).

A table of entries becomes plaintexts, several entries to one or, where an entry is larger than a plaintext, one
plaintext of each of several grids (`chunks`). A query names a row and a column by two one-hot vectors, so its size is
the sum of the sides and not their product.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import isqrt

from .errors import ParameterError


class KeyCompression(Enum):
    """How many Galois keys a client sends: fewer bytes for more work of the server."""

    NONE = "noCompression"
    HYBRID = "hybridCompression"
    MAX = "maxCompression"


@dataclass(frozen=True, slots=True)
class Dimensions:
    """The grid of one table: `rows` x `columns` plaintexts in each of `chunks`."""

    rows: int
    columns: int
    entry_count: int
    entry_size: int
    """Bytes of an entry."""
    bytes_per_plaintext: int

    def __post_init__(self) -> None:
        if min(self.rows, self.columns, self.entry_count, self.entry_size, self.bytes_per_plaintext) < 1:
            raise ParameterError(f"dimensions {self.rows} x {self.columns} for {self.entry_count} entries: none is 0")
        if self.rows * self.columns < self.plaintexts_needed:
            raise ParameterError(
                f"dimensions {self.rows} x {self.columns} hold fewer than the {self.plaintexts_needed} plaintexts"
                f" of {self.entry_count} entries; process the database again"
            )

    @classmethod
    def of(
        cls, entry_count: int, entry_size: int, bytes_per_plaintext: int, batch_size: int = 1, *, uneven: bool = True
    ) -> Dimensions:
        """The sides that Apple's tool chooses.

        A square first; uneven: then fewer columns and more rows, as long as the query's expansion is no larger for it.
        """
        needed = _plaintexts_needed(entry_count, entry_size, bytes_per_plaintext)
        rows = columns = max(1, isqrt(needed))
        rows += rows * columns < needed
        columns += rows * columns < needed
        limit = _next_power_of_two((rows + columns) * batch_size)
        while uneven and columns > 1:
            taller = -(-needed // (columns - 1))
            if _next_power_of_two((taller + columns - 1) * batch_size) > limit:
                break
            rows, columns = taller, columns - 1
        return cls(rows, columns, entry_count, entry_size, bytes_per_plaintext)

    @property
    def entries_per_plaintext(self) -> int:
        """How many entries share a plaintext; 1 where an entry fills several."""
        return max(1, self.bytes_per_plaintext // self.entry_size)

    @property
    def plaintexts_needed(self) -> int:
        """Plaintexts of one chunk that hold anything."""
        return _plaintexts_needed(self.entry_count, self.entry_size, self.bytes_per_plaintext)

    @property
    def chunks(self) -> int:
        """Plaintexts that one entry fills."""
        return -(-self.entry_size // self.bytes_per_plaintext)

    @property
    def plaintexts(self) -> int:
        """Plaintexts of the table, with those that pad the grid."""
        return self.rows * self.columns * self.chunks

    @property
    def one_hot_length(self) -> int:
        """Values of a query for one entry: the sides, added."""
        return self.rows + self.columns

    def coordinates(self, entry: int) -> tuple[int, int]:
        """Row and column of the plaintext that holds an entry."""
        return divmod(entry // self.entries_per_plaintext, self.columns)

    def offset(self, entry: int) -> int:
        """Where an entry begins in its plaintext, in bytes."""
        return entry % self.entries_per_plaintext * self.entry_size


def galois_elements(one_hot_total: int, degree: int, compression: KeyCompression) -> tuple[int, ...]:
    """The Galois elements whose keys expand a query of `one_hot_total` values, ascending (§2.7)."""
    bits = degree.bit_length() - 1
    smallest = bits - ceil_log2(min(one_hot_total, degree)) + 1
    if compression is KeyCompression.NONE:
        powers = set(range(smallest, bits + 1))
    else:
        top = max(smallest, (bits + 2) // 2)
        powers = {smallest, top}
        if compression is KeyCompression.HYBRID:
            powers.add((bits + top + 1) // 2)
    return tuple(sorted((1 << power) + 1 for power in powers))


def ceil_log2(number: int) -> int:
    """The least power of two that is not below `number`, as its exponent."""
    return (number - 1).bit_length()


def _next_power_of_two(number: int) -> int:
    return 1 << ceil_log2(number)


def _plaintexts_needed(entry_count: int, entry_size: int, bytes_per_plaintext: int) -> int:
    per_plaintext = bytes_per_plaintext // entry_size
    return -(-entry_count // per_plaintext) if per_plaintext else entry_count


__all__ = ["Dimensions", "KeyCompression", "ceil_log2", "galois_elements"]
