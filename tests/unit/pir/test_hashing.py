"""Hashes of keywords, candidates and shards: Apple's known answers, and the quick way against the plain one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.pir.errors import ParameterError
from network_extension.pir.hashing import candidate_table, candidates, keyword_hash, keyword_hashes
from network_extension.pir.proto import pir_pb2
from network_extension.pir.sharding import ShardingFunction

HASHES = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize(
    ("keyword", "buckets", "functions", "expected"),
    [((0, 1, 2, 3), 8, 3, (7, 3, 0)), ((3, 2, 1, 0), 2048, 5, (1989, 1767, 1260, 242, 1122))],
)
def test_candidates_as_apple_has_them(
    keyword: tuple[int, ...], buckets: int, functions: int, expected: tuple[int, ...]
) -> None:
    assert candidates(keyword_hash(bytes(keyword)), buckets, functions) == expected


def test_the_hash_is_the_beginning_of_sha256_little_endian() -> None:
    # SHA-256 of "abc": ba7816bf 8f01cfea … (FIPS 180-2, appendix B.1)
    assert keyword_hash(b"abc") == int.from_bytes(bytes.fromhex("ba7816bf8f01cfea"), "little")


@given(st.lists(HASHES, max_size=30), st.integers(1, 40), st.integers(1, 4))
def test_many_at_once_are_as_one_by_one(hashes: list[int], buckets: int, functions: int) -> None:
    table = candidate_table(hashes, buckets, functions)
    assert table.tolist() == [list(candidates(hashed, buckets, functions)) for hashed in hashes]


@given(HASHES, st.integers(2, 1000))
def test_two_candidates_of_a_keyword_differ(hashed: int, buckets: int) -> None:
    first, second = candidates(hashed, buckets, 2)
    # Ten retries may all meet the same bucket, at odds of 2 ** -10 and less.
    assert first != second or buckets < 16


@given(st.lists(st.binary(max_size=20), max_size=20), st.integers(1, 9), st.integers(0, 9))
def test_shards_of_many_are_as_one_by_one(keywords: list[bytes], count: int, other: int) -> None:
    sharding = ShardingFunction(other)
    assert sharding.shards_of(keyword_hashes(keywords), count).tolist() == [
        sharding.shard_of(keyword, count) for keyword in keywords
    ]


def test_double_mod_goes_by_the_other_count_first() -> None:
    hashed = keyword_hash(b"abc")
    assert ShardingFunction(7).shard_of(b"abc", 3) == hashed % 7 % 3
    assert ShardingFunction().shard_of(b"abc", 3) == hashed % 3


def test_sharding_functions_as_messages() -> None:
    for sharding in (ShardingFunction(), ShardingFunction(5)):
        assert ShardingFunction.from_message(sharding.message()) == sharding
    assert ShardingFunction.from_message(pir_pb2.PIRShardingFunction()) == ShardingFunction()
    empty = pir_pb2.PIRShardingFunction(double_mod=pir_pb2.PIRShardingFunctionDoubleMod())
    with pytest.raises(ParameterError, match="by 0 shards"):
        ShardingFunction.from_message(empty)


def test_no_keywords() -> None:
    assert keyword_hashes([]).dtype == np.uint64
    assert candidate_table([], 4, 2).shape == (0, 2)
