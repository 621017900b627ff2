"""What computes: the only module here that knows homomorphic encryption. Imports numba, so it takes a second."""

from __future__ import annotations

from ...pir.errors import ParameterError
from ...pir.he.context import Context
from ...pir.he.keys import EvaluationKey
from ...pir.he.parameters import EncryptionParameters
from ...pir.he.serialization import parse_evaluation_key
from ...pir.proto.he_pb2 import EvaluationKeyConfig, SerializedEvaluationKey
from ...pir.service_configuration import config_id, evaluation_key_configuration, pir_config
from ...pir.shard import Shard
from .catalogue import ServedVersion
from .loading import VersionFiles


class LookupEngine:
    """Opens databases and reads keys."""

    def open_version(self, files: VersionFiles) -> ServedVersion:
        """Open all shards of a version, and describe them to clients. Raises `PirError` and OSError."""
        shards = tuple(Shard.open(data, parameters) for data, parameters in files.shards)
        described = [shard.checked for shard in shards]
        config = pir_config(described)
        return ServedVersion(
            use_case=files.use_case,
            label=files.label,
            config=config,
            config_id=config_id(config),
            key_config=evaluation_key_configuration(described),
            key_identifier=config.evaluation_key_config_hash,
            shards=shards,
        )

    def read_key(self, config: EvaluationKeyConfig, message: SerializedEvaluationKey) -> EvaluationKey:
        """The key, which holds all that `config` demands and nothing else. Raises `PirError`."""
        galois, wanted = set(message.galois_key.key_switch_keys), set(config.galois_elements)
        if galois != wanted or message.HasField("relin_key") != config.has_relin_key:
            raise ParameterError(
                f"evaluation key: {len(galois & wanted)} of {len(wanted)} Galois keys, {len(galois - wanted)} others;"
                " make the key from the configuration's evaluation key config"
            )
        return parse_evaluation_key(
            Context.of(EncryptionParameters.from_message(config.encryption_parameters)), message
        )

    def key_bytes(self, key: EvaluationKey) -> int:
        """What a key takes in memory."""
        held = [*key.galois.values(), *([key.relinearisation] if key.relinearisation else [])]
        return sum(part.factors.nbytes for part in held)
