"""The file that `--trace` writes: opened as the caller before the sandbox exists, appended to by the engine.

It holds whole blocks at any time that matters. How far they reach is kept in memory that all processes of the run
share, so that what a killed engine has left half-written is cut off: by the next engine, or by the supervisor at the
end. A disk that is full cuts it off as well.
"""

from __future__ import annotations

import errno
import mmap
import os
import select
import stat
import sys
import time
from collections.abc import Sequence

from .. import __version__
from ..core import pcapng
from ..errors import ConfigurationError

MOST_WAITING = 32 << 20
"""Bytes that wait for the reader of a pipe before the trace is given up."""
_HEADER_TEXT = 1024


class TraceFile:
    """An open trace file, or a pipe. `append` and `resume` are the engine's, `cut` is anybody's."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path, self._descriptor = path, descriptor
        self._regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._shared = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
        self._waiting = b""
        if not self._regular:
            os.set_blocking(descriptor, False)

    @classmethod
    def create(cls, path: str, command: Sequence[str], arguments: Sequence[str]) -> TraceFile:
        """Open `path` anew and write the headers. `arguments` are those of netext. Raises ConfigurationError."""
        try:
            # For the owner's eyes: what is in it was said in confidence.
            file = cls(path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
            file.append(headers(command, arguments))
        except OSError as error:
            message = f"--trace {path}: {error.strerror}; name a file that can be written"
            raise ConfigurationError(message) from None
        return file

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    @property
    def written(self) -> int:
        """Bytes of whole blocks."""
        return int(self._shared[0])

    def append(self, blocks: bytes) -> None:
        """Write whole blocks. Raises OSError; then the file ends with the last block that was written before."""
        if not self._regular:
            self._append_to_pipe(blocks)
            return
        if not os.fstat(self._descriptor).st_nlink:
            raise FileNotFoundError(errno.ENOENT, "the file was removed")
        view, at = memoryview(blocks), self.written
        try:
            while view:
                count = os.pwrite(self._descriptor, view, at)
                view, at = view[count:], at + count
        except OSError:
            self.cut()
            raise
        self._shared[0] = at

    def _append_to_pipe(self, blocks: bytes) -> None:
        """As far as the reader takes it: the datapath does not wait for anybody."""
        waiting = memoryview(self._waiting + blocks)
        try:
            while waiting:
                waiting = waiting[os.write(self._descriptor, waiting[:65536]) :]
        except BlockingIOError:
            pass
        self._waiting = bytes(waiting)
        if len(waiting) > MOST_WAITING:
            raise OSError(errno.ENOBUFS, "its reader is too slow")

    @property
    def is_behind(self) -> bool:
        """Whether the reader of a pipe has not taken everything yet."""
        return bool(self._waiting)

    def wait_for_reader(self, timeout: float) -> None:
        """Let the reader of a pipe take the rest, for `timeout` seconds at most."""
        deadline = time.monotonic() + timeout
        while self._waiting and (left := deadline - time.monotonic()) > 0:
            if select.select([], [self._descriptor], [], left)[1]:
                try:
                    self.append(b"")
                except OSError:
                    return

    def cut(self) -> None:
        """Take away what is behind the last whole block."""
        try:
            if self._regular and os.fstat(self._descriptor).st_size > self.written:
                os.ftruncate(self._descriptor, self.written)
        except OSError:
            pass  # a reader copes with half a block at the end

    def close(self) -> None:
        """Cut, and close the descriptor."""
        self.cut()
        os.close(self._descriptor)


def headers(command: Sequence[str], arguments: Sequence[str]) -> bytes:
    """The blocks with which a trace begins: who wrote it, and what its one interface is."""
    system = os.uname()
    line = _words(("netext", *arguments))
    section = pcapng.section_header(
        hardware=system.machine,
        os=f"{system.sysname} {system.release}, Python {sys.version.split()[0]}",
        application=f"netext {__version__}: {line}"[:_HEADER_TEXT],
    )
    description = f"between the datapath and: {_words(command)}"[:_HEADER_TEXT]
    return section + pcapng.interface_description("netext", description=description)


def _words(words: Sequence[str]) -> str:
    import shlex

    return shlex.join(words)
