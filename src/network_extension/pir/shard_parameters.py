"""The parameters of a processed shard: the file NAME-SHARD.params.txtpb, checked and with what follows from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format

from .dimensions import Dimensions
from .errors import DatabaseError, ParameterError
from .he.parameters import EncryptionParameters
from .proto import he_pb2, pir_pb2
from .replacing import replacing
from .sharding import ShardingFunction

LARGEST_FILE = 1 << 20
MOST_TABLES = 8
LARGEST_ENTRY = 1 << 24


@dataclass(frozen=True, slots=True)
class ShardParameters:
    """What a shard was processed with."""

    message: pir_pb2.PirParameters
    """As Apple's tools write it."""
    encryption: EncryptionParameters
    dimensions: Dimensions
    """The grid of one table."""
    table_count: int
    sharding: ShardingFunction

    @property
    def one_hot_total(self) -> int:
        """Values in a query: rows and columns of each table."""
        return self.dimensions.one_hot_length * self.table_count

    @property
    def plaintext_count(self) -> int:
        """Plaintexts of all tables, with those that pad."""
        return self.dimensions.plaintexts * self.table_count

    @property
    def key_configuration(self) -> he_pb2.EvaluationKeyConfig:
        """The keys that a client must have sent."""
        return self.message.evaluation_key_config

    @classmethod
    def from_message(cls, message: pir_pb2.PirParameters) -> ShardParameters:
        """Check a message. `ParameterError`: what it asks for is unknown, or does not fit together."""
        if message.algorithm != pir_pb2.PIR_ALGORITHM_MUL_PIR:
            raise ParameterError("shard parameters: the algorithm is not MulPIR; process the database with mulPir")
        if message.encoding_entry_size:
            raise ParameterError("shard parameters: entries with their size encoded are not supported; process without")
        encryption = EncryptionParameters.from_message(message.encryption_parameters)
        tables = table_count(message.keyword_pir_params, message.batch_size)
        return cls(
            message,
            encryption,
            grid(message.dimensions, message.num_entries, message.entry_size, encryption, tables),
            tables,
            ShardingFunction.from_message(message.keyword_pir_params.sharding_function),
        )


def grid(
    sides: Iterable[int], entry_count: int, entry_size: int, encryption: EncryptionParameters, tables: int
) -> Dimensions:
    """The grid of each table that a message describes. `ParameterError`: it is none, or they are too large together for
    a query of one ciphertext.
    """
    numbers = tuple(sides)
    if len(numbers) != 2:
        raise ParameterError(f"shard parameters: {len(numbers)} dimensions; two are supported")
    if entry_size > LARGEST_ENTRY:
        raise ParameterError(f"shard parameters: entries of {entry_size} bytes; {LARGEST_ENTRY} are the most")
    if sum(numbers) * tables > encryption.degree:
        raise ParameterError(f"shard parameters: dimensions {numbers} are too large for one query; use more shards")
    return Dimensions(*numbers, entry_count, entry_size, encryption.bytes_per_plaintext)


def table_count(keyword_parameters: pir_pb2.KeywordPirParameters, batch_size: int) -> int:
    """The number of cuckoo tables. `ParameterError`: none, too many, or private to two parties."""
    count = keyword_parameters.num_hash_functions
    if keyword_parameters.HasField("symmetric_pir_client_config"):
        raise ParameterError("shard parameters: symmetric PIR is not supported; process the database without it")
    if not 1 <= count <= MOST_TABLES or count != batch_size:
        raise ParameterError(f"shard parameters: {count} hash functions with batches of {batch_size}; process it again")
    return int(count)


def read_parameters(path: Path) -> ShardParameters:
    """The parameters in a file. `DatabaseError`: unreadable, or not such parameters."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise DatabaseError(f"{path}: {error.strerror}; name a processed database") from error
    if len(data) > LARGEST_FILE:
        raise DatabaseError(f"{path}: more than {LARGEST_FILE} bytes are no parameters; name a params.txtpb file")
    try:
        message = text_format.Parse(data.decode("utf-8"), pir_pb2.PirParameters())
        return ShardParameters.from_message(message)
    except (text_format.ParseError, UnicodeDecodeError, ParameterError) as error:
        raise DatabaseError(f"{path}: {error}; process the database again") from error


def write_parameters(path: Path, message: pir_pb2.PirParameters) -> None:
    """Write parameters as Apple's tools do. `DatabaseError`: the disk."""
    text = text_format.MessageToString(message, use_short_repeated_primitives=True)
    with replacing(path) as file:
        file.write(text.encode())


__all__ = ["ShardParameters", "grid", "read_parameters", "table_count", "write_parameters"]
