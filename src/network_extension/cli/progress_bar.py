"""One line on a terminal that says how far a long command is; nothing where no one looks."""

from __future__ import annotations

from types import TracebackType
from typing import TextIO

_WIDTH = 32


class ProgressBar:
    """Shows `what` with a bar. Use as a context: the line is gone at its end. Writes to terminals only."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._shown = ""

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._replace("")

    def show(self, what: str, done: int, total: int) -> None:
        """So much of `total` is done."""
        part = done / total if total else 1.0
        filled = round(part * _WIDTH)
        self._replace(f"{what:24} {'█' * filled}{'░' * (_WIDTH - filled)} {part:4.0%}")

    def _replace(self, line: str) -> None:
        if self._is_terminal and line != self._shown:
            self._stream.write(f"\r\x1b[K{line}")
            self._stream.flush()
            self._shown = line
