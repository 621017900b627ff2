"""Apple's shards, queries, keys and responses, each replaced by ours in turn; and databases of our own."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from network_extension.pir import native_file
from network_extension.pir.client import ClientKeys, KeywordClient, Query
from network_extension.pir.errors import DatabaseError, PirError
from network_extension.pir.hashing import candidates, keyword_hash
from network_extension.pir.he.serialization import parse_evaluation_key
from network_extension.pir.keyword_database import read_database
from network_extension.pir.native_file import SUFFIX
from network_extension.pir.plaintext_file import read_plaintexts
from network_extension.pir.processing import ProcessedShard, process_shard
from network_extension.pir.processing_configuration import ProcessingConfiguration
from network_extension.pir.proto import he_pb2, pir_pb2
from network_extension.pir.service_configuration import pir_config
from network_extension.pir.shard import Shard

VECTORS = Path(__file__).parents[2] / "vectors" / "pir"
QUERIES = sorted(path.name for path in VECTORS.glob("*-q*"))


def random(size: int) -> bytes:
    return os.urandom(size)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Apple's shards, where files may be made beside them."""
    for path in (*VECTORS.glob("*.bin"), *VECTORS.glob("*.params.txtpb")):
        shutil.copy(path, tmp_path)
    return tmp_path


def shard(folder: Path, name: str, number: int) -> Shard:
    return Shard.open(folder / f"{name}-{number}.bin", folder / f"{name}-{number}.params.txtpb")


def shards(folder: Path, name: str) -> list[Shard]:
    return [shard(folder, name, number) for number in range(len(list(folder.glob(f"{name}-*.bin"))))]


def expected(folder: Path) -> bytes | None:
    text = (folder / "decrypted.txt").read_text().split("value")[1].split()[0]
    return None if text == "nil" else bytes.fromhex(text)


def apples_client(folder: Path, query: Path) -> tuple[KeywordClient, ClientKeys, Query]:
    """A client with Apple's secret, in the midst of Apple's lookup."""
    name, keyword = query.name.split("-")[0], (query / "keyword.txt").read_bytes().strip()
    opened = shards(folder, name)
    client = KeywordClient(pir_config([each.checked for each in opened]))
    evk = he_pb2.SerializedEvaluationKey.FromString((query / "evk.pb").read_bytes())
    keys = client.restore((query / "secret.pb").read_bytes(), evk)
    message = pir_pb2.EncryptedIndices.FromString((query / "query.pb").read_bytes())
    number = int((query / "shard.txt").read_text())
    hashed = keyword_hash(keyword)
    buckets = candidates(hashed, opened[number].checked.dimensions.entry_count, 2)
    return client, keys, Query(number, message, hashed, buckets)


@pytest.mark.parametrize("name", QUERIES)
class TestApplesLookups:
    def test_our_server_answers_apples_query(self, folder: Path, name: str) -> None:
        client, keys, query = apples_client(folder, VECTORS / name)
        opened = shard(folder, name.split("-")[0], query.shard_index)
        key = parse_evaluation_key(opened.context, keys.evaluation_key)
        answer = opened.answer(query.message, key)
        assert client.value(query, keys, answer) == expected(VECTORS / name)
        assert client.value(query, keys, opened.answer(query.message, key, threads=2)) == expected(VECTORS / name)
        apples = pir_pb2.PIRResponse.FromString((VECTORS / name / "response.pb").read_bytes())
        assert answer.ByteSize() == apples.ByteSize()

    def test_our_client_reads_apples_response(self, folder: Path, name: str) -> None:
        client, keys, query = apples_client(folder, VECTORS / name)
        response = pir_pb2.PIRResponse.FromString((VECTORS / name / "response.pb").read_bytes())
        assert client.value(query, keys, response) == expected(VECTORS / name)

    def test_our_client_asks_for_the_same_shard_and_size(self, folder: Path, name: str) -> None:
        client, keys, theirs = apples_client(folder, VECTORS / name)
        ours = client.query((VECTORS / name / "keyword.txt").read_bytes().strip(), keys, random)
        assert ours.shard_index == theirs.shard_index and ours.buckets == theirs.buckets
        assert ours.message.ByteSize() == theirs.message.ByteSize()


class TestApplesFiles:
    @pytest.mark.parametrize("name", ["small-0", "small-1", "urls-0", "urls-1", "urls-2"])
    def test_what_we_read_we_write_byte_for_byte(self, folder: Path, tmp_path: Path, name: str) -> None:
        opened = Shard.open(folder / f"{name}.bin", folder / f"{name}.params.txtpb")
        again = ProcessedShard(opened.checked, opened.plaintexts, 0)
        again.write(tmp_path / "again.bin", tmp_path / "again.params.txtpb")
        assert (tmp_path / "again.bin").read_bytes() == (VECTORS / f"{name}.bin").read_bytes()
        assert (tmp_path / "again.params.txtpb").read_bytes() == (VECTORS / f"{name}.params.txtpb").read_bytes()

    @pytest.mark.parametrize("cut", [0, 1, 4, 5, 6, 20000, 112648])
    def test_cut_off(self, folder: Path, cut: int) -> None:
        path = folder / "small-0.bin"
        path.write_bytes(path.read_bytes()[:cut])
        with pytest.raises(DatabaseError, match=r"small-0\.bin"):
            shard(folder, "small", 0)

    @pytest.mark.parametrize(("at", "word"), [(0, "version"), (1, "parameters speak of"), (5, "plaintext 0 begins")])
    def test_a_byte_of_the_head_is_another(self, folder: Path, at: int, word: str) -> None:
        path = folder / "small-0.bin"
        data = bytearray(path.read_bytes())
        data[at] ^= 0x40
        path.write_bytes(data)
        with pytest.raises(DatabaseError, match=word):
            shard(folder, "small", 0)

    def test_a_coefficient_too_large(self, folder: Path) -> None:
        path = folder / "small-0.bin"
        data = bytearray(path.read_bytes())
        data[6:26] = b"\xff" * 20
        path.write_bytes(data)
        with pytest.raises(DatabaseError, match="not below its modulus"):
            shard(folder, "small", 0)

    def test_something_behind_the_end(self, folder: Path) -> None:
        path = folder / "small-0.bin"
        path.write_bytes(path.read_bytes() + b"x")
        with pytest.raises(DatabaseError, match="1 bytes behind the last"):
            shard(folder, "small", 0)

    def test_parameters_of_another_shard(self, folder: Path) -> None:
        shutil.copy(folder / "urls-0.params.txtpb", folder / "small-0.params.txtpb")
        with pytest.raises(DatabaseError, match="4 plaintexts, and its parameters speak of 8"):
            shard(folder, "small", 0)

    def test_no_files(self, tmp_path: Path) -> None:
        with pytest.raises(DatabaseError, match=r"params\.txtpb: No such file"):
            shard(tmp_path, "small", 0)

    @pytest.mark.parametrize(
        ("old", "new", "word"),
        [
            ("PIR_ALGORITHM_MUL_PIR", "PIR_ALGORITHM_ACLS_UNSPECIFIED", "not MulPIR"),
            ("dimensions: [2, 1]", "dimensions: [1, 1]", "hold fewer"),
            ("dimensions: [2, 1]", "dimensions: [2]", "1 dimensions"),
            ("dimensions: [2, 1]", "dimensions: [9999, 1]", "too large for one query"),
            ("dimensions: [2, 1]", "dimensions: [2048, 1]", "too large for one query"),
            ("num_hash_functions: 2", "num_hash_functions: 99", "99 hash functions"),
            ("plaintext_modulus: 17", "plaintext_modulus: 18", "no known set"),
            ("entry_size: 1024", "entry_size: 99999999", "entries of"),
            ("entry_size: 1024", "entry_size: x", "entry_size"),
        ],
    )
    def test_parameters_that_cannot_be(self, folder: Path, old: str, new: str, word: str) -> None:
        path = folder / "small-0.params.txtpb"
        path.write_text(path.read_text().replace(old, new, 1))
        with pytest.raises(DatabaseError, match=word):
            shard(folder, "small", 0)


class TestNativeFile:
    def test_it_is_made_once_and_mapped(self, folder: Path) -> None:
        shard(folder, "small", 0)
        native = folder / f"small-0.bin{SUFFIX}"
        first = native.stat().st_ino
        again = shard(folder, "small", 0)
        assert native.stat().st_ino == first
        assert not again.plaintexts.flags.writeable

    def test_a_changed_database_is_noticed(self, folder: Path) -> None:
        shard(folder, "small", 0)
        before = hashlib.sha256((folder / f"small-0.bin{SUFFIX}").read_bytes()).digest()
        shutil.copy(folder / "small-1.bin", folder / "small-0.bin")
        changed = shard(folder, "small", 0)
        assert hashlib.sha256((folder / f"small-0.bin{SUFFIX}").read_bytes()).digest() != before
        assert (changed.plaintexts == shard(folder, "small", 1).plaintexts).all()

    def test_a_database_that_changes_while_it_is_read(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def changed(path: Path, *rest: Any) -> None:
            read_plaintexts(path, *rest)
            shutil.copy(folder / "small-1.bin", path)

        monkeypatch.setattr(native_file, "read_plaintexts", changed)
        with pytest.raises(DatabaseError, match="changed while it was read"):
            shard(folder, "small", 0)
        assert not (folder / f"small-0.bin{SUFFIX}").exists()

    def test_no_room_is_made_for_what_is_not_there(self, folder: Path) -> None:
        path = folder / "small-0.params.txtpb"
        path.write_text(path.read_text().replace("dimensions: [2, 1]", "dimensions: [1024, 1024]"))
        with pytest.raises(DatabaseError, match="4 plaintexts, and its parameters speak of 2097152"):
            shard(folder, "small", 0)

    def test_a_copy_with_another_time_is_the_same(self, folder: Path) -> None:
        shard(folder, "small", 0)
        inode = (folder / f"small-0.bin{SUFFIX}").stat().st_ino
        os.utime(folder / "small-0.bin", (1, 1))
        shard(folder, "small", 0)
        assert (folder / f"small-0.bin{SUFFIX}").stat().st_ino == inode

    def test_another_database_of_the_same_size_and_time_is_noticed(self, folder: Path) -> None:
        """As in layers of an image, or after rsync: times are copied, and shards of fixed buckets have one size."""
        os.utime(folder / "urls-0.bin", (1, 1))
        shard(folder, "urls", 0)
        other = shutil.copy(folder / "urls-1.bin", folder / "other")
        os.utime(other, (1, 1))
        os.replace(other, folder / "urls-0.bin")
        assert (shard(folder, "urls", 0).plaintexts == shard(folder, "urls", 1).plaintexts).all()

    @pytest.mark.parametrize("at", [4096, 50_000, -1])
    def test_a_flipped_bit_in_it_is_noticed(self, folder: Path, at: int) -> None:
        good = shard(folder, "small", 0).plaintexts.copy()
        native = folder / f"small-0.bin{SUFFIX}"
        data = bytearray(native.read_bytes())
        data[at] ^= 1
        native.write_bytes(data)
        assert (shard(folder, "small", 0).plaintexts == good).all()

    def test_a_damaged_one_is_made_again(self, folder: Path) -> None:
        good = shard(folder, "small", 0).plaintexts.copy()
        native = folder / f"small-0.bin{SUFFIX}"
        for damaged in (b"", native.read_bytes()[:5000], b"x" * native.stat().st_size):
            native.write_bytes(damaged)
            assert (shard(folder, "small", 0).plaintexts == good).all()


def lookups(opened: list[Shard], keywords: list[bytes]) -> list[bytes | None]:
    """What our client gets from our server."""
    client = KeywordClient(pir_config([each.checked for each in opened]))
    keys, found = client.new_keys(random), list[bytes | None]()
    key = parse_evaluation_key(opened[0].context, keys.evaluation_key)
    for keyword in keywords:
        query = client.query(keyword, keys, random)
        found.append(client.value(query, keys, opened[query.shard_index].answer(query.message, key)))
    return found


class TestOwnDatabases:
    @pytest.mark.parametrize("name", ["small", "urls"])
    def test_apples_rows_processed_here(self, name: str) -> None:
        rows = dict(read_database(VECTORS / f"{name}.txtpb"))
        assert len(rows) == {"small": 1000, "urls": 3000}[name]
        made = process_shard(list(rows), list(rows.values()), ProcessingConfiguration())
        some = list(rows)[:: len(rows) // 8]
        assert lookups([made.shard], [*some, b"absent"]) == [*(rows[keyword] for keyword in some), None]

    @pytest.mark.parametrize(
        "configuration",
        [
            {"sharding": "sha256", "keyCompression": "hybridCompression"},
            {"keyCompression": "maxCompression"},
            {"rlweParameters": "n_4096_logq_27_28_28_logt_4"},
            {"rlweParameters": "n_4096_logq_27_28_28_logt_6", "useMaxSerializedBucketSize": True},
            {"cuckooTableArguments": {"bucketCount": {"fixedSize": {"bucketCount": 64}}}},
            {"cuckooTableArguments": {"hashFunctionCount": 3}},
            {"unevenDimensions": False},
        ],
        ids=str,
    )
    def test_ways_to_process(self, configuration: dict[str, object]) -> None:
        configuration.pop("sharding", None)
        keywords = [b"keyword %d" % number for number in range(1200)]
        values = [b"v%d" % (number % 7) for number in range(1200)]
        made = process_shard(keywords, values, ProcessingConfiguration.from_json(configuration))
        assert lookups([made.shard], [keywords[0], b"x", keywords[-1]]) == [values[0], None, values[-1]]

    def test_values_larger_than_a_plaintext(self) -> None:
        keywords, values = [b"a", b"b", b"c"], [bytes(range(256)) * 20, b"", b"x" * 4000]
        made = process_shard(keywords, values, ProcessingConfiguration())
        assert made.parameters.dimensions.chunks == 3
        assert lookups([made.shard], [*keywords, b"d"]) == [*values, None]

    def test_no_rows(self) -> None:
        assert lookups([process_shard([], [], ProcessingConfiguration()).shard], [b"a"]) == [None]

    def test_the_same_rows_give_the_same_shard(self) -> None:
        keywords = [b"%d" % number for number in range(500)]
        first, second = (process_shard(keywords, [b"1"] * 500, ProcessingConfiguration(), seed=9) for _ in range(2))
        assert (first.plaintexts == second.plaintexts).all()

    def test_a_keyword_twice(self) -> None:
        with pytest.raises(DatabaseError, match="rows 0 and 2 have the same keyword"):
            process_shard([b"a", b"b", b"a"], [b"1"] * 3, ProcessingConfiguration())

    def test_more_rows_than_a_fixed_number_of_buckets_takes(self) -> None:
        keywords = [b"%d" % number for number in range(1000)]
        with pytest.raises(DatabaseError, match="1000 rows find no place in 4 buckets"):
            process_shard(keywords, [b"1"] * 1000, ProcessingConfiguration(bucket_count=4))

    def test_a_value_larger_than_a_bucket(self) -> None:
        """No number of buckets helps, so none is tried."""
        with pytest.raises(DatabaseError, match="row 1 has a value of 60 bytes, which no bucket of 64 holds"):
            process_shard([b"a", b"b"], [b"1", bytes(60)], ProcessingConfiguration(max_bucket_size=64))

    def test_a_value_too_long(self) -> None:
        with pytest.raises(DatabaseError, match="row 1 has a value of 65536 bytes"):
            process_shard([b"a", b"b"], [b"", bytes(65536)], ProcessingConfiguration())

    def test_a_full_disk_leaves_what_was_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        made = process_shard([b"a"], [b"1"], ProcessingConfiguration())
        made.write(tmp_path / "a.bin", tmp_path / "a.params.txtpb")
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        other = process_shard([b"b"], [b"1"], ProcessingConfiguration())
        with pytest.raises(DatabaseError, match=r"a\.bin: No space left on device; nothing was changed"):
            other.write(tmp_path / "a.bin", tmp_path / "a.params.txtpb")
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


class TestBadQueries:
    def test_for_another_configuration(self, folder: Path) -> None:
        _, keys, query = apples_client(folder, VECTORS / "small-q0")
        key = parse_evaluation_key(shard(folder, "small", 0).context, keys.evaluation_key)
        del query.message.ciphertexts[:]
        with pytest.raises(PirError, match="0 ciphertexts for 2 lookups"):
            shard(folder, "small", 1).answer(query.message, key)

    def test_keys_that_do_not_serve_the_shard(self, folder: Path) -> None:
        _, keys, query = apples_client(folder, VECTORS / "small-q0")
        keys.evaluation_key.galois_key.key_switch_keys.clear()
        opened = shard(folder, "small", query.shard_index)
        with pytest.raises(PirError):
            opened.answer(query.message, parse_evaluation_key(opened.context, keys.evaluation_key))

    def test_an_answer_to_something_else(self, folder: Path) -> None:
        client, keys, query = apples_client(folder, VECTORS / "small-q0")
        with pytest.raises(PirError, match="0 replies to 2 lookups"):
            client.value(query, keys, pir_pb2.PIRResponse())
