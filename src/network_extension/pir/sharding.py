"""Which shard of a database a keyword lies in (specification §1.5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .errors import ParameterError
from .hashing import keyword_hash
from .proto import pir_pb2

MOST_SHARDS = 1 << 20


@dataclass(frozen=True, slots=True)
class ShardingFunction:
    """`sha256`: by the keyword's hash. With `other_shard_count` ("double mod"): by that hash modulo another count
    first, so that keywords that share a shard in one database share one in another.
    """

    other_shard_count: int = 0
    """0: not double mod."""

    def shard_of(self, keyword: bytes, shard_count: int) -> int:
        """The number of the keyword's shard, from 0."""
        hashed = keyword_hash(keyword)
        return (hashed % self.other_shard_count if self.other_shard_count else hashed) % shard_count

    def shards_of(self, hashes: npt.NDArray[np.uint64], shard_count: int) -> npt.NDArray[np.int64]:
        """The shards of many keywords by their hashes (`keyword_hashes`)."""
        if self.other_shard_count:
            hashes = hashes % np.uint64(self.other_shard_count)
        return (hashes % np.uint64(shard_count)).astype(np.int64)

    def message(self) -> pir_pb2.PIRShardingFunction:
        """As it stands in parameters and configurations."""
        if self.other_shard_count:
            double_mod = pir_pb2.PIRShardingFunctionDoubleMod(other_shard_count=self.other_shard_count)
            return pir_pb2.PIRShardingFunction(double_mod=double_mod)
        return pir_pb2.PIRShardingFunction(sha256=pir_pb2.PIRShardingFunctionSHA256())

    @classmethod
    def from_message(cls, message: pir_pb2.PIRShardingFunction) -> ShardingFunction:
        """What a message says; an empty one is SHA-256, as older systems have it. `ParameterError`: count 0."""
        if message.WhichOneof("function") != "double_mod":
            return cls()
        if not message.double_mod.other_shard_count:
            raise ParameterError("sharding function: double mod by 0 shards; process the database with a count")
        return cls(message.double_mod.other_shard_count)


SHA256 = ShardingFunction()

__all__ = ["MOST_SHARDS", "SHA256", "ShardingFunction"]
