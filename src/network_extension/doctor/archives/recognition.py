"""What kind of archive a file is, by what it holds; its name tells nothing that counts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from ..errors import UnreadableFile
from .byte_stream import ByteStream, file_part
from .compression import compression_of, decompressed
from .limits import DEFAULT_LIMITS, Budget
from .tar_archive import BLOCK, is_tar_header
from .xar import MAGIC as XAR_MAGIC
from .zip_archive import MAGICS as ZIP_MAGICS

__all__ = ["DISK_IMAGE", "archive_kind", "is_archive"]

DISK_IMAGE = "disk image"
_KOLY, _KOLY_SIZE = b"koly", 512
_LOOK = 4 << 20
"""Bytes of a compressed file that are looked at: bzip2 yields nothing before its first 900 KB have come."""


def is_archive(head: bytes, path: Path) -> str | None:
    """zip, tar, xar or disk image; None: neither.

    `head` are its first bytes, 512 unless there are fewer. Raises UnreadableFile: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            kind = _by_head(head) or archive_kind(file)
    except OSError as error:
        raise UnreadableFile(str(path), error.strerror or str(error)) from None
    return kind or (DISK_IMAGE if path.suffix == ".dmg" else None)


def archive_kind(file: IO[bytes]) -> str | None:
    """The same of a seekable file."""
    head = b"".join(file_part(file, "archive", 0, min(BLOCK, file.seek(0, os.SEEK_END))))
    if (found := _by_head(head)) is not None:
        return found
    if _is_disk_image(file):
        return DISK_IMAGE
    return "tar" if _is_compressed_tar(head, file) else None


def _by_head(head: bytes) -> str | None:
    if head.startswith(XAR_MAGIC):
        return "xar"
    if head.startswith(ZIP_MAGICS):
        return "zip"
    return "tar" if is_tar_header(head[:BLOCK]) else None


def _is_disk_image(file: IO[bytes]) -> bool:
    """A disk image tells what it is in its last 512 bytes."""
    size = file.seek(0, os.SEEK_END)
    return size >= _KOLY_SIZE and b"".join(file_part(file, "archive", size - _KOLY_SIZE, 4)) == _KOLY


def _is_compressed_tar(head: bytes, file: IO[bytes]) -> bool:
    kind = compression_of(head)
    if kind is None:
        return False
    size = file.seek(0, os.SEEK_END)
    chunks = file_part(file, "archive", 0, min(size, _LOOK))
    # No more than the one header: where something behind it is damaged, the reader is to say so.
    pieces = decompressed(chunks, kind, "archive", Budget(DEFAULT_LIMITS), BLOCK)
    try:
        block = ByteStream(pieces, "archive").up_to(BLOCK)
    except UnreadableFile:
        return False
    return is_tar_header(block)
