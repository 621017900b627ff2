"""Bytes that come in chunks, taken by count: what a reader of tar, cpio or pbzx stands on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO

from ..errors import UnreadableFile

__all__ = ["CHUNK", "ByteStream", "file_part"]

CHUNK = 1 << 16
"""Bytes that are read from a file at once."""


class ByteStream:
    """The bytes of `chunks` one after another; never more of them in memory than asked for, and a chunk.

    All methods raise UnreadableFile where the bytes end too early; `what` names them then.
    """

    def __init__(self, chunks: Iterable[bytes], what: str) -> None:
        self._chunks = iter(chunks)
        self._chunk = memoryview(b"")
        self.what = what
        self.offset = 0
        """Bytes taken so far."""

    def at_end(self) -> bool:
        """Whether nothing comes any more."""
        while not self._chunk:
            found = next(self._chunks, None)
            if found is None:
                return True
            self._chunk = memoryview(found)
        return False

    def up_to(self, count: int) -> bytes:
        """`count` bytes, fewer only at the end."""
        return b"".join(self._some(count))

    def take(self, count: int) -> bytes:
        """`count` bytes. The caller has bounded the count."""
        found = self.up_to(count)
        if len(found) < count:
            raise self._cut_off()
        return found

    def pieces(self, count: int) -> Iterator[bytes]:
        """`count` bytes in pieces. What the consumer leaves is next in the stream: exhaust it, or `skip` the rest."""
        left = count
        for piece in self._some(count):
            left -= len(piece)
            yield bytes(piece)
        if left:
            raise self._cut_off()

    def skip(self, count: int) -> None:
        """Leave out `count` bytes."""
        for _ in self.pieces(count):
            pass

    def exhaust(self) -> None:
        """Leave out all that is left, but let its source check it."""
        while not self.at_end():
            self._chunk = memoryview(b"")

    def _some(self, count: int) -> Iterator[memoryview]:
        while count > 0 and not self.at_end():
            piece = self._chunk[:count]
            self._chunk = self._chunk[count:]
            self.offset += len(piece)
            count -= len(piece)
            yield piece

    def _cut_off(self) -> UnreadableFile:
        return UnreadableFile(self.what, f"cut off after {self.offset} bytes")


def file_part(file: IO[bytes], what: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
    """`length` bytes from offset `start` of a seekable file, by default to its end.

    The file's position is kept between pieces, so several parts may be read in turn. Raises UnreadableFile: it ends
    before, or cannot be read.
    """
    at, end = start, None if length is None else start + length
    while end is None or at < end:
        try:
            file.seek(at)
            piece = file.read(CHUNK if end is None else min(CHUNK, end - at))
        except (OSError, OverflowError, ValueError) as error:
            raise UnreadableFile(what, f"cannot be read: {error}") from None
        if not piece:
            break
        at += len(piece)
        yield piece
    if end is not None and at < end:
        raise UnreadableFile(what, f"ends {end - at} bytes too early")
