"""How many shards, and how large: chosen once by a target, and kept while the lists fit.

Devices keep an evaluation key for a configuration, and fetch both anew when it changes. So shards get buckets for more
rows than there are, in a fixed number, and the next build takes the same as long as they suffice (specification §2.10,
§7.14). All shards are equal, which lets one description stand for all.

More shards make a query quicker and tell the server more: it sees the number of the shard, which is one of as many.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..pir.errors import PirError
from ..pir.processing import buckets_for_rows
from ..pir.processing_configuration import RECOMMENDED, ProcessingConfiguration
from .database_build_manifest import BuildError

VALUE = b"1"
"""Of every row (specification §2.9)."""
_BYTES_PER_ROW = 8 + 2 + len(VALUE)
"""In a bucket: the keyword's hash, the value's length, the value."""
_BUCKET_BYTES = 1024
"""Half a plaintext of these parameters: what Apple's tool takes for small rows."""
_ROW_BYTES_ON_DISK = 170
_LOAD = 0.9
_TABLES = 2
_MOST_SHARDS = 10_000
"""What devices take at most (specification §3.3)."""
_QUERY_FLOOR_MS, _QUERY_MS_PER_MILLION = 14.0, 136.0
"""Of one query on one thread: expanding it, and the scan over a million rows."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a shard may cost."""

    query_ms: float = 150.0
    """Milliseconds of one query, on one thread of a server."""
    shard_bytes: int = 256 << 20
    """Bytes of a shard's file."""
    shard_count: int | None = None
    """Fixes the number of shards instead."""
    headroom: float = 0.1
    """Room for more rows before shards have to change, as a part of those there are."""

    def shards_for(self, row_count: int) -> int:
        """How many shards `row_count` rows make. Raises BuildError for targets that no number of shards meets."""
        if self.shard_count is not None:
            if not 0 < self.shard_count <= _MOST_SHARDS:
                raise BuildError(f"{self.shard_count} shards: devices take 1 to {_MOST_SHARDS}")
            return self.shard_count
        by_time = (self.query_ms - _QUERY_FLOOR_MS) / _QUERY_MS_PER_MILLION * 1e6
        by_size = self.shard_bytes / _ROW_BYTES_ON_DISK
        rows = math.floor(min(by_time, by_size))
        if rows < 1000:
            raise BuildError(
                f"a target of {self.query_ms:g} ms and {self.shard_bytes} bytes for a shard: a query alone takes"
                f" {_QUERY_FLOOR_MS:g} ms, and a shard should hold 1000 rows; allow more"
            )
        count = max(-(-row_count // rows), 1)
        if count > _MOST_SHARDS:
            raise BuildError(f"{row_count} rows make {count} shards, and devices take {_MOST_SHARDS}; allow more time")
        return count


def rows_that_fit(bucket_count: int) -> int:
    """Rows for which so many buckets, of both tables together, are sure to suffice."""
    return math.floor(bucket_count * _LOAD * _BUCKET_BYTES / _BYTES_PER_ROW)


def parameters_for(shard_count: int, bucket_count: int) -> dict[str, Any]:
    """How to process shards, with the keys of Apple's processing configuration (specification §2.10)."""
    configuration = ProcessingConfiguration(
        rlwe_parameters=RECOMMENDED,
        shard_count=shard_count,
        hash_function_count=_TABLES,
        max_bucket_size=_BUCKET_BYTES,
        bucket_count=bucket_count,
        target_load_factor=_LOAD,
        use_max_bucket_size=True,
    )
    return configuration.to_json()


def _bucket_count_for(row_count: int, headroom: float) -> int:
    """Buckets, of both tables together, for the fullest shard and what it may grow by."""
    wanted = math.ceil(row_count * (1 + headroom))
    return max(buckets_for_rows(wanted, len(VALUE), ProcessingConfiguration(target_load_factor=_LOAD)), _TABLES)


def parameters_that_stay(
    previous: dict[str, Any] | None, shard_count: int, fullest: int, headroom: float
) -> dict[str, Any]:
    """The parameters of the version before if its shards are as many and hold the rows, else new ones.

    `fullest` is the number of rows of the fullest shard.
    """
    if previous is not None:
        try:
            buckets = ProcessingConfiguration.from_json(previous).bucket_count
        except PirError:  # written by a later version of this package
            buckets = None
        if buckets and previous == parameters_for(shard_count, buckets) and fullest <= rows_that_fit(buckets):
            return previous
    return parameters_for(shard_count, _bucket_count_for(fullest, headroom))
