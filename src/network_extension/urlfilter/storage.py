"""Writing files whole or not at all, and what is said when a disk does not take them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import NetworkExtensionError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class StorageError(NetworkExtensionError):
    """A file could not be read or written; carries the errno, and the message names the file and what to do."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.errno = number


@contextmanager
def storage_errors(what: str, path: Path) -> Iterator[None]:
    """Turn an OSError into a StorageError that says what was to be done, with which file, and what helps."""
    try:
        yield
    except OSError as error:
        name = error.filename if isinstance(error.filename, str) else str(path)
        number = error.errno or 0
        message = f"{what}: {name}: {error.strerror or error}"
        if number in _FULL:
            message += (
                "; free some space, or choose another disk (TMPDIR for temporary files), and run the same command again"
            )
        raise StorageError(message, number) from error


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a crash of the machine. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Have the names in a folder on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
