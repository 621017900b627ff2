"""Rows dealt to shards, sorted, and those that are on their way out.

A shard's rows are a file of sorted lines, so that equal rows make an equal file whatever order the lists had: that is
how an unchanged shard is known. Retired rows are lines of a time, a space, and the row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..pir.hashing import keyword_hashes
from ..pir.sharding import ShardingFunction

_BLOCK = 4 << 20
_MOST_OPEN = 256


def deal(blocks: Iterable[bytes], shard_count: int, directory: Path, stem: str) -> None:
    """Write the rows of `blocks` (whole lines) to `<stem>-<i>.dealt`, by shard, in the order in which they come.

    With very many shards the files are opened anew for each block, so that there are never too many.
    """
    paths = [directory / f"{stem}-{index}.dealt" for index in range(shard_count)]
    for path in paths:
        path.unlink(missing_ok=True)
        path.touch()
    for block in blocks:
        if shard_count == 1:
            with paths[0].open("ab") as file:
                file.write(block)
            continue
        rows = np.array(block.split(b"\n")[:-1], dtype=object)
        shards = ShardingFunction().shards_of(keyword_hashes(rows.tolist()), shard_count)
        order = np.argsort(shards, kind="stable")
        bounds = np.searchsorted(shards[order], np.arange(shard_count + 1))
        for index in np.unique(shards):
            part = rows[order[bounds[index] : bounds[index + 1]]]
            with paths[index].open("ab") as file:
                file.write(b"\n".join(part.tolist()) + b"\n")


def read_rows(path: Path) -> list[bytes]:
    """The lines of a file of rows; none where there is no file."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    lines.pop()
    return lines


def row_blocks(paths: Iterable[Path]) -> Iterator[bytes]:
    """Files of rows as blocks of whole lines, one file after the other."""
    for path in paths:
        rest = b""
        with path.open("rb") as file:
            while read := file.read(_BLOCK):
                whole, newline, tail = (rest + read).rpartition(b"\n")
                rest = tail
                if newline:
                    yield whole + newline


def lines_of(rows: Iterable[bytes]) -> bytes:
    """Rows as the content of a file."""
    return b"".join([row + b"\n" for row in rows])


def read_retired(path: Path) -> dict[bytes, int]:
    """Retired rows, and since when they are."""
    retired: dict[bytes, int] = {}
    for line in read_rows(path):
        since, _, row = line.partition(b" ")
        retired[row] = int(since)
    return retired


def retired_lines(retired: Mapping[bytes, int]) -> bytes:
    """Retired rows as the content of a file, sorted."""
    return b"".join([b"%d %s\n" % (retired[row], row) for row in sorted(retired)])


@dataclass(frozen=True, slots=True)
class Changes:
    """What became of a shard's rows since the version before."""

    retired: dict[bytes, int]
    """Rows that stay in the database though they are on no list, and since when."""
    added: int
    removed: int


def changes(
    rows: list[bytes], before: list[bytes], retired_before: Mapping[bytes, int], now: int, retention: int
) -> Changes:
    """Compare a shard's rows with those before.

    Rows that went stay in the database for `retention` seconds, until devices have the prefilter without them
    (specification §7.2).
    """
    listed, listed_before = set(rows), set(before)
    removed = listed_before - listed
    retired = {row: since for row, since in retired_before.items() if row not in listed and now - since < retention}
    if retention:
        retired |= dict.fromkeys(removed, now)
    return Changes(retired, len(listed - listed_before), len(removed))


def content_hash(rows: bytes, retired: Iterable[bytes], parameters: str) -> str:
    """The name of a shard's content: its rows, the retired ones, and how it is processed."""
    hashed = hashlib.sha256(parameters.encode())
    for part in (rows, lines_of(retired)):
        hashed.update(hashlib.sha256(part).digest())
    return hashed.hexdigest()
