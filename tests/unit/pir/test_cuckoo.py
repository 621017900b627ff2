"""Every entry finds a place among its candidates, or it is said that none is left."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network_extension.pir.cuckoo import BUCKET_OVERHEAD, ENTRY_OVERHEAD, Placement, place
from network_extension.pir.errors import SerializationError
from network_extension.pir.hash_bucket import read_bucket, write_buckets
from network_extension.pir.hashing import candidate_table, keyword_hashes


def placed(count: int, sizes: list[int], buckets: int, bucket_size: int, seed: int = 1) -> Placement | None:
    hashes = keyword_hashes([b"%d" % number for number in range(count)])
    table = candidate_table(hashes.tolist(), buckets, 2)
    return place(table, np.array(sizes, np.int32), buckets, bucket_size, 100, seed)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=300), st.integers(1, 20), st.integers(71, 400))
def test_each_entry_lies_in_one_of_its_candidates(sizes: list[int], buckets: int, bucket_size: int) -> None:
    hashes = keyword_hashes([b"%d" % number for number in range(len(sizes))])
    table = candidate_table(hashes.tolist(), buckets, 2)
    found = place(table, np.array(sizes, np.int32), buckets, bucket_size, 100, 7)
    if found is None:
        # None is an answer only where it is tight: a table twice as large as its content always does.
        assert sum(sizes) + ENTRY_OVERHEAD * len(sizes) > buckets * bucket_size / 4 or buckets < 3
        return
    seen = set[int]()
    for bucket, count in enumerate(found.counts.tolist()):
        entries = found.slots[bucket, :count].tolist()
        assert found.sizes[bucket] == BUCKET_OVERHEAD + sum(sizes[entry] + ENTRY_OVERHEAD for entry in entries)
        assert found.sizes[bucket] <= bucket_size and count <= 255
        for entry in entries:
            assert bucket == bucket // buckets * buckets + table[entry, bucket // buckets]
            seen.add(entry)
    assert seen == set(range(len(sizes)))


def test_the_same_seed_gives_the_same_placement() -> None:
    first, second = (placed(900, [1] * 900, 5, 1024, seed=3) for _ in range(2))
    assert first is not None and second is not None
    assert np.array_equal(first.counts, second.counts)


def test_a_full_table_is_known_as_such() -> None:
    assert placed(100, [1] * 100, 2, 64) is None


def test_an_entry_larger_than_a_bucket_has_no_place() -> None:
    assert placed(1, [60], 4, 70) is None


def test_entries_push_each_other_out_until_all_have_a_place() -> None:
    # 360 entries of 11 bytes in 2 x 2 buckets of 93: nothing like that works without evictions.
    assert placed(360, [1] * 360, 2, 1024) is not None


def test_buckets_as_bytes() -> None:
    keywords, values = [b"a", b"b", b"c"], [b"1", b"", b"long value"]
    hashes = keyword_hashes(keywords)
    sizes = np.array([len(value) for value in values], np.int32)
    found = place(candidate_table(hashes.tolist(), 1, 2), sizes, 1, 64, 10, 1)
    assert found is not None
    data = write_buckets(found, hashes, np.frombuffer(b"".join(values), np.uint8), np.cumsum(sizes), 64)
    together = {name: value for bucket in data for name, value in read_bucket(bucket.tobytes()).items()}
    assert together == dict(zip(hashes.tolist(), values, strict=True))
    with pytest.raises(ValueError, match="does not fit"):
        write_buckets(found, hashes, np.frombuffer(b"".join(values), np.uint8), np.cumsum(sizes), 8)


def test_a_bucket_of_apples_form() -> None:
    """Count, hash (little-endian), length (little-endian), value; then padding."""
    data = bytes.fromhex("01 0807060504030201 0200 6869 0000")
    assert read_bucket(data) == {0x0102030405060708: b"hi"}
    assert read_bucket(b"") == read_bucket(bytes(20)) == {}


@given(st.binary(max_size=80))
def test_any_bytes_are_a_bucket_or_an_error(data: bytes) -> None:
    try:
        found = read_bucket(data)
    except SerializationError:
        return
    assert sum(map(len, found.values())) <= len(data)
