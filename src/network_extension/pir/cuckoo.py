"""Cuckoo hashing: each keyword lies in one of its few candidate buckets, so a client asks for just these (§2.6).

There is one table for each hash function, and candidate j lies in table j. A bucket holds many entries, up to a size in
bytes. A keyword goes to the candidate with the most room; where neither has any, it pushes entries out of one of them,
which look for another place in turn, until all have one or `max_evictions` is reached.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .he.compiled import compiled

MOST_SLOTS = 255
"""Entries of a bucket: their number is one byte of it."""
ENTRY_OVERHEAD = 10
"""Bytes of an entry beside its value: the hash and the length."""
BUCKET_OVERHEAD = 1


@dataclass(frozen=True, slots=True)
class Placement:
    """Where each entry lies: `slots[bucket, i]` is the index of a bucket's i-th entry, for i below `counts[bucket]`.

    Buckets of table j are rows j * bucket_count to (j + 1) * bucket_count.
    """

    slots: npt.NDArray[np.int32]
    counts: npt.NDArray[np.int32]
    sizes: npt.NDArray[np.int32]
    """Bytes of each bucket as it is serialized."""


def place(
    candidates: npt.NDArray[np.int32],
    value_sizes: npt.NDArray[np.int32],
    bucket_count: int,
    bucket_size: int,
    max_evictions: int,
    seed: int,
) -> Placement | None:
    """Find a place for every entry.

    `candidates` (n, tables) are bucket numbers below `bucket_count`, `value_sizes` (n,) bytes, `bucket_size` the most
    bytes of a bucket. None: some entry found no place, and the tables must be larger. The same seed gives the same
    placement.
    """
    tables = candidates.shape[1]
    smallest = int(value_sizes.min(initial=bucket_size)) + ENTRY_OVERHEAD
    most = max(1, min(MOST_SLOTS, (bucket_size - BUCKET_OVERHEAD) // smallest))
    slots = np.empty((tables * bucket_count, most), np.int32)
    counts = np.zeros(tables * bucket_count, np.int32)
    sizes = np.full(tables * bucket_count, BUCKET_OVERHEAD, np.int32)
    done = _place_all(
        candidates, value_sizes, bucket_count, bucket_size, max_evictions, np.uint64(seed | 1), slots, counts, sizes
    )
    return Placement(slots, counts, sizes) if done else None


@compiled
def _place_all(
    candidates: npt.NDArray[np.int32],
    value_sizes: npt.NDArray[np.int32],
    bucket_count: int,
    bucket_size: int,
    max_evictions: int,
    state: np.uint64,
    slots: npt.NDArray[np.int32],
    counts: npt.NDArray[np.int32],
    sizes: npt.NDArray[np.int32],
) -> bool:
    tables, most = candidates.shape[1], slots.shape[1]
    homeless = np.empty(max_evictions + 2, np.int32)
    for entry in range(candidates.shape[0]):
        homeless[0], waiting, evicted = entry, 1, 0
        while waiting:
            waiting -= 1
            lost = homeless[waiting]
            need = value_sizes[lost] + 10
            best, room = -1, -1
            for table in range(tables):
                bucket = table * bucket_count + candidates[lost, table]
                free = bucket_size - sizes[bucket] - need
                if counts[bucket] < most and free > room:
                    best, room = bucket, free
            if best < 0:
                if need + 1 > bucket_size:
                    return False
                state = _next(state)
                table = int(state >> np.uint64(33)) % tables
                best = table * bucket_count + candidates[lost, table]
                while counts[best] >= most or sizes[best] + need > bucket_size:
                    if evicted >= max_evictions:
                        return False
                    state = _next(state)
                    slot = int(state >> np.uint64(33)) % counts[best]
                    homeless[waiting] = slots[best, slot]
                    sizes[best] -= value_sizes[homeless[waiting]] + 10
                    counts[best] -= 1
                    slots[best, slot] = slots[best, counts[best]]
                    waiting += 1
                    evicted += 1
            slots[best, counts[best]] = lost
            counts[best] += 1
            sizes[best] += need
    return True


@compiled
def _next(state: np.uint64) -> np.uint64:
    """xorshift64: any bits that do not repeat soon will do to choose whom to evict."""
    state ^= state << np.uint64(13)
    state ^= state >> np.uint64(7)
    state ^= state << np.uint64(17)
    return state


__all__ = ["BUCKET_OVERHEAD", "ENTRY_OVERHEAD", "MOST_SLOTS", "Placement", "place"]
