"""One processed shard, ready to answer queries."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .errors import SerializationError
from .he.answering import answer_query
from .he.context import Context
from .he.keys import EvaluationKey
from .he.serialization import parse_ciphertext, serialize_response
from .native_file import open_plaintexts
from .plaintext_file import Plaintexts
from .proto import he_pb2, pir_pb2
from .shard_parameters import ShardParameters, read_parameters


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """A shard of a keyword database. Answering is safe from any number of threads, and runs without the GIL."""

    checked: ShardParameters
    plaintexts: Plaintexts = field(repr=False)
    """(n, L, N), often a memory map."""

    @classmethod
    def open(cls, bin_path: Path, parameters_path: Path) -> Shard:
        """A shard from Apple's two files. `DatabaseError`: one of them is unreadable, damaged, or of another shard."""
        checked = read_parameters(parameters_path)
        context = Context.of(checked.encryption)
        return cls(checked, open_plaintexts(bin_path, context, checked.plaintext_count))

    @property
    def parameters(self) -> pir_pb2.PirParameters:
        """As they stand in the file."""
        return self.checked.message

    @property
    def context(self) -> Context:
        """Tables of the shard's encryption parameters."""
        return Context.of(self.checked.encryption)

    def answer(self, query: pir_pb2.EncryptedIndices, key: EvaluationKey, threads: int = 1) -> pir_pb2.PIRResponse:
        """The encrypted buckets that `query` asks for, one reply for each table.

        `PirError`: the query is malformed, or was made for other parameters, or the key lacks what they need.
        """
        context, grid, tables = self.context, self.checked.dimensions, self.checked.table_count
        wanted = -(-self.checked.one_hot_total // context.degree)
        if len(query.ciphertexts) != wanted or query.num_pir_calls != tables:
            raise SerializationError(
                f"query: {len(query.ciphertexts)} ciphertexts for {query.num_pir_calls} lookups, where this shard takes"
                f" {wanted} for {tables}; it was made for another configuration"
            )
        shape = tables, grid.chunks, grid.columns, grid.rows, context.level, context.degree
        ciphertexts = [parse_ciphertext(context, message) for message in query.ciphertexts]
        replies = answer_query(context, self.plaintexts.reshape(shape), ciphertexts, key, threads)
        return pir_pb2.PIRResponse(
            replies=[
                he_pb2.SerializedCiphertextVec(ciphertexts=[serialize_response(context, each) for each in chunks])
                for chunks in replies
            ]
        )


__all__ = ["Shard"]
