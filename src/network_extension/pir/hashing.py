"""Hashes of keywords: which shard a keyword lies in, and which buckets may hold it (specification §1.5, §2.6).

A keyword is known by 64 bits of its SHA-256. The buckets come from a second SHA-256 over these bits and a counter, so
that they do not depend on the shard.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

import numpy as np
import numpy.typing as npt

MOST_RETRIES = 10
"""How often another counter is tried when a candidate is one that was had before."""


def keyword_hash(keyword: bytes) -> int:
    """The 64 bits that stand for `keyword`: the first eight bytes of its SHA-256, little-endian."""
    return int.from_bytes(sha256(keyword).digest()[:8], "little")


def candidates(hashed: int, bucket_count: int, function_count: int) -> tuple[int, ...]:
    """The buckets, out of `bucket_count` in each table, where the keyword of this hash may lie: one for each table.

    The counter begins at 0 for each of them, and goes on while the bucket is one that came before.
    """
    name, found = hashed.to_bytes(8, "big"), list[int]()
    for _ in range(function_count):
        counter = 0
        while (index := _hash_again(name, counter) % bucket_count) in found and counter < MOST_RETRIES:
            counter += 1
        found.append(index)
    return tuple(found)


def _hash_again(name: bytes, counter: int) -> int:
    return int.from_bytes(sha256(name + bytes((counter,))).digest()[:8], "little")


def keyword_hashes(keywords: Iterable[bytes]) -> npt.NDArray[np.uint64]:
    """The hashes of many keywords, (n,)."""
    digests = b"".join([sha256(keyword).digest()[:8] for keyword in keywords])
    return np.frombuffer(digests, "<u8").astype(np.uint64, copy=False)


def candidate_table(hashes: Sequence[int], bucket_count: int, function_count: int) -> npt.NDArray[np.int32]:
    """The candidates of many keywords, (n, function_count)."""
    table = np.empty((len(hashes), function_count), np.int32)
    if function_count != 2 or bucket_count < 2:
        for row, hashed in enumerate(hashes):
            table[row] = candidates(hashed, bucket_count, function_count)
        return table
    # Two tables are what everybody has: counter 0 is the first bucket, counter 1 the second unless it is the same.
    names = [int(hashed).to_bytes(8, "big") for hashed in hashes]
    for column, counter in enumerate((b"\0", b"\1")):
        digests = b"".join([sha256(name + counter).digest()[:8] for name in names])
        table[:, column] = np.frombuffer(digests, "<u8") % np.uint64(bucket_count)
    for row in np.flatnonzero(table[:, 0] == table[:, 1]).tolist():
        table[row] = candidates(int(hashes[row]), bucket_count, function_count)
    return table


__all__ = ["candidate_table", "candidates", "keyword_hash", "keyword_hashes"]
