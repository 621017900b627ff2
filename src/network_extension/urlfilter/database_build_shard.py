"""One shard processed: from rows to the two files that a service opens. Runs here, or on a machine of a cluster."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..pir.native_file import SUFFIX
from ..pir.processing import ProcessedShard, process_shard
from ..pir.processing_configuration import ProcessingConfiguration
from ..pir.trials import try_lookups
from .database_build_plan import VALUE

BIN, PARAMS = ".bin", ".params.txtpb"
NATIVE = f"{BIN}{SUFFIX}"
"""What a service maps (`pir.native_file`); made again where it is not there."""


@dataclass(frozen=True, slots=True)
class ShardTask:
    """What a worker needs to process a shard; plain values, so that it can be sent anywhere."""

    index: int
    content_sha256: str
    """What the result is for."""
    parameters: dict[str, Any] = field(repr=False)
    rows: bytes = field(repr=False)
    """Keywords, one a line."""


@dataclass(frozen=True, slots=True)
class ShardFiles:
    """A processed shard as bytes, as it comes back from another machine."""

    index: int
    content_sha256: str
    bin: bytes = field(repr=False)
    params: bytes = field(repr=False)


ShardProcessor = Callable[[ShardTask, Path, str], None]
"""Writes `<name>.bin` and `<name>.params.txtpb` of a task into a folder."""


def process_into(task: ShardTask, directory: Path, name: str) -> None:
    """Process a shard and write its files, with the one that a service maps. Raises PirError: rows that do not fit,
    rows that are not found again, or the disk.
    """
    _processed(task).write(directory / f"{name}{BIN}", directory / f"{name}{PARAMS}")


def _processed(task: ShardTask) -> ProcessedShard:
    keywords = task.rows.split(b"\n")[:-1]
    values, configuration = [VALUE] * len(keywords), ProcessingConfiguration.from_json(task.parameters)
    made = process_shard(keywords, values, configuration)
    try_lookups(made, keywords, values, configuration.trials_per_shard, os.urandom)
    return made


def process_remotely(task: ShardTask) -> ShardFiles:
    """Process a shard in a temporary folder and give back its files: no disk is shared with who asked."""
    with tempfile.TemporaryDirectory(prefix="netext-shard-") as name:
        bin_path, params_path = Path(name, f"shard{BIN}"), Path(name, f"shard{PARAMS}")
        _processed(task).write(bin_path, params_path, native=False)
        return ShardFiles(task.index, task.content_sha256, bin_path.read_bytes(), params_path.read_bytes())
