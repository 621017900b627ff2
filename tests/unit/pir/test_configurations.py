"""What servers tell clients, and what clients believe."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf import text_format

from network_extension.pir.client import KeywordClient
from network_extension.pir.errors import ParameterError, PirError
from network_extension.pir.processing import buckets_for_rows, process_shard, shard_parameters
from network_extension.pir.processing_configuration import ProcessingConfiguration
from network_extension.pir.proto import api_pb2, he_pb2, pir_pb2
from network_extension.pir.service_configuration import (
    config_id,
    evaluation_key_configuration,
    evaluation_key_hash,
    expanded,
    pir_config,
)
from network_extension.pir.shard_parameters import ShardParameters, read_parameters

VECTORS = Path(__file__).parents[2] / "vectors" / "pir"


def parameters(name: str) -> list[ShardParameters]:
    return [read_parameters(path) for path in sorted(VECTORS.glob(f"{name}-*.params.txtpb"))]


@pytest.mark.parametrize("name", ["small", "urls"])
def test_the_key_configuration_is_apples(name: str) -> None:
    apples = text_format.Parse((VECTORS / f"{name}.evk.txtpb").read_text(), he_pb2.EvaluationKeyConfig())
    assert evaluation_key_configuration(parameters(name)) == apples
    assert pir_config(parameters(name)).evaluation_key_config_hash == evaluation_key_hash(apples)


def test_equal_shards_are_described_once() -> None:
    config = pir_config(parameters("urls"))
    repeated = config.pir_shard_configs.repeated_shard_config
    assert repeated.shard_count == 3 and not config.shard_configs
    assert repeated.shard_config.HasField("shard_id")
    plain = expanded(config)
    assert list(plain.shard_configs) == [repeated.shard_config] * 3
    assert not plain.HasField("pir_shard_configs") and plain.evaluation_key_config_hash
    assert KeywordClient(plain).shard_count == KeywordClient(config).shard_count == 3


def test_different_shards_are_described_each_for_itself() -> None:
    config = pir_config(parameters("small"))
    assert [shard.num_entries for shard in config.shard_configs] == [4, 3]
    assert expanded(config) is config
    assert KeywordClient(config).shard_count == 2


def test_the_id_follows_the_configuration() -> None:
    first, again, other = (
        pir_config(parameters("urls")),
        pir_config(parameters("urls")),
        pir_config(parameters("small")),
    )
    assert config_id(first) == config_id(again) != config_id(other)
    assert len(config_id(first)) == 32


def test_shards_that_do_not_belong_together() -> None:
    with pytest.raises(ParameterError, match="one shard at least"):
        pir_config([])
    three = ProcessingConfiguration(hash_function_count=3)
    with pytest.raises(ParameterError, match="shard 1 was processed otherwise"):
        pir_config([parameters("urls")[0], shard_parameters(three, 7, 1024)])


def test_parameters_stay_the_same_while_rows_come_and_go() -> None:
    buckets = buckets_for_rows(2000, 1, ProcessingConfiguration())
    fixed = ProcessingConfiguration(bucket_count=buckets)
    made = [process_shard([b"%d" % n for n in range(count)], [b"1"] * count, fixed) for count in (10, 1000, 2000)]
    assert len({config_id(pir_config([each.parameters])) for each in made}) == 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: setattr(c, "algorithm", pir_pb2.PIR_ALGORITHM_ACLS_UNSPECIFIED), "only MulPIR"),
        (lambda c: setattr(c, "encoding_entry_size", True), "only MulPIR"),
        (lambda c: setattr(c, "evaluation_key_config_hash", bytes(32)), "another hash than it says"),
        (lambda c: setattr(c.encryption_parameters, "plaintext_modulus", 18), "no known set"),
        (lambda c: setattr(c.encryption_parameters, "security_level", 0), "128-bit security"),
        (lambda c: setattr(c, "batch_size", 3), "2 hash functions with batches of 3"),
        (lambda c: setattr(c.pir_shard_configs.repeated_shard_config, "shard_count", 0), "0 shards"),
        (lambda c: setattr(c.pir_shard_configs.repeated_shard_config, "shard_count", 1 << 40), "shards; 1 to"),
        (lambda c: c.shard_configs.add(), "described twice"),
        (lambda c: c.keyword_pir_params.symmetric_pir_client_config.SetInParent(), "symmetric PIR"),
    ],
)
def test_a_client_believes_no_other(spoil: Callable[[api_pb2.PIRConfig], object], message: str) -> None:
    config = pir_config(parameters("urls"))
    spoil(config)
    with pytest.raises(ParameterError, match=message):
        KeywordClient(config)


def test_keys_are_saved_and_restored() -> None:
    client = KeywordClient(pir_config(parameters("urls")))
    keys = client.new_keys(os.urandom)
    restored = client.restore(client.save(keys), keys.evaluation_key)
    assert restored.identifier == keys.identifier == pir_config(parameters("urls")).evaluation_key_config_hash
    assert client.save(restored) == client.save(keys)
    assert "secret" not in repr(keys)
    for bad in (b"", b"\xff\xff", b"\x0a\x01x"):
        with pytest.raises(PirError):
            client.restore(bad, keys.evaluation_key)


class TestApplesProcessingConfiguration:
    def test_round_trip(self) -> None:
        for data in ({}, {"keyCompression": "maxCompression", "sharding": {"shardCount": 5}}):
            configuration = ProcessingConfiguration.from_json(data)
            assert ProcessingConfiguration.from_json(configuration.to_json()) == configuration

    def test_shards_by_their_size(self) -> None:
        data = {"sharding": {"entryCountPerShard": 1000, "requirePowerOfTwoShardCount": True, "maxShardCount": 4}}
        assert ProcessingConfiguration.from_json(data, 7000).shard_count == 4
        assert ProcessingConfiguration.from_json(data, 3000).shard_count == 2
        with pytest.raises(ParameterError, match="entryCountPerShard"):
            ProcessingConfiguration.from_json(data)

    @pytest.mark.parametrize(
        "data",
        [
            {"algorithm": "aclsPir"},
            {"rlweParameters": "n_8192_logq_3x55_logt_24"},
            {"rlweParameters": 5},
            {"sharding": {"shardCount": 0}},
            {"sharding": []},
            {"shardingFunction": {"doubleMod": {"otherShardCount": 0}}},
            {"shardingFunction": "md5"},
            {"keyCompression": "zip"},
            {"encodingEntrySize": True},
            {"symmetricPirArguments": {}},
            {"cuckooTableArguments": {"hashFunctionCount": 99}},
            {"cuckooTableArguments": {"bucketCount": {"allowExpansion": {"targetLoadFactor": 0}}}},
            {"trialsPerShard": True},
        ],
        ids=str,
    )
    def test_what_cannot_be(self, data: dict[str, object]) -> None:
        with pytest.raises(ParameterError):
            ProcessingConfiguration.from_json(data)
