"""zlib, gzip, bzip2 and xz as streams: bounded output for each piece of input, and a budget for all of it."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Protocol

from ..errors import UnreadableFile
from .limits import Budget

__all__ = ["Compression", "compression_of", "decompressed"]

_STEP = 1 << 18
"""Bytes that come out of a decompressor at once."""
MAX_STREAMS = 100_000
"""Compressed streams behind each other in one. bgzip makes one for each 64 KiB."""
_XZ_MEMORY = 192 << 20
"""For the dictionary: `xz -9` needs 65 MiB; a header may claim 4 GiB."""


class Compression(Enum):
    """Ways to compress a stream."""

    DEFLATE = "deflate"
    """Bare, as in zip."""
    ZLIB = "zlib"
    """zlib or gzip, which its own head tells: what xar calls application/x-gzip is zlib."""
    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"
    LZMA = "xz or lzma"
    """Which its own head tells."""


_MAGIC = {b"\x1f\x8b\x08": Compression.GZIP, b"BZh": Compression.BZIP2, b"\xfd7zXZ\0": Compression.XZ}


def compression_of(head: bytes) -> Compression | None:
    """By its first bytes; None: none that these are."""
    return next((found for magic, found in _MAGIC.items() if head.startswith(magic)), None)


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


class _Inflater:
    """zlib's object with the ways of the two others: it keeps the input that it has not used yet."""

    def __init__(self, wbits: int) -> None:
        self._object = zlib.decompressobj(wbits)

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data

    def decompress(self, data: bytes, max_length: int = 0) -> bytes:
        return self._object.decompress(self._object.unconsumed_tail + data, max_length)


def _of_lzma(format_: int) -> Callable[[], _Decompressor]:
    return lambda: lzma.LZMADecompressor(format_, _XZ_MEMORY)


_MAKERS: dict[Compression, Callable[[], _Decompressor]] = {
    Compression.DEFLATE: lambda: _Inflater(-15),
    Compression.ZLIB: lambda: _Inflater(32 + 15),
    Compression.GZIP: lambda: _Inflater(16 + 15),
    Compression.BZIP2: bz2.BZ2Decompressor,
    Compression.XZ: _of_lzma(lzma.FORMAT_XZ),
    Compression.LZMA: _of_lzma(lzma.FORMAT_AUTO),
}
_SINGLE = (Compression.DEFLATE, Compression.ZLIB, Compression.LZMA)
_FAULTS = (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError)


def decompressed(
    chunks: Iterable[bytes], kind: Compression, what: str, budget: Budget, step: int = _STEP
) -> Iterator[bytes]:
    """What comes out of `chunks`, in pieces of at most `step` bytes.

    gzip, bzip2 and xz may be several streams with zeros between and behind them, the others are one with nothing
    behind. Raises UnreadableFile: damaged, cut off, something behind it, or more than the budget.
    """
    source = iter(chunks)
    rest, streams = b"", 0
    while streams == 0 or (rest := _next_stream(rest, source)):
        streams += 1
        if streams > (1 if kind in _SINGLE else MAX_STREAMS):
            raise UnreadableFile(what, f"more than one {kind.value} stream" if streams == 2 else "too many streams")
        decompressor = _MAKERS[kind]()
        for piece in _stream(decompressor, rest, source, kind, what, step):
            budget.expand(len(piece), what)
            yield piece
        rest = decompressor.unused_data


def _next_stream(rest: bytes, source: Iterator[bytes]) -> bytes:
    """The first bytes of the next stream, b"" for none: zeros fill up to the size of a block."""
    rest = rest.lstrip(b"\0")
    while not rest and (chunk := next(source, None)) is not None:
        rest = chunk.lstrip(b"\0")
    return rest


def _stream(
    decompressor: _Decompressor, data: bytes, source: Iterator[bytes], kind: Compression, what: str, step: int
) -> Iterator[bytes]:
    while True:
        while True:
            try:
                piece = decompressor.decompress(data, step)
            except _FAULTS as error:
                raise UnreadableFile(what, f"damaged {kind.value} data: {error or type(error).__name__}") from None
            data = b""
            if piece:
                yield piece
            if decompressor.eof:
                return
            if len(piece) < step:
                break
        if (chunk := next(source, None)) is None:
            raise UnreadableFile(what, f"its {kind.value} data are cut off")
        data = chunk
