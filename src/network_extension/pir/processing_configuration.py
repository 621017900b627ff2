"""How a database is processed: the keys of Apple's `PIRProcessDatabase` configuration (§2.10)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .cuckoo import BUCKET_OVERHEAD, ENTRY_OVERHEAD
from .dimensions import KeyCompression
from .errors import ParameterError
from .he.parameters import EncryptionParameters, parameters_named
from .shard_parameters import LARGEST_ENTRY, MOST_TABLES
from .sharding import MOST_SHARDS, SHA256, ShardingFunction

RECOMMENDED = "n_4096_logq_27_28_28_logt_5"


@dataclass(frozen=True, slots=True)
class ProcessingConfiguration:
    """Everything but the names of files. `ParameterError`: a value that cannot be."""

    rlwe_parameters: str = RECOMMENDED
    """The name of a set of encryption parameters."""
    shard_count: int = 1
    sharding: ShardingFunction = SHA256
    hash_function_count: int = 2
    max_evictions: int = 100
    max_bucket_size: int | None = None
    """Bytes; None: half a plaintext where entries fit into that, else whole plaintexts."""
    bucket_count: int | None = None
    """All tables together, the same whatever the rows are ("fixedSize"); None: as many as they need."""
    expansion_factor: float = 1.1
    target_load_factor: float = 0.9
    key_compression: KeyCompression = KeyCompression.NONE
    use_max_bucket_size: bool = False
    """Entries as large as a bucket may be, and not as the largest is: parameters stay the same when rows change."""
    uneven_dimensions: bool = True
    trials_per_shard: int = 1
    """Rows that a shard is asked for after processing (`trials`)."""

    def __post_init__(self) -> None:
        parameters_named(self.rlwe_parameters)
        self._within("shard_count", self.shard_count, 1, MOST_SHARDS)
        self._within("hash_function_count", self.hash_function_count, 1, MOST_TABLES)
        self._within("max_evictions", self.max_evictions, 0, 1 << 20)
        self._within("trials_per_shard", self.trials_per_shard, 0, 1 << 20)
        self._within("expansion_factor", self.expansion_factor, 1.001, 10)
        self._within("target_load_factor", self.target_load_factor, 0.01, 1)
        if self.max_bucket_size is not None:
            self._within("max_bucket_size", self.max_bucket_size, BUCKET_OVERHEAD + ENTRY_OVERHEAD, LARGEST_ENTRY)
        if self.bucket_count is not None:
            self._within("bucket_count", self.bucket_count, self.hash_function_count, 1 << 28)

    @staticmethod
    def _within(name: str, value: float, least: float, most: float) -> None:
        if not least <= value <= most:
            raise ParameterError(f"processing configuration: {name} is {value}; choose {least} to {most}")

    @property
    def encryption(self) -> EncryptionParameters:
        """The named parameters."""
        return parameters_named(self.rlwe_parameters)

    @property
    def entries_have_fixed_size(self) -> bool:
        """Whether an entry's size does not depend on the rows."""
        return self.use_max_bucket_size or self.bucket_count is not None

    def bucket_size(self, longest_value: int) -> int:
        """The most bytes of a bucket whose values have up to `longest_value` bytes."""
        if self.max_bucket_size is not None:
            return self.max_bucket_size
        single, plaintext = BUCKET_OVERHEAD + ENTRY_OVERHEAD + longest_value, self.encryption.bytes_per_plaintext
        return plaintext // 2 if single <= plaintext // 2 else -(-single // plaintext) * plaintext

    def buckets_for(self, serialized_bytes: int, bucket_size: int) -> int:
        """Buckets of all tables for entries of so many bytes together."""
        wanted = self.bucket_count
        if wanted is None:
            full = -(-serialized_bytes // bucket_size)
            wanted = max(1, -int(-full // self.target_load_factor))
        tables = self.hash_function_count
        return -(-wanted // tables) * tables

    def expanded(self, buckets: int) -> int:
        """More buckets, after entries found no place among `buckets`."""
        tables = self.hash_function_count
        return -(-max(buckets + 1, int(buckets * self.expansion_factor)) // tables) * tables

    def to_json(self) -> dict[str, Any]:
        """With Apple's keys."""
        cuckoo: dict[str, Any] = {
            "hashFunctionCount": self.hash_function_count,
            "maxEvictionCount": self.max_evictions,
            "bucketCount": {
                "allowExpansion": {
                    "expansionFactor": self.expansion_factor,
                    "targetLoadFactor": self.target_load_factor,
                }
            }
            if self.bucket_count is None
            else {"fixedSize": {"bucketCount": self.bucket_count}},
        }
        if self.max_bucket_size is not None:
            cuckoo["maxSerializedBucketSize"] = self.max_bucket_size
        other = self.sharding.other_shard_count
        return {
            "algorithm": "mulPir",
            "databaseType": "keyword",
            "rlweParameters": self.rlwe_parameters,
            "sharding": {"shardCount": self.shard_count},
            "shardingFunction": {"doubleMod": {"otherShardCount": other}} if other else "sha256",
            "cuckooTableArguments": cuckoo,
            "keyCompression": self.key_compression.value,
            "useMaxSerializedBucketSize": self.use_max_bucket_size,
            "unevenDimensions": self.uneven_dimensions,
            "trialsPerShard": self.trials_per_shard,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], row_count: int | None = None) -> ProcessingConfiguration:
        """From a configuration with Apple's keys; names of files in it are left to the caller.

        `row_count` is wanted where shards are given by their size (`entryCountPerShard`). `ParameterError`: a key that
        is not supported, or a value that cannot be.
        """
        reader = _Reader(data)
        reader.only("algorithm", "mulPir")
        reader.only("databaseType", "keyword")
        reader.only("symmetricPirArguments", None)
        reader.only("encodingEntrySize", False)
        cuckoo = _Reader(reader.mapping("cuckooTableArguments"))
        buckets = _Reader(cuckoo.mapping("bucketCount"))
        growing, fixed = _Reader(buckets.mapping("allowExpansion")), _Reader(buckets.mapping("fixedSize"))
        return cls(
            reader.get("rlweParameters", str, RECOMMENDED),
            _shard_count(_Reader(reader.mapping("sharding")), row_count),
            _sharding(reader.data.get("shardingFunction", "sha256")),
            cuckoo.get("hashFunctionCount", int, 2),
            cuckoo.get("maxEvictionCount", int, 100),
            cuckoo.get("maxSerializedBucketSize", int, None),
            fixed.get("bucketCount", int, None),
            growing.get("expansionFactor", float, 1.1),
            growing.get("targetLoadFactor", float, 0.9),
            _compression(reader.get("keyCompression", str, KeyCompression.NONE.value)),
            reader.get("useMaxSerializedBucketSize", bool, False),
            reader.get("unevenDimensions", bool, True),
            reader.get("trialsPerShard", int, 1),
        )


class _Reader:
    """Values of a JSON object, each of the type that it must be of."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data

    def get(self, key: str, kind: type, default: Any) -> Any:
        value = self.data.get(key)
        if value is None:
            return default
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise ParameterError(f"processing configuration: {key} is not of type {kind.__name__}")
        return value

    def mapping(self, key: str) -> Mapping[str, Any]:
        value = self.data.get(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise ParameterError(f"processing configuration: {key} is no object")
        return value

    def only(self, key: str, supported: object) -> None:
        if self.data.get(key, supported) != supported:
            raise ParameterError(f"processing configuration: {key} {self.data[key]!r} is not supported; leave it out")


def _shard_count(sharding: _Reader, row_count: int | None) -> int:
    per_shard = sharding.get("entryCountPerShard", int, None)
    if per_shard is None:
        return int(sharding.get("shardCount", int, 1))
    if row_count is None or per_shard < 1:
        raise ParameterError("processing configuration: entryCountPerShard needs rows, and to be 1 at least")
    count = max(1, row_count // per_shard)
    if sharding.get("requirePowerOfTwoShardCount", bool, False):
        count = 1 << (count.bit_length() - 1)
    return int(min(count, sharding.get("maxShardCount", int, MOST_SHARDS)))


def _sharding(value: object) -> ShardingFunction:
    if value == "sha256":
        return ShardingFunction()
    if isinstance(value, Mapping) and isinstance(value.get("doubleMod"), Mapping):
        other = value["doubleMod"].get("otherShardCount")
        if type(other) is int and 1 <= other <= MOST_SHARDS:
            return ShardingFunction(other)
    raise ParameterError("processing configuration: shardingFunction is sha256 or doubleMod with otherShardCount")


def _compression(value: str) -> KeyCompression:
    try:
        return KeyCompression(value)
    except ValueError:
        known = ", ".join(each.value for each in KeyCompression)
        raise ParameterError(f"processing configuration: keyCompression {value!r} is none of {known}") from None


__all__ = ["RECOMMENDED", "ProcessingConfiguration"]
