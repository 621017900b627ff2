"""Compiling block lists: from files of any size to rows, each once, the same for prefilter and database.

Lines become rows (`block_list_lines`), most of them by compiled code (`block_list_kernels`). Rows are dealt by a hash
to so many temporary files that one fits into memory; equal rows meet in one file and all but one are dropped. Memory is
one block of a list and one such file, whatever the size of the lists.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

import numpy as np

from ..errors import ConfigurationError
from .block_list_exceptions import Exceptions
from .block_list_kernels import scan_lines, scatter
from .block_list_lines import LONGEST_LINE, PathCase, read_line
from .bloom_kernels import line_bounds

_BLOCK = 4 << 20
_PART_BYTES = 12 << 20
"""Of text in one temporary file; Python's objects of it take about five times that."""
_MOST_PARTS = 400
_EXCERPT = 120
KEPT_REFUSALS = 1000
"""Refused lines that are kept with their text; of the others only their reason is counted."""

Progress = Callable[[str, int, int], None]
"""What is being done, how much of it is done, of how much."""

_PACKED = {
    b"\x1f\x8b": "compressed by gzip",
    b"PK\x03\x04": "a zip archive",
    b"\xfd7zXZ\0": "compressed by xz",
    b"BZh": "compressed by bzip2",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"\xff\xfe": "in UTF-16",
    b"\xfe\xff": "in UTF-16",
    b"SQLite format 3": "an SQLite database",
    b"%PDF": "a PDF document",
}


class ListError(ConfigurationError):
    """A list that cannot be read as text at all; the message says what it seems to be."""


class Refusal(NamedTuple):
    """A line that became no row."""

    path: str
    line: int
    """Counted from 1."""
    reason: str
    text: str
    """Its beginning, for people."""


class CompiledList:
    """The rows of lists, in temporary files that `close` or the end of a `with` removes.

    `blocks` and `rows` can be read any number of times. The order of rows is the same for the same lists.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._stack = ExitStack()
        self._directory = directory
        self._file = self.temporary_file()
        self.row_count = 0
        self.line_count = 0
        self.duplicate_count = 0
        self.refused: Counter[str] = Counter()
        """How many lines were refused for each reason."""
        self.refusals: list[Refusal] = []
        """The first KEPT_REFUSALS of them."""

    def __enter__(self) -> CompiledList:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary files."""
        self._stack.close()

    def temporary_file(self) -> IO[bytes]:
        """A file without a name that lives as long as this list."""
        return self._stack.enter_context(tempfile.TemporaryFile(prefix="netext-rows-", dir=self._directory))

    def refuse(self, refusal: Refusal) -> None:
        """Note a line that became no row."""
        self.refused[refusal.reason] += 1
        if len(self.refusals) < KEPT_REFUSALS:
            self.refusals.append(refusal)

    def add(self, rows: Iterable[bytes], count: int) -> None:
        """Append rows that are not there yet."""
        if count:
            self._file.write(b"\n".join(rows) + b"\n")
        self.row_count += count

    def blocks(self) -> Iterator[bytes]:
        """The rows as blocks of whole lines, each row with a newline behind."""
        self._file.seek(0)
        rest = b""
        while read := self._file.read(_BLOCK):
            whole, newline, tail = (rest + read).rpartition(b"\n")
            rest = tail
            if newline:
                yield whole + newline

    def rows(self) -> Iterator[str]:
        """The rows one by one."""
        for block in self.blocks():
            yield from block.decode().splitlines()


def compile_list(
    paths: Sequence[str | Path],
    *,
    case: PathCase = PathCase.BOTH,
    directory: Path | None = None,
    on_refusal: Callable[[Refusal], None] | None = None,
    progress: Progress | None = None,
) -> CompiledList:
    """Compile lists into one. Temporary files go to `directory`, else to the system's place for them.

    `on_refusal` is told of every line that became no row. Raises ListError for a file that is no text, OSError for one
    that cannot be read, and for a disk that is full.
    """
    compiled = CompiledList(directory)
    try:
        _Compilation(compiled, case, on_refusal, progress).run([Path(path) for path in paths])
    except BaseException:
        compiled.close()
        raise
    return compiled


class _Compilation:
    """One run over lists; what it found goes into a CompiledList."""

    def __init__(
        self,
        compiled: CompiledList,
        case: PathCase,
        on_refusal: Callable[[Refusal], None] | None,
        progress: Progress | None,
    ) -> None:
        self._compiled, self._case = compiled, case
        self._on_refusal, self._progress = on_refusal, progress
        self._exceptions = Exceptions()
        self._parts: list[IO[bytes]] = []
        self._dealt = 0

    def run(self, paths: list[Path]) -> None:
        """Read, deal, and drop what is there twice."""
        total = sum(path.stat().st_size for path in paths)
        count = min(max(-(-total // _PART_BYTES), 1), _MOST_PARTS)
        self._parts = [self._compiled.temporary_file() for _ in range(count)]
        done = 0
        for path in paths:
            done = self._read(path, done, total)
        for number, part in enumerate(self._parts):
            self._report("dropping duplicates", number, count)
            self._unite(part)
            part.close()
        self._report("dropping duplicates", count, count)
        for path_name, line, row, above in self._exceptions.inexpressible():
            reason = "an exception from a rule that covers more: the filter can only block"
            self._refuse(Refusal(path_name, line, reason, f"@@||{row} (beneath {above})"))
        self._compiled.duplicate_count = self._dealt - self._compiled.row_count

    def _report(self, what: str, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(what, done, total)

    def _refuse(self, refusal: Refusal) -> None:
        self._compiled.refuse(refusal)
        if self._on_refusal is not None:
            self._on_refusal(refusal)

    def _read(self, path: Path, done: int, total: int) -> int:
        first_line = 1
        with path.open("rb") as file:
            _refuse_binary(path, file.read(4096))
            file.seek(0)
            for block in _whole_lines(file):
                self._report("reading", done, total)
                first_line += self._deal_block(path, block, first_line)
                done += len(block)
        self._compiled.line_count += first_line - 1
        return done

    def _deal_block(self, path: Path, block: bytes, first_line: int) -> int:
        buffer = np.frombuffer(block, np.uint8)
        line_count = int(np.count_nonzero(buffer == ord("\n")))
        starts, ends, *slow = scan_lines(buffer, line_count)
        self._deal(buffer, starts, ends)
        rows: list[str] = []
        for start, end, number in zip(*(each.tolist() for each in slow), strict=True):
            rows += self._read_line(path, block[start:end], first_line + number)
        if rows:
            others = np.frombuffer("\n".join(rows).encode(), np.uint8)
            self._deal(others, *line_bounds(others))
        return line_count

    def _deal(self, buffer: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> None:
        scattered, offsets = scatter(buffer, starts, ends, len(self._parts))
        for part, first, last in zip(self._parts, offsets[:-1], offsets[1:], strict=True):
            part.write(scattered[first:last].data)
        self._dealt += len(starts)

    def _read_line(self, path: Path, data: bytes, number: int) -> tuple[str, ...]:
        line = read_line(data, self._case)
        if line.refused:
            excerpt = data[:_EXCERPT].decode("utf-8", "backslashreplace")
            self._refuse(Refusal(str(path), number, line.refused, excerpt))
        for row in line.exceptions:
            self._exceptions.add(row, str(path), number)
        return line.rows

    def _unite(self, part: IO[bytes]) -> None:
        part.seek(0)
        unique: dict[bytes, None] = {}
        for block in _whole_lines(part):
            unique.update(dict.fromkeys(block.split(b"\n")))
        unique.pop(b"", None)
        if self._exceptions:
            kept = [row for row in unique if self._exceptions.leaves(row.decode())]
            self._compiled.add(kept, len(kept))
            self._dealt -= len(unique) - len(kept)
        else:
            self._compiled.add(unique, len(unique))


def _refuse_binary(path: Path, head: bytes) -> None:
    packed = next((kind for magic, kind in _PACKED.items() if head.startswith(magic)), None)
    if packed is None and b"\0" in head:
        packed = "binary"
    if packed is not None:
        raise ListError(f"{path} is {packed}, not a list in UTF-8: unpack or convert it first")


def _whole_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Blocks of whole lines, the last with a newline added. Of a line that is too long only the beginning is kept, so
    that it is refused and not held.
    """
    rest = b""
    while read := file.read(_BLOCK):
        whole, newline, tail = read.rpartition(b"\n")
        if newline:
            yield rest + whole + newline
            rest = tail
        elif len(rest) <= LONGEST_LINE:
            rest += tail[: LONGEST_LINE + 1]
    if rest:
        yield rest + b"\n"
