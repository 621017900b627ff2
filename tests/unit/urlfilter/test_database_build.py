"""`netext urlfilter build`: versions, what stays the same between them, and builds that are cut off."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random as random_module
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.cli.urlfilter_build import main
from network_extension.pir.errors import DatabaseError
from network_extension.pir.hashing import keyword_hash
from network_extension.pir.replacing import replacing
from network_extension.pir.shard import Shard
from network_extension.urlfilter.bloom import read_prefilter
from network_extension.urlfilter.database_build import BuildError, BuildOptions, Manifest, build, current_version
from network_extension.urlfilter.database_build_plan import Target, parameters_that_stay, rows_that_fit
from network_extension.urlfilter.database_build_shard import ShardTask, process_into
from network_extension.urlfilter.storage import StorageError

DAY = 86_400
NOW = 1_800_000_000.0
FOUR = BuildOptions(target=Target(shard_count=4))


def seeded(count: int) -> bytes:
    return random_module.Random(count).randbytes(count)


class Processor:
    """Stands in for the processing of shards, which has tests of its own: notes what was asked, and writes that."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.tasks: list[ShardTask] = []
        self._dies_at = dies_at

    def __call__(self, task: ShardTask, directory: Path, name: str) -> None:
        if len(self.tasks) == self._dies_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory / f"{name}.bin"))
        self.tasks.append(task)
        (directory / f"{name}.bin").write_bytes(task.rows)
        (directory / f"{name}.params.txtpb").write_text(json.dumps(task.parameters))

    @property
    def indices(self) -> list[int]:
        return [task.index for task in self.tasks]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[list[str]], Path]:
    def write_list(rows: list[str]) -> Path:
        path = tmp_path / "list.txt"
        path.write_text("".join(f"{row}\n" for row in rows))
        return path

    return write_list


Write = Callable[[list[str]], Path]
ROWS = [f"host{number}.example" for number in range(200)]


def built(path: Path, directory: Path, options: BuildOptions = FOUR, now: float = NOW) -> tuple[Manifest, Processor]:
    processor = Processor()
    return build([path], directory, options, now=now, random=seeded, process=processor), processor


def database_rows(directory: Path) -> set[str]:
    version = current_version(directory)
    return {row for path in version.glob("*.bin") for row in path.read_text().split()}


def test_a_first_build_has_all_that_a_service_needs(write: Write, tmp_path: Path) -> None:
    manifest, _ = built(write(ROWS), tmp_path / "db")
    version = current_version(tmp_path / "db")
    assert version == tmp_path / "db/versions/1"
    assert Manifest.read(version) == manifest
    assert (manifest.version, manifest.row_count, manifest.shard_count, manifest.added_count) == (1, 200, 4, 200)
    assert manifest.usecase == "netext.url.filtering" and not manifest.pending_removals
    names = {f"urls-{index}{suffix}" for index in range(4) for suffix in (".bin", ".params.txtpb", ".rows", ".retired")}
    assert {each.name for each in version.iterdir()} == names | {"manifest.json", "prefilter.plist", "prefilter.json"}
    prefilter = read_prefilter(version / "prefilter.plist")
    assert prefilter.tag == manifest.prefilter.tag == read_prefilter(version / "prefilter.json").tag
    assert all(row in prefilter for row in ROWS) and database_rows(tmp_path / "db") == set(ROWS)


def test_each_row_lies_in_the_shard_that_devices_ask(write: Write, tmp_path: Path) -> None:
    _, processor = built(write(ROWS), tmp_path / "db")
    for task in processor.tasks:
        rows = task.rows.split()
        assert rows == sorted(rows) and all(keyword_hash(row) % 4 == task.index for row in rows)


def test_lists_that_did_not_change_make_no_version(write: Write, tmp_path: Path) -> None:
    first, _ = built(write(ROWS), tmp_path / "db")
    again, processor = built(write(ROWS), tmp_path / "db", now=NOW + DAY)
    assert again == first and not processor.tasks


def test_the_same_rows_in_another_order_leave_every_shard_and_the_prefilter(write: Write, tmp_path: Path) -> None:
    first, _ = built(write(ROWS), tmp_path / "db")
    again, processor = built(write([*reversed(ROWS), "HOST1.example"]), tmp_path / "db")
    assert not processor.tasks and again.version == 2
    assert (again.shards, again.prefilter) == (first.shards, first.prefilter)
    assert os.path.samefile(tmp_path / "db/versions/1/urls-0.bin", tmp_path / "db/versions/2/urls-0.bin")


def test_one_more_row_makes_one_shard_anew_with_the_same_parameters(write: Write, tmp_path: Path) -> None:
    first, _ = built(write(ROWS), tmp_path / "db")
    again, processor = built(write([*ROWS, "new.example"]), tmp_path / "db")
    assert processor.indices == [keyword_hash(b"new.example") % 4]
    assert again.parameters == first.parameters
    assert (again.added_count, again.removed_count) == (1, 0)
    assert "new.example" in read_prefilter(current_version(tmp_path / "db") / "prefilter.plist")


def test_a_row_that_went_leaves_the_prefilter_first_and_the_database_a_day_later(write: Write, tmp_path: Path) -> None:
    built(write(ROWS), tmp_path / "db")
    second, _ = built(write(ROWS[1:]), tmp_path / "db", now=NOW + 10)
    prefilter = read_prefilter(current_version(tmp_path / "db") / "prefilter.plist")
    assert ROWS[0] not in prefilter and database_rows(tmp_path / "db") == set(ROWS)
    assert (second.removed_count, second.retired_count, second.row_count) == (1, 1, 199)
    third, _ = built(write([*ROWS[1:], "new.example"]), tmp_path / "db", now=NOW + DAY)
    assert third.retired_count == 1  # ten seconds are missing, whatever was built in between
    fourth, _ = built(write([*ROWS[1:], "new.example"]), tmp_path / "db", now=NOW + 2 * DAY)
    assert fourth.version == 4 and not fourth.pending_removals
    assert database_rows(tmp_path / "db") == {*ROWS[1:], "new.example"}


def test_a_row_that_comes_back_is_retired_no_more(write: Write, tmp_path: Path) -> None:
    built(write(ROWS), tmp_path / "db")
    built(write(ROWS[1:]), tmp_path / "db")
    third, _ = built(write(ROWS), tmp_path / "db")
    assert (third.retired_count, third.row_count) == (0, 200)


def test_without_retention_rows_go_at_once(write: Write, tmp_path: Path) -> None:
    options = BuildOptions(target=Target(shard_count=2), retention=0)
    built(write(ROWS), tmp_path / "db", options)
    again, _ = built(write(ROWS[1:]), tmp_path / "db", options)
    assert not again.pending_removals and database_rows(tmp_path / "db") == set(ROWS[1:])


def test_another_number_of_shards_keeps_rows_that_are_on_their_way_out(write: Write, tmp_path: Path) -> None:
    built(write(ROWS), tmp_path / "db")
    built(write(ROWS[1:]), tmp_path / "db", now=NOW + 1)
    third, _ = built(write(ROWS[1:]), tmp_path / "db", BuildOptions(target=Target(shard_count=3)), now=NOW + 2)
    assert (third.shard_count, third.retired_count, third.removed_count) == (3, 1, 0)
    assert database_rows(tmp_path / "db") == set(ROWS)


def test_old_versions_go_and_what_is_not_ours_stays(write: Write, tmp_path: Path) -> None:
    (tmp_path / "db/service").mkdir(parents=True)
    for number in range(5):
        built(write([*ROWS, f"new{number}.example"]), tmp_path / "db")
    assert sorted(each.name for each in (tmp_path / "db/versions").iterdir()) == ["3", "4", "5"]
    assert (tmp_path / "db/service").is_dir() and not (tmp_path / "db/building").exists()


def test_a_full_disk_is_named_and_the_next_build_goes_on_there(write: Write, tmp_path: Path) -> None:
    full = Processor(dies_at=2)
    with pytest.raises(StorageError, match=r"urls-2.bin: No space left.*run the same command again"):
        build([write(ROWS)], tmp_path / "db", FOUR, now=NOW, process=full)
    with pytest.raises(BuildError, match="holds no database yet"):
        current_version(tmp_path / "db")
    _, processor = built(write(ROWS), tmp_path / "db")
    assert full.indices == [0, 1] and processor.indices == [2, 3]
    assert database_rows(tmp_path / "db") == set(ROWS)


def test_what_processing_says_of_rows_and_disks_is_said_with_the_folder(write: Write, tmp_path: Path) -> None:
    def too_full(task: ShardTask, directory: Path, name: str) -> None:
        raise DatabaseError("shard: 9 rows find no place")

    def no_room(task: ShardTask, directory: Path, name: str) -> None:
        with replacing(Path("/dev/full/urls-0.bin")):
            raise AssertionError("a device is no folder")

    with pytest.raises(BuildError, match=r"/db: shard: 9 rows find no place"):
        build([write(ROWS)], tmp_path / "db", FOUR, now=NOW, process=too_full)
    with pytest.raises(StorageError, match=r"/dev/full/urls-0.bin: Not a directory"):
        build([write(ROWS)], tmp_path / "db", FOUR, now=NOW, process=no_room)


def test_a_shard_that_was_damaged_is_not_handed_on(write: Write, tmp_path: Path) -> None:
    built(write(ROWS), tmp_path / "db")
    (tmp_path / "db/versions/1/urls-1.bin").write_bytes(b"short")
    (tmp_path / "db/versions/1/urls-3.params.txtpb").unlink()
    _, processor = built(write([*reversed(ROWS)]), tmp_path / "db")
    assert processor.indices == [1, 3] and database_rows(tmp_path / "db") == set(ROWS)


def test_work_for_other_lists_is_not_gone_on_with(write: Write, tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        build([write(ROWS)], tmp_path / "db", FOUR, now=NOW, process=Processor(dies_at=2))
    _, processor = built(write(ROWS[1:]), tmp_path / "db")
    assert processor.indices == [0, 1, 2, 3] and database_rows(tmp_path / "db") == set(ROWS[1:])


def _kill_oneself(task: ShardTask, directory: Path, name: str) -> None:
    if task.index == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    Processor()(task, directory, name)


def _build_and_die(path: Path, directory: Path) -> None:
    build([path], directory, FOUR, now=NOW, process=_kill_oneself)


def test_a_build_that_is_killed_leaves_the_old_version_and_is_gone_on_with(write: Write, tmp_path: Path) -> None:
    built(write(ROWS[:100]), tmp_path / "db")
    child = multiprocessing.get_context("spawn").Process(target=_build_and_die, args=(write(ROWS), tmp_path / "db"))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    child.close()
    assert current_version(tmp_path / "db").name == "1"
    _, processor = built(write(ROWS), tmp_path / "db")
    assert processor.indices == [2, 3] and database_rows(tmp_path / "db") == set(ROWS)


def test_a_build_that_was_killed_before_its_last_step_is_finished(write: Write, tmp_path: Path) -> None:
    built(write(ROWS), tmp_path / "db")
    built(write(ROWS[1:]), tmp_path / "db")
    (tmp_path / "db/current").unlink()
    (tmp_path / "db/current").symlink_to("versions/1")
    assert built(write(ROWS[1:]), tmp_path / "db")[0].version == 2
    assert current_version(tmp_path / "db").name == "2"


def test_two_builds_at_once_are_refused(write: Write, tmp_path: Path) -> None:
    path = write(ROWS)

    def build_within(task: ShardTask, directory: Path, name: str) -> None:
        build([path], tmp_path / "db", FOUR, now=NOW)

    with pytest.raises(BuildError, match="being built by another process"):
        build([path], tmp_path / "db", FOUR, now=NOW, process=build_within)


def test_a_broken_manifest_is_named(write: Write, tmp_path: Path) -> None:
    built(write(ROWS), tmp_path / "db")
    (tmp_path / "db/versions/1/manifest.json").write_text("{")
    with pytest.raises(BuildError, match=r"versions/1/manifest.json: .*no JSON"):
        built(write(ROWS), tmp_path / "db")


@given(st.data())
def test_fuzz_manifests(data: st.DataObject) -> None:
    values = json.loads(SOUND)
    key = data.draw(st.sampled_from(sorted(values)))
    values[key] = data.draw(st.none() | st.integers() | st.text() | st.lists(st.none()) | st.just({"rows": "x"}))
    for text in (json.dumps(values), data.draw(st.text()), SOUND[: data.draw(st.integers(0, len(SOUND)))]):
        try:
            Manifest.from_json(text)
        except BuildError:
            pass


COUNTS = {"rows": 1, "retired": 0, "bin_bytes": 1}
SOUND = json.dumps(
    {
        **dict.fromkeys(("format", "version", "created", "row_count", "retired_count", "added_count"), 1),
        "removed_count": 0,
        "usecase": "u",
        "file_stem": "urls",
        "parameters": {},
        "settings": {},
        "shards": [
            {"rows": 1, "retired": 0, "content_sha256": "", "bin_sha256": "", "bin_bytes": 1, "params_sha256": ""}
        ],
        "prefilter": {"tag": "", "bit_count": 1, "hash_count": 1, "murmur_seed": 1, "item_count": 1},
        "inputs": [{"path": "", "sha256": "", "bytes": 1}],
        "refused": {"a": 1},
    }
)


def test_a_sound_manifest_is_read_back() -> None:
    assert json.loads(Manifest.from_json(SOUND).to_json()).items() >= json.loads(SOUND).items()


def test_shards_follow_from_the_target() -> None:
    assert Target().shards_for(1_000_000) == 1
    assert Target().shards_for(1_000_001) == 2
    assert Target(query_ms=82).shards_for(1_000_000) == 2
    assert Target(shard_bytes=17 << 20).shards_for(1_000_000) == 10
    for target in (Target(query_ms=10), Target(shard_count=0), Target(query_ms=20)):
        with pytest.raises(BuildError):
            target.shards_for(10**9)


def test_parameters_stay_while_rows_fit_and_grow_when_they_do_not() -> None:
    first = parameters_that_stay(None, 2, 1000, 0.1)
    assert parameters_that_stay(first, 2, 1100, 0.1) == first
    buckets = first["cuckooTableArguments"]["bucketCount"]["fixedSize"]["bucketCount"]
    assert rows_that_fit(buckets) >= 1100
    assert parameters_that_stay(first, 2, 10_000, 0.1) != first
    assert parameters_that_stay(first, 3, 1000, 0.1) != first
    assert parameters_that_stay({"rlweParameters": "unknown"}, 2, 1000, 0.1) == first


@pytest.mark.parametrize("options", [{"file_stem": "a/b"}, {"retention": -1}, {"kept_versions": 0}, {"usecase": ""}])
def test_options_that_cannot_be_meant(options: dict[str, object]) -> None:
    with pytest.raises(BuildError):
        BuildOptions(**options)  # type: ignore[arg-type]  # values of several types


def test_the_command_makes_shards_that_open(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write([*ROWS, "*.refused.example"])
    assert main([str(path), "-o", str(tmp_path / "db"), "--shards", "2", "--usecase", "org.example.url.filtering"]) == 0
    said = capsys.readouterr()
    assert "version 1, 200 rows (+200 −0) in 2 shards" in said.out
    assert "1 lines were refused" in said.err and "\r" not in said.err
    version = current_version(tmp_path / "db")
    assert Manifest.read(version).usecase == "org.example.url.filtering"
    shards = [Shard.open(version / f"urls-{index}.bin", version / f"urls-{index}.params.txtpb") for index in (0, 1)]
    assert shards[0].parameters == shards[1].parameters
    assert main([str(write(ROWS[1:])), "-o", str(tmp_path / "db"), "--shards", "2"]) == 0
    assert "1 rows that went stay in the database" in capsys.readouterr().out


def test_an_empty_list_builds_a_database_that_blocks_nothing(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(write([])), "-o", str(tmp_path / "db")]) == 0
    assert "blocks nothing" in capsys.readouterr().err
    version = current_version(tmp_path / "db")
    assert Shard.open(version / "urls-0.bin", version / "urls-0.params.txtpb").plaintexts.size


def test_the_real_processing_is_the_same_for_the_same_rows(tmp_path: Path) -> None:
    task = ShardTask(0, "", parameters_that_stay(None, 1, 2, 0.1), b"a.example\nb.example\n")
    for name in ("first", "second"):
        process_into(task, tmp_path, name)
    assert (tmp_path / "first.bin").read_bytes() == (tmp_path / "second.bin").read_bytes()
