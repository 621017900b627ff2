"""The client's side of a lookup: keys, queries that say nothing, and what the answers hold (§2.6, §2.7).

A query is a ciphertext of zeros with a value at one row and one column for each table, so the server cannot tell which
bucket is wanted, nor whether the keyword is there. Nothing that is learned from an answer goes back to the server.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from google.protobuf.message import DecodeError

from .dimensions import Dimensions, KeyCompression, ceil_log2, galois_elements
from .errors import ParameterError, SerializationError
from .hash_bucket import read_bucket
from .hashing import candidates, keyword_hash
from .he.context import Context
from .he.encryption import decrypt, encrypt
from .he.keys import SecretKey, generate_evaluation_key, generate_secret_key
from .he.parameters import EncryptionParameters
from .he.plaintext import decode_coefficients
from .he.serialization import (
    parse_ciphertext,
    parse_secret_key,
    serialize_ciphertext,
    serialize_evaluation_key,
    serialize_secret_key,
)
from .proto import api_pb2, he_pb2, pir_pb2
from .service_configuration import evaluation_key_hash
from .shard_parameters import grid, table_count
from .sharding import MOST_SHARDS, ShardingFunction

Random = Callable[[int], bytes]


@dataclass(frozen=True, slots=True, eq=False)
class ClientKeys:
    """A client's secret, and the keys that it sends to the server, which say nothing of it."""

    secret: SecretKey = field(repr=False)
    evaluation_key: he_pb2.SerializedEvaluationKey = field(repr=False)
    """For POST /key; 0.3 to 0.8 MB."""
    identifier: bytes
    """The hash of the key configuration that it serves."""


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """One lookup on its way."""

    shard_index: int
    message: pir_pb2.EncryptedIndices = field(repr=False)
    hashed: int = field(repr=False)
    buckets: tuple[int, ...] = field(repr=False)


class KeywordClient:
    """Makes queries for a database by its configuration. `ParameterError`: a configuration that is not to be trusted,
    or not supported.
    """

    def __init__(self, config: api_pb2.PIRConfig, key_configuration: he_pb2.EvaluationKeyConfig | None = None) -> None:
        """`key_configuration` is what the server's ConfigResponse says of keys; without it, Apple's three ways to
        choose them are tried.
        """
        if config.algorithm != pir_pb2.PIR_ALGORITHM_MUL_PIR or config.encoding_entry_size:
            raise ParameterError("configuration: only MulPIR without encoded entry sizes is supported")
        self.encryption = EncryptionParameters.from_message(config.encryption_parameters)
        self._context = Context.of(self.encryption)
        self._tables = table_count(config.keyword_pir_params, config.batch_size)
        self._sharding = ShardingFunction.from_message(config.keyword_pir_params.sharding_function)
        self._grids = _grids(config, self.encryption, self._tables)
        self.key_configuration = self._known_keys(config.evaluation_key_config_hash, key_configuration)

    @property
    def shard_count(self) -> int:
        """Shards of the database."""
        return len(self._grids)

    def new_keys(self, random: Random) -> ClientKeys:
        """A fresh secret and its evaluation key; some 20 ms."""
        secret = generate_secret_key(self._context, random)
        wanted = self.key_configuration
        key = generate_evaluation_key(
            self._context, secret, tuple(wanted.galois_elements), wanted.has_relin_key, random
        )
        return ClientKeys(secret, serialize_evaluation_key(self._context, key), evaluation_key_hash(wanted))

    def query(self, keyword: bytes, keys: ClientKeys, random: Random) -> Query:
        """A query for one keyword, which is in one shard only."""
        hashed = keyword_hash(keyword)
        shard = self._sharding.shard_of(keyword, len(self._grids))
        shape = self._grids[shard]
        buckets = candidates(hashed, shape.entry_count, self._tables)
        total = shape.one_hot_length * self._tables
        coefficients = np.zeros((-(-total // self._context.degree), self._context.degree), np.uint32)
        modulus = self.encryption.plaintext_modulus
        value = pow(1 << ceil_log2(total), -1, modulus)  # expansion doubles it once for each step
        for table, bucket in enumerate(buckets):
            row, column = shape.coordinates(bucket)
            for place in (row, shape.rows + column):
                coefficients.flat[table * shape.one_hot_length + place] = value
        ciphertexts = [encrypt(self._context, plaintext, keys.secret, random) for plaintext in coefficients]
        message = pir_pb2.EncryptedIndices(
            ciphertexts=[serialize_ciphertext(self._context, each) for each in ciphertexts], num_pir_calls=self._tables
        )
        return Query(shard, message, hashed, buckets)

    def value(self, query: Query, keys: ClientKeys, response: pir_pb2.PIRResponse) -> bytes | None:
        """What the database has for the query's keyword; None: nothing. `PirError`: the answer is malformed."""
        shape = self._grids[query.shard_index]
        if len(response.replies) != self._tables:
            raise SerializationError(f"answer: {len(response.replies)} replies to {self._tables} lookups")
        found: bytes | None = None
        for bucket, reply in zip(query.buckets, response.replies, strict=True):
            if len(reply.ciphertexts) != shape.chunks:
                raise SerializationError(f"answer: {len(reply.ciphertexts)} ciphertexts for {shape.chunks} plaintexts")
            data = b"".join(self._decrypted(each, keys) for each in reply.ciphertexts)
            start = shape.offset(bucket)
            value = read_bucket(data[start : start + shape.entry_size]).get(query.hashed)
            found = value if found is None else found
        return found

    def _decrypted(self, message: he_pb2.SerializedCiphertext, keys: ClientKeys) -> bytes:
        ciphertext = parse_ciphertext(self._context, message, rows=1)
        return decode_coefficients(self._context, decrypt(self._context, ciphertext, keys.secret))

    def save(self, keys: ClientKeys) -> bytes:
        """The secret as bytes, to be kept where nobody else reads."""
        return serialize_secret_key(self._context, keys.secret).SerializeToString()

    def restore(self, secret: bytes, evaluation_key: he_pb2.SerializedEvaluationKey) -> ClientKeys:
        """Keys that were saved. `PirError`: they are none of these parameters."""
        parsed = he_pb2.SerializedSecretKey()
        try:
            parsed.ParseFromString(secret)
        except DecodeError:
            raise SerializationError("secret key: these bytes are none; make new keys") from None
        identifier = evaluation_key_hash(self.key_configuration)
        return ClientKeys(parse_secret_key(self._context, parsed), evaluation_key, identifier)

    def _known_keys(self, wanted: bytes, given: he_pb2.EvaluationKeyConfig | None) -> he_pb2.EvaluationKeyConfig:
        """The key configuration whose hash the server wants."""
        options = [self._keys_for(compression) for compression in KeyCompression] if given is None else [given]
        for option in options:
            if evaluation_key_hash(option) == wanted:
                if option.encryption_parameters != self.encryption.message():
                    raise ParameterError("configuration: its keys are for other encryption parameters; refused")
                return option
        raise ParameterError("configuration: its key configuration has another hash than it says; fetch both again")

    def _keys_for(self, compression: KeyCompression) -> he_pb2.EvaluationKeyConfig:
        elements = set[int]()
        for shape in set(self._grids):
            elements.update(galois_elements(shape.one_hot_length * self._tables, self._context.degree, compression))
        return he_pb2.EvaluationKeyConfig(
            encryption_parameters=self.encryption.message(), galois_elements=sorted(elements), has_relin_key=True
        )


def _grids(config: api_pb2.PIRConfig, encryption: EncryptionParameters, tables: int) -> list[Dimensions]:
    repeated = config.pir_shard_configs.repeated_shard_config
    shards = config.shard_configs or [repeated.shard_config]
    count = repeated.shard_count or len(config.shard_configs)
    if not 1 <= count <= MOST_SHARDS:
        raise ParameterError(f"configuration: {count} shards; 1 to {MOST_SHARDS} are supported")
    if repeated.shard_count and config.shard_configs:
        raise ParameterError("configuration: shards are described twice; fetch it again")
    grids = [grid(shard.dimensions, shard.num_entries, shard.entry_size, encryption, tables) for shard in shards]
    return grids * count if repeated.shard_count else grids


__all__ = ["ClientKeys", "KeywordClient", "Query"]
