"""POST /config: which databases there are, and whether the server has the client's evaluation key. Sans-IO.

Specification §1.2 and §1.3. Existing ids save the body: an id that is still current is answered by
`reuse_existing_config`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ...pir.proto.api_pb2 import Config, ConfigRequest, ConfigResponse, KeyStatus, PIRConfig
from .catalogue import Catalogue, ServedVersion
from .refusals import Refusal, bad_request


def requested_versions(request: ConfigRequest, catalogue: Catalogue) -> list[ServedVersion]:
    """The newest version of each use case that is asked for, in their order; all when none is named.

    Raises `Refusal`: 404 for a use case that is not served, 400 for a wrong number of existing ids.
    """
    if len(request.existing_config_ids) not in (0, len(request.usecases)):
        raise bad_request(
            f"{len(request.existing_config_ids)} existing configuration ids for {len(request.usecases)} use cases"
        )
    return [catalogue.newest(name) for name in request.usecases or sorted(catalogue.versions)]


def config_response(
    request: ConfigRequest,
    versions: Iterable[ServedVersion],
    key_timestamps: Mapping[bytes, int],
    *,
    reads_repeated_shards: bool,
) -> ConfigResponse:
    """The answer. `key_timestamps`: by identifier of the key, when the client's was stored; none: it is not there.

    Raises `Refusal` 500 for a system that cannot read this database's sharding.
    """
    response = ConfigResponse()
    existing = list(request.existing_config_ids)
    told: set[bytes] = set()
    for index, version in enumerate(versions):
        held = existing[index] if index < len(existing) else None
        response.configs[version.use_case].CopyFrom(_config(version, held, reads_repeated_shards))
        if version.key_identifier not in told:
            told.add(version.key_identifier)
            timestamp = key_timestamps.get(version.key_identifier, 0)
            response.key_info.append(KeyStatus(timestamp=timestamp, key_config=version.key_config))
    return response


def _config(version: ServedVersion, held: bytes | None, reads_repeated_shards: bool) -> Config:
    config = Config(config_id=version.config_id)
    if held == version.config_id:
        config.reuse_existing_config = True
    elif reads_repeated_shards:
        config.pir_config.CopyFrom(version.config)
    else:
        config.pir_config.CopyFrom(for_old_systems(version.config))
    return config


def for_old_systems(config: PIRConfig) -> PIRConfig:
    """The same with each shard described for itself, as iOS before 18.2 and macOS before 15.2 read it (§1.2).

    Raises `Refusal` 500 when shards are not chosen by SHA-256: there is no way to say that to them.
    """
    if config.keyword_pir_params.sharding_function.HasField("double_mod"):
        raise Refusal(500, "This system is too old for the sharding of this database")
    old = PIRConfig()
    old.CopyFrom(config)
    if config.pir_shard_configs.HasField("repeated_shard_config"):
        repeated = config.pir_shard_configs.repeated_shard_config
        old.ClearField("pir_shard_configs")
        old.shard_configs.extend([repeated.shard_config] * repeated.shard_count)
    return old
