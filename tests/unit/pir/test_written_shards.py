"""What we write is Apple's format: a reader that shares no code with it finds each row; damage is an error."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from network_extension.pir.errors import PirError
from network_extension.pir.he.serialization import parse_evaluation_key
from network_extension.pir.keyword_database import read_database
from network_extension.pir.processing import process_shard
from network_extension.pir.processing_configuration import ProcessingConfiguration
from network_extension.pir.proto import he_pb2, pir_pb2
from network_extension.pir.shard import Shard
from network_extension.pir.shard_parameters import ShardParameters, read_parameters

from .independent_reader import lookup, plaintexts

VECTORS = Path(__file__).parents[2] / "vectors" / "pir"


def found(folder: Path, name: str, keywords: list[bytes]) -> list[bytes | None]:
    """What the reader finds in NAME.bin."""
    message = read_parameters(folder / f"{name}.params.txtpb").message
    pages = plaintexts((folder / f"{name}.bin").read_bytes())
    sides = message.dimensions[0], message.dimensions[1]
    return [lookup(pages, keyword, message.num_entries, message.entry_size, sides) for keyword in keywords]


def test_the_reader_finds_apples_rows() -> None:
    rows = dict(read_database(VECTORS / "small.txtpb"))
    there = [found(VECTORS, f"small-{shard}", list(rows)) for shard in range(2)]
    assert [one or other for one, other in zip(*there, strict=True)] == list(rows.values())
    assert all((one is None) != (other is None) for one, other in zip(*there, strict=True))


@pytest.mark.parametrize(
    "configuration",
    [ProcessingConfiguration(), ProcessingConfiguration(max_bucket_size=300), ProcessingConfiguration(bucket_count=20)],
    ids=["grows", "several buckets in a plaintext", "fixed"],
)
def test_the_reader_finds_our_rows(tmp_path: Path, configuration: ProcessingConfiguration) -> None:
    rows = dict(read_database(VECTORS / "small.txtpb"))
    made = process_shard(list(rows), list(rows.values()), configuration)
    made.write(tmp_path / "own.bin", tmp_path / "own.params.txtpb")
    assert found(tmp_path, "own", [*rows, b"absent"]) == [*rows.values(), None]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Shard:
    folder = tmp_path_factory.mktemp("small")
    for name in ("small-0.bin", "small-0.params.txtpb"):
        shutil.copy(VECTORS / name, folder)
    return Shard.open(folder / "small-0.bin", folder / "small-0.params.txtpb")


QUERY, KEY = ((VECTORS / "small-q0" / name).read_bytes() for name in ("query.pb", "evk.pb"))


def damaged(data: bytes, flips: list[int], cut: int | None) -> bytes:
    changed = bytearray(data)
    for bit in flips:
        changed[bit // 8 % len(data)] ^= 1 << bit % 8
    return bytes(changed if cut is None else changed[: cut % len(data)])


# Most bits of a message are coefficients, where damage is noise; its first bytes are what can go wrong.
FLIPS = st.lists(st.integers(0, 400) | st.integers(0, 1 << 22), min_size=1, max_size=4)
CUTS = st.none() | st.integers(0, 1 << 20)


@settings(max_examples=60, deadline=None)
@given(flips=FLIPS, cut=CUTS)
def test_a_damaged_query_is_answered_or_refused(small: Shard, flips: list[int], cut: int | None) -> None:
    key = parse_evaluation_key(small.context, he_pb2.SerializedEvaluationKey.FromString(KEY))
    query = pir_pb2.EncryptedIndices()
    try:
        query.ParseFromString(damaged(QUERY, flips, cut))
    except DecodeError:  # protobuf's own, which whoever receives the message catches
        return
    try:
        answer = small.answer(query, key)
    except PirError:
        return
    assert len(answer.replies) == 2


@settings(max_examples=60, deadline=None)
@given(flips=FLIPS, cut=CUTS)
def test_a_damaged_key_is_a_key_or_refused(small: Shard, flips: list[int], cut: int | None) -> None:
    message = he_pb2.SerializedEvaluationKey()
    try:
        message.ParseFromString(damaged(KEY, flips, cut))
    except DecodeError:  # protobuf's own, which whoever receives the message catches
        return
    try:
        key = parse_evaluation_key(small.context, message)
        small.answer(pir_pb2.EncryptedIndices.FromString(QUERY), key)
    except PirError:
        pass


@settings(max_examples=60, deadline=None)
@given(flips=FLIPS, cut=CUTS)
def test_a_damaged_shard_opens_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, flips: list[int], cut: int | None
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    shutil.copy(VECTORS / "small-0.params.txtpb", folder)
    (folder / "small-0.bin").write_bytes(damaged((VECTORS / "small-0.bin").read_bytes(), flips, cut))
    try:
        opened = Shard.open(folder / "small-0.bin", folder / "small-0.params.txtpb")
    except PirError:
        return
    assert opened.plaintexts.shape == (4, 2, 4096)


@settings(max_examples=150, deadline=None)
@given(flips=st.lists(st.integers(0, 696 * 8), min_size=1, max_size=4), cut=CUTS)
def test_damaged_parameters_are_checked_or_refused(
    tmp_path_factory: pytest.TempPathFactory, flips: list[int], cut: int | None
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "small-0.params.txtpb"
    path.write_bytes(damaged((VECTORS / "small-0.params.txtpb").read_bytes(), flips, cut))
    try:
        checked = read_parameters(path)
    except PirError:
        return
    assert checked.dimensions.plaintexts >= 1


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_any_message_is_parameters_or_refused(data: bytes) -> None:
    message = pir_pb2.PirParameters()
    good = read_parameters(VECTORS / "small-0.params.txtpb").message.SerializeToString()
    try:
        message.ParseFromString(good + data)
    except DecodeError:  # protobuf's own, which whoever receives the message catches
        return
    try:
        ShardParameters.from_message(message)
    except PirError:
        pass
