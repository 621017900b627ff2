"""How much may come out of an archive, and what has come out so far.

A few kilobytes can claim to be terabytes. So everything is counted while it is unpacked, over an archive and all that
lie in it together: what their entries hold, and what is decompressed to find them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UnreadableFile

__all__ = ["DEFAULT_LIMITS", "Budget", "Limits", "quoted"]


@dataclass(frozen=True)
class Limits:
    """Bounds of what one archive may become on disk."""

    entries: int = 200_000
    """Files, folders and links. Xcode itself has some 300,000, and is no app with a Network Extension."""
    total: int = 4 << 30
    """Bytes of all files together."""
    file: int = 2 << 30
    """Bytes of one file."""
    name: int = 1024
    """Bytes of a path: what macOS takes (PATH_MAX)."""
    depth: int = 64
    """Folders below each other."""
    ratio: int = 200
    """Bytes that come out for one byte of the archive. Programs shrink to a third, zeros in zlib to a thousandth."""
    allowance: int = 64 << 20
    """Bytes that may come out whatever the ratio."""
    levels: int = 4
    """Archives within each other that are opened, the outermost among them."""


DEFAULT_LIMITS = Limits()


class Budget:
    """What is left of the limits, for an archive of `size` bytes and all that lie in it."""

    def __init__(self, limits: Limits, size: int | None = None) -> None:
        self.limits = limits
        self.entries = 0
        self.written = 0
        self.expanded = 0
        by_ratio = limits.total if size is None else limits.ratio * size + limits.allowance
        self.bytes = min(limits.total, by_ratio)

    def enter(self, what: str) -> None:
        """Count an entry of the archive `what`. Raises UnreadableFile: one too many."""
        self.entries += 1
        if self.entries > self.limits.entries:
            raise UnreadableFile(what, f"more than {self.limits.entries} files and folders")

    def write(self, count: int, what: str) -> None:
        """Count bytes of files. Raises UnreadableFile."""
        self.written += count
        self._bound(self.written, what)

    def expand(self, count: int, what: str) -> None:
        """Count bytes that were decompressed, whether they end in a file or not. Raises UnreadableFile."""
        self.expanded += count
        self._bound(self.expanded, what)

    def _bound(self, count: int, what: str) -> None:
        if count > self.bytes:
            raise UnreadableFile(what, f"grows to more than {self.bytes} bytes, which is out of proportion")


def quoted(name: str) -> str:
    """A name from an archive as a message can show it: on one line, printable, of bounded length."""
    text = ascii(name) if any(0xD800 <= ord(char) < 0xE000 for char in name[:200]) else repr(name[:200])
    return text[:300]
