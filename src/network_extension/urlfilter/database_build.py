"""`netext urlfilter build`: from block lists to a folder that the service serves, and that devices find stable.

The steps, each of which leaves its result in DIR/building, where a build that was interrupted goes on:

1. Compile the lists, deal the rows to shards, compare them with the version before: which rows came, which went.
2. Process each shard that is not the same as before (a link takes its place otherwise).
3. Make the prefilter of the same rows.
4. Write the manifest, make of the folder a version, and switch to it by one rename.

What follows from the lists alone is the same for the same lists: a shard is known by the hash of its content.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..pir.errors import PirError
from .block_list import CompiledList, Progress, Refusal, compile_list
from .block_list_lines import PathCase
from .bloom import DEFAULT_TOLERANCE, build_prefilter_from_blocks, to_json, to_plist
from .database_build_directory import BuildDirectory, link_or_copy
from .database_build_manifest import (
    DEFAULT_USECASE,
    BuildError,
    InputEntry,
    Manifest,
    PrefilterEntry,
    ShardEntry,
    current_version,
)
from .database_build_plan import Target, parameters_that_stay
from .database_build_rows import (
    changes,
    content_hash,
    deal,
    lines_of,
    read_retired,
    read_rows,
    retired_lines,
    row_blocks,
)
from .database_build_shard import BIN, NATIVE, PARAMS, ShardFiles, ShardProcessor, ShardTask, process_into
from .storage import StorageError, storage_errors, write_whole

DEFAULT_RETENTION = 86_400
"""Seconds that rows which went stay in the database: devices' default interval of fetching prefilters."""

RemoteRunner = Callable[[Iterable[ShardTask]], Iterator[ShardFiles]]
"""Processes shards elsewhere, and gives them back in any order (`cluster.ClusterRunner`)."""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How a database is built."""

    usecase: str = DEFAULT_USECASE
    file_stem: str = "urls"
    target: Target = field(default_factory=Target)
    tolerance: float = DEFAULT_TOLERANCE
    """Of the prefilter: the rate of false positives."""
    case: PathCase = PathCase.BOTH
    retention: int = DEFAULT_RETENTION
    """Seconds; 0 takes rows out of the database at once."""
    kept_versions: int = 3

    def __post_init__(self) -> None:
        if not self.file_stem or not self.file_stem.replace("-", "").replace("_", "").isalnum():
            raise BuildError(f"{self.file_stem!r} is no beginning of a file's name: letters, digits, - and _ are")
        if self.retention < 0 or self.kept_versions < 1 or not self.usecase:
            raise BuildError("a build needs a use case, a retention of 0 seconds or more, and keeps 1 version or more")


def build(
    lists: Sequence[str | Path],
    directory: str | Path,
    options: BuildOptions | None = None,
    *,
    now: float,
    random: Callable[[int], bytes] = os.urandom,
    progress: Progress | None = None,
    on_refusal: Callable[[Refusal], None] | None = None,
    process: ShardProcessor = process_into,
    remote: RemoteRunner | None = None,
) -> Manifest:
    """Bring the database in `directory` up to date with `lists`; the manifest of the version that is now current.

    Nothing is written when nothing changed. `now` is in seconds since 1970. `remote` processes shards elsewhere.
    Raises ListError for what is no list, BuildError for what cannot be meant and for rows that do not fit, StorageError
    for what a disk does not do; a later call goes on where this one stopped.
    """
    path = Path(directory)
    with storage_errors("cannot build the database", path), _pir_errors(path):
        folder = BuildDirectory(path)
        with folder.locked():
            each = _Build(folder, [Path(name) for name in lists], options or BuildOptions(), now, random)
            each.report = progress or _report_nothing
            return each.run(on_refusal, process, remote)


@contextmanager
def _pir_errors(path: Path) -> Iterator[None]:
    """What `pir`, which knows nothing of this package's errors, has to say."""
    try:
        yield
    except PirError as error:
        cause = error.__cause__
        if isinstance(cause, OSError):
            raise StorageError(f"cannot build the database: {error}", cause.errno or 0) from error
        raise BuildError(f"cannot build the database in {path}: {error}") from error


def _report_nothing(what: str, done: int, total: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class _Plan:
    """What step 1 found, kept in the work folder."""

    parameters: dict[str, Any]
    row_counts: list[int]
    retired_counts: list[int]
    contents: list[str]
    added: int
    removed: int
    refused: dict[str, int]


class _Build:
    """One build, from the lists to the switch."""

    def __init__(
        self,
        folder: BuildDirectory,
        lists: list[Path],
        options: BuildOptions,
        now: float,
        random: Callable[[int], bytes],
    ) -> None:
        self._folder, self._lists, self._options = folder, lists, options
        self._now, self._random = now, random
        self._work = folder.work
        self._previous = folder.previous()
        self.report: Progress = _report_nothing

    def run(
        self, on_refusal: Callable[[Refusal], None] | None, process: ShardProcessor, remote: RemoteRunner | None
    ) -> Manifest:
        """All steps that are still to do."""
        inputs = tuple(self._input(number, path) for number, path in enumerate(self._lists))
        key = self._key(inputs)
        if self._previous is not None and self._is_up_to_date(inputs):
            return self._previous
        self._folder.start_work(key)
        plan = self._planned(on_refusal)
        self._process(plan, process, remote)
        manifest = self._manifest(plan, inputs, self._prefilter(plan))
        self._folder.publish(manifest, self._options.kept_versions)
        return manifest

    def _input(self, number: int, path: Path) -> InputEntry:
        self.report("looking at the lists", number, len(self._lists))
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return InputEntry(str(path), digest, file.tell())

    def _settings(self) -> dict[str, Any]:
        """What the result depends on besides the lists."""
        chosen = asdict(self._options)
        chosen.pop("kept_versions")
        return chosen

    def _key(self, inputs: tuple[InputEntry, ...]) -> str:
        before = self._previous.version if self._previous else 0
        known = [before, [entry.sha256 for entry in inputs], self._settings()]
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()

    def _is_up_to_date(self, inputs: tuple[InputEntry, ...]) -> bool:
        previous = self._previous
        assert previous is not None  # the caller looked
        has_overdue = previous.pending_removals and self._now - previous.created >= self._options.retention
        return (
            not has_overdue
            and [entry.sha256 for entry in previous.inputs] == [entry.sha256 for entry in inputs]
            and previous.settings == self._settings()
        )

    def _name(self, index: int) -> str:
        return f"{self._options.file_stem}-{index}"

    # Step 1

    def _planned(self, on_refusal: Callable[[Refusal], None] | None) -> _Plan:
        kept = self._work / "plan.json"
        if kept.exists():
            return _Plan(**json.loads(kept.read_text()))
        with compile_list(
            self._lists,
            case=self._options.case,
            directory=self._work,
            on_refusal=on_refusal,
            progress=self.report,
        ) as rows:
            plan = self._dealt(rows)
        write_whole(kept, json.dumps(asdict(plan)).encode())
        return plan

    def _dealt(self, rows: CompiledList) -> _Plan:
        count = self._shard_count(rows.row_count)
        self.report("dealing rows to shards", 0, count)
        deal(rows.blocks(), count, self._work, "new")
        before = self._rows_before(count)
        row_counts, retired_counts, added, removed = [], [], 0, 0
        for index in range(count):
            self.report("dealing rows to shards", index, count)
            dealt = self._work / f"new-{index}.dealt"
            listed = sorted(read_rows(dealt))
            change = changes(listed, *before(index), int(self._now), self._options.retention)
            (self._work / f"{self._name(index)}.rows").write_bytes(lines_of(listed))
            (self._work / f"{self._name(index)}.retired").write_bytes(retired_lines(change.retired))
            dealt.unlink()
            row_counts.append(len(listed))
            retired_counts.append(len(change.retired))
            added, removed = added + change.added, removed + change.removed
        for leftover in self._work.glob("*.dealt"):
            leftover.unlink()
        fullest = max(map(sum, zip(row_counts, retired_counts, strict=True)))
        parameters = parameters_that_stay(
            self._previous.parameters if self._previous else None, count, fullest, self._options.target.headroom
        )
        contents = [self._content(index, parameters) for index in range(count)]
        return _Plan(parameters, row_counts, retired_counts, contents, added, removed, dict(rows.refused))

    def _shard_count(self, row_count: int) -> int:
        """As many as before, unless the target wants more, or less than half of them."""
        wanted = self._options.target.shards_for(row_count)
        before = self._previous.shard_count if self._previous else 0
        is_fixed = self._options.target.shard_count is not None
        return before if not is_fixed and before and wanted <= before < 2 * wanted + 1 else wanted

    def _rows_before(self, count: int) -> Callable[[int], tuple[list[bytes], dict[bytes, int]]]:
        """The rows of each shard of the version before, dealt to as many shards as there are now."""
        previous = self._previous
        if previous is None:
            return lambda index: ([], {})
        old = self._folder.version(previous.version)
        stems = [f"{previous.file_stem}-{index}" for index in range(previous.shard_count)]
        if previous.shard_count == count:
            return lambda index: (
                read_rows(old / f"{stems[index]}.rows"),
                read_retired(old / f"{stems[index]}.retired"),
            )
        since = {row: time for stem in stems for row, time in read_retired(old / f"{stem}.retired").items()}
        deal(row_blocks(old / f"{stem}.rows" for stem in stems), count, self._work, "old")
        deal([lines_of(since)], count, self._work, "gone")
        return lambda index: (
            read_rows(self._work / f"old-{index}.dealt"),
            {row: since[row] for row in read_rows(self._work / f"gone-{index}.dealt")},
        )

    def _content(self, index: int, parameters: dict[str, Any]) -> str:
        name = self._work / self._name(index)
        return content_hash(
            name.with_suffix(".rows").read_bytes(),
            sorted(read_retired(name.with_suffix(".retired"))),
            json.dumps(parameters, sort_keys=True),
        )

    # Step 2

    def _process(self, plan: _Plan, process: ShardProcessor, remote: RemoteRunner | None) -> None:
        count = len(plan.contents)
        waiting = [index for index in range(count) if not self._is_there(index, plan)]
        done = count - len(waiting)
        self.report("processing shards", done, count)
        tasks = (self._task(index, plan) for index in waiting)
        for index in self._processed_remotely(tasks, remote) if remote else self._processed_here(tasks, process):
            self._record(index, plan.contents[index])
            done += 1
            self.report("processing shards", done, count)

    def _task(self, index: int, plan: _Plan) -> ShardTask:
        name = self._work / self._name(index)
        retired = lines_of(sorted(read_retired(name.with_suffix(".retired"))))
        return ShardTask(index, plan.contents[index], plan.parameters, name.with_suffix(".rows").read_bytes() + retired)

    def _processed_here(self, tasks: Iterable[ShardTask], process: ShardProcessor) -> Iterator[int]:
        for task in tasks:
            process(task, self._work, self._name(task.index))
            yield task.index

    def _processed_remotely(self, tasks: Iterable[ShardTask], remote: RemoteRunner) -> Iterator[int]:
        for files in remote(tasks):
            name = self._name(files.index)
            write_whole(self._work / f"{name}{PARAMS}", files.params)
            write_whole(self._work / f"{name}{BIN}", files.bin)
            yield files.index

    def _record(self, index: int, content: str) -> None:
        """Note that a shard's files are whole. Without this they are made again after an interruption."""
        entry = {"content": content, **self._file_facts(index)}
        write_whole(self._work / f"{self._name(index)}.record.json", json.dumps(entry).encode())

    def _file_facts(self, index: int) -> dict[str, Any]:
        name = self._name(index)
        with (self._work / f"{name}{BIN}").open("rb") as file:
            os.fsync(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
        params = hashlib.sha256((self._work / f"{name}{PARAMS}").read_bytes()).hexdigest()
        return {"bin_sha256": digest, "bin_bytes": size, "params_sha256": params}

    def _is_there(self, index: int, plan: _Plan) -> bool:
        """Whether a shard was processed before: by an interrupted build, or for the version before."""
        record = self._work / f"{self._name(index)}.record.json"
        if record.exists():
            return bool(json.loads(record.read_text())["content"] == plan.contents[index])
        previous = self._previous
        if previous is None or index >= previous.shard_count:
            return False
        entry = previous.shards[index]
        old = self._folder.version(previous.version)
        files = [old / f"{previous.file_stem}-{index}{suffix}" for suffix in (BIN, PARAMS)]
        if entry.content_sha256 != plan.contents[index] or not _is_sound(files, entry):
            return False
        for suffix in (BIN, PARAMS, NATIVE):
            source = old / f"{previous.file_stem}-{index}{suffix}"
            if suffix != NATIVE or source.exists():
                link_or_copy(source, self._work / f"{self._name(index)}{suffix}")
        facts = {"bin_sha256": entry.bin_sha256, "bin_bytes": entry.bin_bytes, "params_sha256": entry.params_sha256}
        write_whole(record, json.dumps({"content": entry.content_sha256, **facts}).encode())
        return True

    # Steps 3 and 4

    def _prefilter(self, plan: _Plan) -> PrefilterEntry:
        self.report("making the prefilter", 0, 1)
        paths = [self._work / f"{self._name(index)}.rows" for index in range(len(plan.contents))]
        prefilter = build_prefilter_from_blocks(
            row_blocks(paths),
            tolerance=self._options.tolerance,
            item_count=sum(plan.row_counts),
            # The seed stays, so that equal rows make an equal prefilter and devices fetch nothing.
            murmur_seed=self._previous.prefilter.murmur_seed if self._previous else None,
            random=self._random,
        )
        write_whole(self._work / "prefilter.plist", to_plist(prefilter))
        write_whole(self._work / "prefilter.json", to_json(prefilter).encode())
        self.report("making the prefilter", 1, 1)
        return PrefilterEntry(
            prefilter.tag, prefilter.bit_count, prefilter.hash_count, prefilter.murmur_seed, sum(plan.row_counts)
        )

    def _manifest(self, plan: _Plan, inputs: tuple[InputEntry, ...], prefilter: PrefilterEntry) -> Manifest:
        return Manifest(
            version=self._previous.version + 1 if self._previous else 1,
            created=self._now,
            usecase=self._options.usecase,
            file_stem=self._options.file_stem,
            row_count=sum(plan.row_counts),
            retired_count=sum(plan.retired_counts),
            added_count=plan.added,
            removed_count=plan.removed,
            parameters=plan.parameters,
            settings=self._settings(),
            shards=tuple(self._shard(index, plan) for index in range(len(plan.contents))),
            prefilter=prefilter,
            inputs=inputs,
            refused=plan.refused,
        )

    def _shard(self, index: int, plan: _Plan) -> ShardEntry:
        record = json.loads((self._work / f"{self._name(index)}.record.json").read_text())
        return ShardEntry(
            rows=plan.row_counts[index],
            retired=plan.retired_counts[index],
            content_sha256=record["content"],
            bin_sha256=record["bin_sha256"],
            bin_bytes=record["bin_bytes"],
            params_sha256=record["params_sha256"],
        )


def _is_sound(files: list[Path], entry: ShardEntry) -> bool:
    """Whether the files of an earlier version are what its manifest says: damage is not handed on."""
    for path, expected in zip(files, (entry.bin_sha256, entry.params_sha256), strict=True):
        if not path.exists():
            return False
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                return False
    return True


__all__ = [
    "DEFAULT_RETENTION",
    "DEFAULT_USECASE",
    "BuildError",
    "BuildOptions",
    "Manifest",
    "RemoteRunner",
    "build",
    "current_version",
]
