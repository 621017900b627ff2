"""What a server tells its clients of a database: the PIRConfig, its id, and the keys that it wants (§1.3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

from .errors import ParameterError
from .proto import api_pb2, he_pb2
from .shard_parameters import ShardParameters


def pir_config(shards: Sequence[ShardParameters]) -> api_pb2.PIRConfig:
    """The configuration of a database of these shards, as Apple's service makes it.

    Shards with the same dimensions are described once. `ParameterError`: no shard, or shards that were processed with
    different encryption, sharding or hash functions.
    """
    if not shards:
        raise ParameterError("configuration: a database has one shard at least")
    first = shards[0].message
    for number, shard in enumerate(shards):
        other = shard.message
        if (other.encryption_parameters, other.keyword_pir_params, other.batch_size) != (
            first.encryption_parameters,
            first.keyword_pir_params,
            first.batch_size,
        ):
            raise ParameterError(f"configuration: shard {number} was processed otherwise than shard 0; process all")
    config = api_pb2.PIRConfig(
        encryption_parameters=first.encryption_parameters,
        keyword_pir_params=first.keyword_pir_params,
        algorithm=first.algorithm,
        batch_size=first.batch_size,
        evaluation_key_config_hash=evaluation_key_hash(evaluation_key_configuration(shards)),
    )
    described = [_shard_config(shard) for shard in shards]
    if len(described) > 1 and all(each == described[0] for each in described):
        config.pir_shard_configs.repeated_shard_config.shard_config.CopyFrom(described[0])
        config.pir_shard_configs.repeated_shard_config.shard_count = len(described)
    else:
        config.shard_configs.extend(described)
    return config


def _shard_config(shard: ShardParameters) -> api_pb2.PIRShardConfig:
    # Apple's service sets an empty shard_id, which is serialized, and so is part of the configuration's id.
    return api_pb2.PIRShardConfig(
        num_entries=shard.message.num_entries,
        entry_size=shard.message.entry_size,
        dimensions=shard.message.dimensions,
        shard_id="",
    )


def config_id(config: api_pb2.PIRConfig) -> bytes:
    """The 32 bytes that name a configuration."""
    return sha256(config.SerializeToString(deterministic=True)).digest()


def evaluation_key_configuration(shards: Iterable[ShardParameters]) -> he_pb2.EvaluationKeyConfig:
    """The keys that serve all shards: the union of what each wants."""
    elements, union = set[int](), he_pb2.EvaluationKeyConfig()
    for shard in shards:
        wanted = shard.key_configuration
        union.encryption_parameters.CopyFrom(wanted.encryption_parameters)
        union.has_relin_key = union.has_relin_key or wanted.has_relin_key
        elements.update(wanted.galois_elements)
    union.galois_elements.extend(sorted(elements))
    return union


def evaluation_key_hash(configuration: he_pb2.EvaluationKeyConfig) -> bytes:
    """The 32 bytes that name a set of keys; a client's key has them as its identifier."""
    return sha256(configuration.SerializeToString(deterministic=True)).digest()


def expanded(config: api_pb2.PIRConfig) -> api_pb2.PIRConfig:
    """The configuration as systems before iOS 18.2 and macOS 15.2 read it: each shard described for itself."""
    repeated = config.pir_shard_configs.repeated_shard_config
    if not repeated.shard_count:
        return config
    plain = api_pb2.PIRConfig()
    plain.CopyFrom(config)
    plain.ClearField("pir_shard_configs")
    plain.shard_configs.extend([repeated.shard_config] * repeated.shard_count)
    return plain


__all__ = ["config_id", "evaluation_key_configuration", "evaluation_key_hash", "expanded", "pir_config"]
