"""Pipes through which splice(2) moves bytes: each is lent to a direction that is moving, and goes back to the pool."""

from __future__ import annotations

import fcntl
import os

F_SETPIPE_SZ, F_GETPIPE_SZ = 1031, 1032
PIPE_SIZE = 1 << 20


class Pipe:
    """A kernel pipe and how many bytes are in it."""

    __slots__ = ("read_end", "write_end", "size", "held")

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self.size = fcntl.fcntl(self.write_end, F_SETPIPE_SZ, PIPE_SIZE)
        except OSError:  # the user's pipe memory is used up: the pipe works, in smaller portions
            self.size = fcntl.fcntl(self.write_end, F_GETPIPE_SZ)
        self.held = 0

    def close(self) -> None:
        """Close both ends."""
        os.close(self.read_end)
        os.close(self.write_end)


class PipePool:
    """Empty pipes for the directions that are moving just now."""

    def __init__(self, keep: int = 16) -> None:
        self._free: list[Pipe] = []
        self._keep = keep

    def take(self) -> Pipe | None:
        """An empty pipe; None when there are no descriptors left."""
        if self._free:
            return self._free.pop()
        try:
            return Pipe()
        except OSError:
            return None

    def give(self, pipe: Pipe) -> None:
        """Take back a pipe; one that still holds bytes is closed."""
        if pipe.held or len(self._free) >= self._keep:
            pipe.close()
        else:
            self._free.append(pipe)
