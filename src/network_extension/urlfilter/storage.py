"""Writing files whole or not at all, and what is said when a disk does not take them."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import NetworkExtensionError
from ..pir.replacing import whole_file

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
    with whole_file(path) as file:
        file.write(data)
