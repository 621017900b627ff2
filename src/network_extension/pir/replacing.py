"""Files that are there whole or not at all: written beside their place, then renamed into it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import DatabaseError

PART = ".part"
"""The end of the names of files that are being written. A process that is killed leaves one behind."""


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` when the block ends without an exception.

    Until then what was there stays, also over a crash; the bytes are on the disk before the name is theirs. Raises
    OSError; nothing has changed then.
    """
    # A name of its own also among threads, and among containers that share a folder.
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}{PART}")
    try:
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """`whole_file` for databases. `DatabaseError`: no space, no permission; nothing has changed."""
    try:
        with whole_file(path) as file:
            yield file
    except OSError as error:
        raise DatabaseError(
            f"{path}: {error.strerror or error}; nothing was changed, make room or name another folder"
        ) from error


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk: a rename is there only when the folder is. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


__all__ = ["PART", "replacing", "sync_folder", "whole_file"]
