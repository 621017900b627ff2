"""From rows to a processed shard: hashes, cuckoo tables, buckets, plaintexts (§2.6, §2.7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .cuckoo import BUCKET_OVERHEAD, ENTRY_OVERHEAD, Placement, place
from .dimensions import Dimensions, galois_elements
from .errors import DatabaseError
from .hash_bucket import LONGEST_VALUE, write_buckets
from .hashing import candidate_table, keyword_hashes
from .he.context import Context
from .he.plaintext import encode_plaintexts
from .native_file import write_native
from .plaintext_file import Plaintexts, write_plaintexts
from .processing_configuration import ProcessingConfiguration
from .proto import he_pb2, pir_pb2
from .shard import Shard
from .shard_parameters import ShardParameters, write_parameters

_BLOCK = 512
"""Plaintexts that are encoded at a time: 16 MB."""
_MOST_BUCKETS = 1 << 28


@dataclass(frozen=True, slots=True, eq=False)
class ProcessedShard:
    """A shard in memory, as it goes into its files."""

    parameters: ShardParameters
    plaintexts: Plaintexts = field(repr=False)
    """(n, L, N), in the order of the file."""
    row_count: int

    @property
    def shard(self) -> Shard:
        """To answer queries, as if it had been opened."""
        return Shard(self.parameters, self.plaintexts)

    def write(self, bin_path: Path, parameters_path: Path, *, native: bool = True) -> None:
        """Write Apple's two files, and the one that is mapped. `DatabaseError`: the disk; each file is whole or as it
        was.
        """
        write_plaintexts(bin_path, Context.of(self.parameters.encryption), self.plaintexts)
        if native:
            write_native(bin_path, self.plaintexts)
        write_parameters(parameters_path, self.parameters.message)


def process_shard(
    keywords: Sequence[bytes], values: Sequence[bytes], configuration: ProcessingConfiguration, seed: int = 1
) -> ProcessedShard:
    """Process the rows of one shard.

    The same rows, configuration and seed give the same shard. `DatabaseError`: two rows have one keyword, a value is
    too long, or the rows do not fit into a fixed number of buckets.
    """
    sizes = np.fromiter(map(len, values), np.int32, len(values))
    if len(keywords) != len(values):
        raise DatabaseError(f"shard: {len(keywords)} keywords and {len(values)} values; give one of each for a row")
    longest = int(sizes.max(initial=0))
    if longest > LONGEST_VALUE:
        raise DatabaseError(f"shard: row {int(sizes.argmax())} has a value of {longest} bytes; {LONGEST_VALUE} at most")
    hashes = keyword_hashes(keywords)
    _refuse_repeated(hashes)
    bucket_size = configuration.bucket_size(longest)
    if values and BUCKET_OVERHEAD + ENTRY_OVERHEAD + longest > bucket_size:
        raise DatabaseError(
            f"shard: row {int(sizes.argmax())} has a value of {longest} bytes, which no bucket of {bucket_size} holds;"
            " raise maxSerializedBucketSize"
        )
    placement, bucket_count = _placed(hashes, sizes, bucket_size, configuration, seed)
    entry_size = bucket_size if configuration.entries_have_fixed_size else int(placement.sizes.max())
    ends = np.cumsum(sizes, dtype=np.int64)
    buckets = write_buckets(placement, hashes, np.frombuffer(b"".join(values), np.uint8), ends, entry_size)
    parameters = shard_parameters(configuration, bucket_count, entry_size)
    return ProcessedShard(parameters, _encoded(buckets, parameters), len(keywords))


def shard_parameters(configuration: ProcessingConfiguration, bucket_count: int, entry_size: int) -> ShardParameters:
    """The parameters of a shard with `bucket_count` buckets in each table, of `entry_size` bytes."""
    encryption, tables = configuration.encryption, configuration.hash_function_count
    dimensions = Dimensions.of(
        bucket_count, entry_size, encryption.bytes_per_plaintext, tables, uneven=configuration.uneven_dimensions
    )
    elements = galois_elements(dimensions.one_hot_length * tables, encryption.degree, configuration.key_compression)
    message = pir_pb2.PirParameters(
        encryption_parameters=encryption.message(),
        num_entries=bucket_count,
        entry_size=entry_size,
        dimensions=(dimensions.rows, dimensions.columns),
        keyword_pir_params=pir_pb2.KeywordPirParameters(
            num_hash_functions=tables, sharding_function=configuration.sharding.message()
        ),
        algorithm=pir_pb2.PIR_ALGORITHM_MUL_PIR,
        batch_size=tables,
        evaluation_key_config=he_pb2.EvaluationKeyConfig(
            encryption_parameters=encryption.message(), galois_elements=elements, has_relin_key=True
        ),
    )
    return ShardParameters.from_message(message)


def buckets_for_rows(row_count: int, value_size: int, configuration: ProcessingConfiguration) -> int:
    """Buckets of all tables for `row_count` rows with values of one size: for `bucket_count` of a configuration that
    is to stay the same while rows come and go.
    """
    bucket_size = configuration.bucket_size(value_size)
    return configuration.buckets_for(row_count * (ENTRY_OVERHEAD + value_size), bucket_size)


def _refuse_repeated(hashes: npt.NDArray[np.uint64]) -> None:
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    if same.size:
        first, second = int(order[same[0]]), int(order[same[0] + 1])
        raise DatabaseError(
            f"shard: rows {first} and {second} have the same keyword; leave one of them out ({same.size} such pairs)"
        )


def _placed(
    hashes: npt.NDArray[np.uint64],
    sizes: npt.NDArray[np.int32],
    bucket_size: int,
    configuration: ProcessingConfiguration,
    seed: int,
) -> tuple[Placement, int]:
    """Where each row lies, and the buckets of one table."""
    tables, names = configuration.hash_function_count, hashes.tolist()
    buckets = configuration.buckets_for(int(sizes.sum()) + ENTRY_OVERHEAD * len(names), bucket_size)
    while True:
        per_table = buckets // tables
        found = place(
            candidate_table(names, per_table, tables), sizes, per_table, bucket_size, configuration.max_evictions, seed
        )
        if found is not None:
            return found, per_table
        if configuration.bucket_count is not None or buckets > _MOST_BUCKETS:
            raise DatabaseError(
                f"shard: {len(names)} rows find no place in {buckets} buckets of {bucket_size} bytes; raise bucketCount"
                " or maxSerializedBucketSize, or use more shards"
            )
        buckets = configuration.expanded(buckets)


def _encoded(buckets: npt.NDArray[np.uint8], parameters: ShardParameters) -> Plaintexts:
    """(n, L, N): the plaintexts of all tables, column by column, chunk by chunk."""
    grid, context = parameters.dimensions, Context.of(parameters.encryption)
    plaintexts = np.zeros((parameters.plaintext_count, context.level, context.degree), np.uint32)
    for table in range(parameters.table_count):
        part = buckets[table * grid.entry_count : (table + 1) * grid.entry_count]
        data = _as_plaintexts(part, grid)
        target = plaintexts[table * grid.plaintexts : (table + 1) * grid.plaintexts]
        for start in range(0, grid.plaintexts, _BLOCK):
            block = data[start : start + _BLOCK]
            target[start : start + _BLOCK] = encode_plaintexts(context, block)
    return plaintexts


def _as_plaintexts(entries: npt.NDArray[np.uint8], grid: Dimensions) -> npt.NDArray[np.uint8]:
    """(chunks * columns * rows, bytes_per_plaintext): a table's entries in the order of the file."""
    size, cells = grid.bytes_per_plaintext, grid.rows * grid.columns
    if grid.chunks == 1:
        per_plaintext, width = grid.entries_per_plaintext, grid.entry_size
        padded = np.zeros((cells * per_plaintext, width), np.uint8)
        padded[: grid.entry_count] = entries
        chunks = np.zeros((1, cells, size), np.uint8)
        chunks[0, :, : per_plaintext * width] = padded.reshape(cells, per_plaintext * width)
    else:
        padded = np.zeros((cells, grid.chunks * size), np.uint8)
        padded[: grid.entry_count, : grid.entry_size] = entries
        chunks = padded.reshape(cells, grid.chunks, size).transpose(1, 0, 2)
    columns = chunks.reshape(grid.chunks, grid.rows, grid.columns, size).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(columns).reshape(grid.plaintexts, size)


__all__ = ["ProcessedShard", "buckets_for_rows", "process_shard", "shard_parameters"]
