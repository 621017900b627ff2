"""The prefilter against known answers: Apple's sample unit test, and the beta's filter of the same strings."""

from __future__ import annotations

import base64
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.urlfilter.bloom import (
    BloomHash,
    Prefilter,
    PrefilterError,
    PrefilterSize,
    build_prefilter,
    build_prefilter_from_blocks,
    size_for,
)
from network_extension.urlfilter.bloom_hashes import fnv_1, fnv_1a, hash_pair, murmur_3
from network_extension.urlfilter.bloom_kernels import hash_strings, line_bounds

ITEMS = ["example.com", *(f"example{n}.com" for n in range(2, 10)), "example10.com/resource?query=bugs"]
RELEASE_SEED, RELEASE_DATA = 1267652889, "JGguOvZzlBEHYkUWJC5vw/eH"
BETA_SEED, BETA_DATA = 3919904948, "KnFnz7/dUDyK51HqlhTlswav"


def test_apples_sample_filter_bit_for_bit() -> None:
    prefilter = build_prefilter(ITEMS, murmur_seed=RELEASE_SEED)
    assert (prefilter.bit_count, prefilter.hash_count, prefilter.item_count) == (144, 10, 10)
    assert base64.b64encode(prefilter.data).decode() == RELEASE_DATA
    assert all(item in prefilter for item in ITEMS)
    assert "example11.com" not in prefilter


def test_a_filter_of_the_beta_is_read_with_the_betas_hash() -> None:
    beta = Prefilter(base64.b64decode(BETA_DATA), 144, 10, BETA_SEED, hash=BloomHash.FNV_1)
    assert all(item in beta for item in ITEMS)
    release = Prefilter(beta.data, 144, 10, BETA_SEED)
    assert not any(item in release for item in ITEMS)


@pytest.mark.parametrize(
    ("data", "expected_1a", "expected_1"),
    [(b"", 0x811C9DC5, 0x811C9DC5), (b"a", 0xE40C292C, 0x050C5D7E), (b"foobar", 0xBF9CF968, 0x31F0B262)],
)
def test_fnv_known_answers(data: bytes, expected_1a: int, expected_1: int) -> None:
    assert (fnv_1a(data), fnv_1(data)) == (expected_1a, expected_1)


@pytest.mark.parametrize(
    ("data", "seed", "expected"),
    [
        (b"", 0, 0),
        (b"", 1, 0x514E28B7),
        (b"\0\0\0\0", 0, 0x2362F9DE),
        (b"aaaa", 0x9747B28C, 0x5A97808A),
        (b"aaa", 0x9747B28C, 0x283E0130),
        (b"Hello, world!", 0x9747B28C, 0x24884CBA),
    ],
)
def test_murmur_known_answers(data: bytes, seed: int, expected: int) -> None:
    assert murmur_3(data, seed) == expected


@given(
    st.lists(st.binary(min_size=1).filter(lambda item: b"\n" not in item)), st.integers(0, 0xFFFFFFFF), st.booleans()
)
def test_compiled_hashes_are_those_of_the_plain_functions(items: list[bytes], seed: int, is_fnv_1a: bool) -> None:
    buffer = np.frombuffer(b"\n".join(items), np.uint8)
    starts, ends = line_bounds(buffer)
    kind = BloomHash.FNV_1A if is_fnv_1a else BloomHash.FNV_1
    expected = [hash_pair(item, seed, kind) for item in items]
    assert [tuple(pair) for pair in hash_strings(buffer, starts, ends, seed, is_fnv_1a).tolist()] == expected


@given(st.lists(st.text(min_size=1), max_size=50), st.integers(1, 0xFFFFFFFF))
def test_no_member_is_ever_missed(items: list[str], seed: int) -> None:
    encodable = [item for item in items if not any(0xD800 <= ord(letter) < 0xE000 for letter in item)]
    prefilter = build_prefilter(encodable, murmur_seed=seed)
    assert all(item in prefilter for item in encodable)


def test_streams_of_unknown_length_blocks_and_a_known_count_give_the_same_filter() -> None:
    items = [f"host{n}.example/path" for n in range(70_000)]
    streamed = build_prefilter(iter(items), murmur_seed=7)
    lines = "".join(f"{item}\n" for item in items).encode()
    half = lines.index(b"\n", len(lines) // 2) + 1
    assert build_prefilter_from_blocks([lines[:half], lines[half:]], murmur_seed=7) == streamed
    assert build_prefilter(items, item_count=len(items), murmur_seed=7) == streamed


def test_the_rate_of_false_positives_is_the_one_asked_for() -> None:
    prefilter = build_prefilter((f"in{n}.example" for n in range(20_000)), tolerance=0.01, murmur_seed=3)
    wrong = sum(f"out{n}.example" in prefilter for n in range(20_000)) / 20_000
    assert 0.005 < wrong < 0.015
    assert math.isclose(prefilter.false_positive_rate, 0.01, rel_tol=0.3)


def test_sizes() -> None:
    assert size_for(10) == PrefilterSize(144, 10)
    assert size_for(10_000_000, 0.001) == PrefilterSize(143_775_876, 10)
    assert size_for(1000, byte_count=1250) == PrefilterSize(10_000, 7)
    assert size_for(1, byte_count=1 << 20).hash_count == 32  # not 5.8 million


def test_an_empty_list_gives_a_filter_that_holds_nothing() -> None:
    prefilter = build_prefilter([], murmur_seed=1)
    assert prefilter.data == b"\0" and prefilter.fill == 0
    assert "example.com" not in prefilter


def test_seeds_are_random_and_never_zero() -> None:
    draws = iter([bytes(4), bytes(4), b"\1\0\0\0"])
    assert build_prefilter([], random=lambda _: next(draws)).murmur_seed == 1


@pytest.mark.parametrize(
    ("bit_count", "hash_count", "seed", "data", "named"),
    [
        (8, 1, 0, b"\0", "murmur_seed 0"),
        (0, 1, 1, b"", "bit_count 0"),
        (8, 0, 1, b"\0", "hash_count 0"),
        (8, 1, 1, b"", "truncated"),
        (8, 1, 1 << 32, b"\0", "murmur_seed"),
        (1 << 32, 1, 1, b"", "bit_count"),
    ],
)
def test_what_a_device_refuses_is_refused(bit_count: int, hash_count: int, seed: int, data: bytes, named: str) -> None:
    with pytest.raises(PrefilterError, match=named):
        Prefilter(data, bit_count, hash_count, seed)


@pytest.mark.parametrize("tolerance", [0.0, 1.0, -1.0, math.nan])
def test_a_rate_that_is_none_is_refused(tolerance: float) -> None:
    with pytest.raises(PrefilterError, match="rate"):
        build_prefilter(["a"], tolerance=tolerance)


def test_more_bits_than_devices_count_are_refused() -> None:
    with pytest.raises(PrefilterError, match="higher rate"):
        size_for(1_000_000_000)


def test_explanation_names_each_bit() -> None:
    prefilter = build_prefilter(ITEMS, murmur_seed=RELEASE_SEED)
    explanation = prefilter.explain("example.com")
    assert explanation.is_member and len(explanation.bits) == 10
    assert explanation.first_hash == fnv_1a(b"example.com")
    assert explanation.second_hash == murmur_3(b"example.com", RELEASE_SEED)
    third = explanation.bits[2]
    assert third.index == (explanation.first_hash + 2 * explanation.second_hash) % (1 << 32) % 144
    assert (third.byte, third.mask) == (third.index // 8, 1 << third.index % 8)
    other = prefilter.explain("example11.com")
    assert not other.is_member and any(bit.is_set for bit in other.bits)


def test_the_tag_names_the_content() -> None:
    first, same, other = (build_prefilter(ITEMS, murmur_seed=seed) for seed in (1, 1, 2))
    assert first.tag == same.tag != other.tag
