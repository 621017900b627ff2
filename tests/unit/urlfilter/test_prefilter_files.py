"""Prefilters as files, read from anywhere; and what a filter made by another tool turns out to be."""

from __future__ import annotations

import json
import plistlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.urlfilter.bloom import (
    BloomHash,
    Prefilter,
    PrefilterError,
    build_prefilter,
    diagnose,
    read_prefilter,
    read_raw,
    to_json,
    to_plist,
    to_raw,
)
from network_extension.urlfilter.bloom_hashes import bit_indices, hash_pair

ROWS = [f"host{n}.example/path" for n in range(300)]
PREFILTER = build_prefilter(ROWS, murmur_seed=1267652889)
CACHE_MAGIC = 0x5061747269636961


def beta_filter(rows: list[str]) -> Prefilter:
    data = bytearray(len(PREFILTER.data))
    for row in rows:
        for index in bit_indices(*hash_pair(row.encode(), 77, BloomHash.FNV_1), 10, PREFILTER.bit_count):
            data[index >> 3] |= 1 << (index & 7)
    return Prefilter(bytes(data), PREFILTER.bit_count, 10, 77)


def cache_file(version: int) -> bytes:
    numbers = (PREFILTER.bit_count, PREFILTER.hash_count, PREFILTER.murmur_seed, len(PREFILTER.data))
    head = struct.pack("<QQIIII", CACHE_MAGIC, version, *numbers)
    return head + (struct.pack("<I", 5) + b"tag-1" if version == 2 else b"") + PREFILTER.data


def test_property_list_has_apples_keys_and_is_read_back() -> None:
    written = to_plist(PREFILTER)
    assert set(plistlib.loads(written)) == {
        "itemCount",
        "falsePositiveTolerance",
        "murmurSeed",
        "bitCount",
        "byteCount",
        "hashCount",
        "data",
    }
    assert read_prefilter(written) == PREFILTER


def test_json_and_files_are_read_back(tmp_path: Path) -> None:
    (tmp_path / "filter.json").write_text(to_json(PREFILTER))
    assert read_prefilter(tmp_path / "filter.json") == PREFILTER
    assert json.loads(to_json(PREFILTER))["hash"] == "FNV-1a"


def test_raw_bits_need_their_numbers() -> None:
    numbers = {
        "bit_count": PREFILTER.bit_count,
        "hash_count": PREFILTER.hash_count,
        "murmur_seed": PREFILTER.murmur_seed,
    }
    assert read_raw(to_raw(PREFILTER), **numbers).tag == PREFILTER.tag
    with pytest.raises(PrefilterError, match="three numbers"):
        read_prefilter(to_raw(PREFILTER))


@pytest.mark.parametrize("version", [1, 2])
def test_a_devices_cache_file(version: int) -> None:
    read = read_prefilter(cache_file(version))
    assert read.data == PREFILTER.data
    assert read.tag == ("tag-1" if version == 2 else PREFILTER.tag)


def test_the_betas_keys_are_read_and_named_and_never_written() -> None:
    source = beta_filter(ROWS)
    beta = {"bitVectorData": source.data, "numberOfBits": source.bit_count, "numberOfHashes": 10, "murmurSeed": 77}
    read = read_prefilter(plistlib.dumps(beta))
    assert read.hash is BloomHash.FNV_1 and all(row in read for row in ROWS)
    for write in (to_plist, to_json, to_raw):
        with pytest.raises(PrefilterError, match="FNV-1"):
            write(read)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"murmurSeed": 0}, "murmur_seed 0"),
        ({"murmurSeed": "1"}, "murmurSeed"),
        ({"bitCount": 1 << 40}, "bit_count"),
        ({"hashCount": True}, "hashCount"),
        ({"data": "text"}, "data"),
        ({"data": b""}, "without data"),
        ({"data": b"short"}, "truncated"),
        ({"itemCount": "many"}, "itemCount"),
        ({"falsePositiveTolerance": "low"}, "Tolerance"),
    ],
)
def test_files_that_no_device_takes_are_refused(change: dict[str, object], named: str) -> None:
    values = plistlib.loads(to_plist(PREFILTER)) | change
    with pytest.raises(PrefilterError, match=named):
        read_prefilter(plistlib.dumps(values))


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b'{"data": "?"}', b"<plist></plist>", b"bplist00", b"\x89PNG"])
def test_files_of_another_kind_are_refused(data: bytes) -> None:
    with pytest.raises(PrefilterError):
        read_prefilter(data)


SEEDS = [to_plist(PREFILTER), to_json(PREFILTER).encode(), cache_file(1), cache_file(2)]


@given(st.sampled_from(SEEDS), st.data())
def test_fuzz_broken_files_raise_nothing_but_their_error(seed: bytes, data: st.DataObject) -> None:
    broken = bytearray(seed[: data.draw(st.integers(0, len(seed)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if broken:
            broken[data.draw(st.integers(0, len(broken) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        read_prefilter(bytes(broken))
    except PrefilterError:
        pass


@given(st.binary())
def test_fuzz_any_bytes_raise_nothing_but_their_error(data: bytes) -> None:
    for prefix in (b"", b"bplist00", b"{", CACHE_MAGIC.to_bytes(8, "little")):
        try:
            read_prefilter(prefix + data)
        except PrefilterError:
            pass


def test_a_sound_filter_is_found_sound() -> None:
    diagnosis = diagnose(PREFILTER, ROWS)
    assert diagnosis.is_sound and "FNV-1a" in diagnosis.verdict


def test_a_filter_made_with_the_betas_hash_is_diagnosed_as_that() -> None:
    diagnosis = diagnose(beta_filter(ROWS), ROWS)
    assert not diagnosis.is_sound
    assert diagnosis.reading is not None and diagnosis.reading.hash is BloomHash.FNV_1
    assert "FNV-1 (multiply, then xor)" in diagnosis.verdict


def test_bits_counted_from_the_wrong_end_are_diagnosed_as_that() -> None:
    turned = bytes(int(f"{byte:08b}"[::-1], 2) for byte in PREFILTER.data)
    diagnosis = diagnose(Prefilter(turned, PREFILTER.bit_count, PREFILTER.hash_count, PREFILTER.murmur_seed), ROWS)
    assert not diagnosis.is_sound and "from the top of each byte" in diagnosis.verdict


@pytest.mark.parametrize(("form", "named"), [("https://{}", "https://"), ("www.{}", "www."), ("{}\n", "newline")])
def test_strings_put_in_in_another_form_are_diagnosed_as_that(form: str, named: str) -> None:
    diagnosis = diagnose(build_prefilter([form.format(row) for row in ROWS]), ROWS)
    assert not diagnosis.is_sound and named in diagnosis.verdict


def test_a_filter_that_takes_everything_is_diagnosed_as_that() -> None:
    diagnosis = diagnose(Prefilter(b"\xff" * 100, 800, 10, 1), ROWS)
    assert not diagnosis.is_sound and "100% of its bits" in diagnosis.verdict


def test_a_filter_of_another_list_is_told_from_one_with_another_hash() -> None:
    assert (
        "but of another list: 50.0%" in diagnose(PREFILTER, [*ROWS, *(f"new{n}.example" for n in range(300))]).verdict
    )
    assert "no known way" in diagnose(PREFILTER, [f"new{n}.example" for n in range(300)]).verdict
    assert "empty" in diagnose(PREFILTER, []).verdict
