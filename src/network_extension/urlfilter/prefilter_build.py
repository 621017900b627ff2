"""Making a prefilter from strings: any number of them, in the memory of the bit field and one batch.

The size of the field follows from how many strings there are, and a stream does not say. Its hashes do not depend on
the size, so they are made at once and kept in a temporary file, 8 bytes a string, until the count is known. Who knows
the count, or fixes the size, needs no such file.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import IO, NamedTuple

import numpy as np

from .bloom_kernels import Bytes, HashPairs, Offsets, hash_strings, line_bounds, set_bits
from .prefilter import DEFAULT_TOLERANCE, LARGEST_BIT_COUNT, LARGEST_HASH_COUNT, Prefilter, PrefilterError

_BATCH = 32768
_SPOOL_ROWS = 1 << 18
_PAIR_BYTES = 8
_EMPTY_BIT_COUNT = 8
"""A filter of an empty list: devices refuse one without bits."""


class PrefilterSize(NamedTuple):
    """The two numbers that say how large a filter is and how hard it looks."""

    bit_count: int
    hash_count: int


def size_for(item_count: int, tolerance: float = DEFAULT_TOLERANCE, byte_count: int | None = None) -> PrefilterSize:
    """Bits and hashes for `item_count` strings: for a rate of false positives, or for a size in bytes when it is given.

    bit_count = ceil(-n ln p / (ln 2)^2), hash_count = ceil(bit_count / n * ln 2): Apple's sample, specification §3.1.
    Raises PrefilterError for a rate outside 0 to 1, or a field of more bits than devices count.
    """
    if not 0 < tolerance < 1:
        raise PrefilterError(f"false-positive rate {tolerance}: it lies between 0 and 1, both excluded")
    if byte_count is not None and byte_count < 1:
        raise PrefilterError(f"prefilter of {byte_count} bytes: it takes one at least")
    if byte_count is not None:
        bit_count = byte_count * 8
    else:
        bit_count = math.ceil(-item_count * math.log(tolerance) / math.log(2) ** 2) or _EMPTY_BIT_COUNT
    if bit_count > LARGEST_BIT_COUNT:
        raise PrefilterError(
            f"prefilter of {bit_count} bits for {item_count} strings at a rate of {tolerance}: devices count to"
            f" {LARGEST_BIT_COUNT}; allow a higher rate, or fewer strings"
        )
    hash_count = math.ceil(bit_count / max(item_count, 1) * math.log(2))
    return PrefilterSize(bit_count, min(max(hash_count, 1), _most_hashes(tolerance)))


def _most_hashes(tolerance: float) -> int:
    """No more hashes than a rate needs, where a chosen size is far larger: each costs a look at the device's memory."""
    return min(max(math.ceil(-math.log2(tolerance)), 32), LARGEST_HASH_COUNT)


def random_seed(random: Callable[[int], bytes] = os.urandom) -> int:
    """A seed for MurmurHash3: 32 bits, never 0, which devices refuse."""
    while not (seed := int.from_bytes(random(4), "little")):
        pass
    return seed


def build_prefilter(
    items: Iterable[str | bytes],
    *,
    tolerance: float = DEFAULT_TOLERANCE,
    byte_count: int | None = None,
    item_count: int | None = None,
    size: PrefilterSize | None = None,
    murmur_seed: int | None = None,
    random: Callable[[int], bytes] = os.urandom,
) -> Prefilter:
    """A prefilter of all `items`, which are taken as they are: normalised strings (`url_forms.row_of`), each once.

    `tolerance` is the rate of false positives, `byte_count` a size instead of it. `item_count`, where it is known,
    spares the temporary file; `size` fixes both numbers. Raises PrefilterError for a size that no device takes.
    """
    return _build(_batches_of_items(items), tolerance, byte_count, item_count, size, murmur_seed, random)


def build_prefilter_from_blocks(
    blocks: Iterable[bytes],
    *,
    tolerance: float = DEFAULT_TOLERANCE,
    byte_count: int | None = None,
    item_count: int | None = None,
    size: PrefilterSize | None = None,
    murmur_seed: int | None = None,
    random: Callable[[int], bytes] = os.urandom,
) -> Prefilter:
    """As `build_prefilter`, from blocks of whole lines (`CompiledList.blocks`): no string becomes an object."""
    return _build(map(_batch_of_block, blocks), tolerance, byte_count, item_count, size, murmur_seed, random)


class _Batch(NamedTuple):
    buffer: Bytes
    starts: Offsets
    ends: Offsets


def _batches_of_items(items: Iterable[str | bytes]) -> Iterator[_Batch]:
    remaining = iter(items)
    while batch := [item.encode() if isinstance(item, str) else item for item in islice(remaining, _BATCH)]:
        ends = np.cumsum(np.fromiter(map(len, batch), np.int64, len(batch)))
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
        yield _Batch(np.frombuffer(b"".join(batch), np.uint8), starts, ends)


def _batch_of_block(block: bytes) -> _Batch:
    buffer = np.frombuffer(block, np.uint8)
    return _Batch(buffer, *line_bounds(buffer))


def _build(
    batches: Iterable[_Batch],
    tolerance: float,
    byte_count: int | None,
    item_count: int | None,
    size: PrefilterSize | None,
    murmur_seed: int | None,
    random: Callable[[int], bytes],
) -> Prefilter:
    seed = random_seed(random) if murmur_seed is None else murmur_seed
    hashed = (hash_strings(*batch, seed & 0xFFFFFFFF, True) for batch in batches)
    if size is None and item_count is not None:
        size = size_for(item_count, tolerance, byte_count)
    if size is not None:
        return _filled(hashed, size, seed, tolerance)
    with tempfile.TemporaryFile(prefix="netext-hashes-") as spool:
        count = _spooled(hashed, spool)
        return _filled(_unspooled(spool), size_for(count, tolerance, byte_count), seed, tolerance)


def _filled(hashed: Iterable[HashPairs], size: PrefilterSize, seed: int, tolerance: float) -> Prefilter:
    data = np.zeros((size.bit_count + 7) // 8, np.uint8)
    count = 0
    for pairs in hashed:
        set_bits(pairs, size.hash_count, size.bit_count, data)
        count += len(pairs)
    return Prefilter(
        data.tobytes(),
        size.bit_count,
        size.hash_count,
        seed,
        item_count=count,
        tolerance=tolerance,
    )


def _spooled(hashed: Iterable[HashPairs], spool: IO[bytes]) -> int:
    count = 0
    for pairs in hashed:
        spool.write(pairs.tobytes())
        count += len(pairs)
    return count


def _unspooled(spool: IO[bytes]) -> Iterator[HashPairs]:
    spool.seek(0)
    while read := spool.read(_SPOOL_ROWS * _PAIR_BYTES):
        yield np.frombuffer(read, np.uint32).reshape(-1, 2)
