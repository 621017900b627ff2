"""The files below one folder: listed once, read without ever following a symbolic link, and never written to.

A bundle comes from somewhere: a link in it may name /etc/shadow, a pipe may block whoever opens it. So links are
listed with what they name and not followed, and nothing but regular files is opened.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import IO, NamedTuple

from .errors import UnreadableFile

__all__ = ["MAX_ENTRIES", "MAX_FILE", "BundleFiles", "Entry", "EntryKind"]

MAX_ENTRIES = 400_000
"""Files, folders and links below one folder. Xcode itself has some 300,000."""
MAX_DEPTH = 64
MAX_FILE = 1 << 30
"""Bytes of a file that is read as a whole."""
_CHUNK = 1 << 20


# Not every system has all of them; of those that have links and pipes all do.
_OPEN = os.O_RDONLY
for _flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):
    _OPEN |= getattr(os, _flag, 0)


class EntryKind(Enum):
    """What stands at a path."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"
    """A pipe, a socket, a device: never opened."""


class Entry(NamedTuple):
    """What stands at a path; of a link, what it names."""

    kind: EntryKind
    target: str = ""


class BundleFiles:
    """All that is below `root`, by path with slashes, relative to it. The root itself is "".

    Raises UnreadableFile when there is too much of it, or it cannot be listed.
    """

    def __init__(self, root: Path, *, listed: bool = True) -> None:
        self.root = root
        self.entries: dict[str, Entry] = {}
        self._children: dict[str, list[str]] = {"": []}
        if listed:
            self._list()

    @classmethod
    def of_file(cls, path: Path) -> BundleFiles:
        """One regular file, without what lies beside it."""
        found = cls(path.parent, listed=False)
        found.entries[path.name] = Entry(EntryKind.FILE)
        found._children[""].append(path.name)
        return found

    def _list(self) -> None:
        waiting = [("", 0)]
        while waiting:
            folder, depth = waiting.pop()
            if depth > MAX_DEPTH:
                raise UnreadableFile(folder, f"folders nested deeper than {MAX_DEPTH}")
            try:
                with os.scandir(self.root / folder) as found:
                    names = sorted(found, key=lambda item: item.name)
            except OSError as error:
                raise UnreadableFile(str(self.root / folder), error.strerror or str(error)) from error
            for item in names:
                path = f"{folder}/{item.name}" if folder else item.name
                entry = _entry(item)
                self.entries[path] = entry
                self._children[folder].append(path)
                if entry.kind is EntryKind.FOLDER:
                    self._children[path] = []
                    waiting.append((path, depth + 1))
            if len(self.entries) > MAX_ENTRIES:
                raise UnreadableFile(str(self.root), f"more than {MAX_ENTRIES} files and folders")

    def kind(self, path: str) -> EntryKind | None:
        """What stands at `path`; None for nothing. The root is a folder."""
        if not path:
            return EntryKind.FOLDER
        entry = self.entries.get(path)
        return None if entry is None else entry.kind

    def is_file(self, path: str) -> bool:
        """Whether a regular file stands there; a link to one is none."""
        return self.kind(path) is EntryKind.FILE

    def is_folder(self, path: str) -> bool:
        """Whether a folder stands there; a link to one is none."""
        return self.kind(path) is EntryKind.FOLDER

    def children(self, folder: str) -> list[str]:
        """Paths directly in a folder, sorted; [] where none stands."""
        return self._children.get(folder, [])

    def below(self, folder: str) -> Iterator[str]:
        """Every path below a folder, parents before what they hold."""
        waiting = list(reversed(self.children(folder)))
        while waiting:
            path = waiting.pop()
            yield path
            waiting.extend(reversed(self.children(path)))

    def read(self, path: str, limit: int = MAX_FILE) -> bytes:
        """A regular file's bytes. Raises UnreadableFile: none, larger than `limit`, or not to be read."""
        with self._open(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise UnreadableFile(path, f"{size} bytes, where at most {limit} are read")
            try:
                return file.read(limit)
            except OSError as error:
                raise UnreadableFile(path, error.strerror or str(error)) from error

    def head(self, path: str, size: int) -> bytes:
        """The first bytes of a regular file. Raises UnreadableFile."""
        with self._open(path) as file:
            return file.read(size)

    def digest(self, path: str, algorithm: str) -> bytes:
        """The hash of a regular file of any size. Raises UnreadableFile."""
        found = hashlib.new(algorithm, usedforsecurity=False)
        with self._open(path) as file:
            try:
                while chunk := file.read(_CHUNK):
                    found.update(chunk)
            except OSError as error:
                raise UnreadableFile(path, error.strerror or str(error)) from error
        return found.digest()

    def _open(self, path: str) -> IO[bytes]:
        if not self.is_file(path):
            raise UnreadableFile(path, "no regular file stands there")
        try:
            # What was a file when it was listed may be a link or a pipe by now.
            descriptor = os.open(self.root / path, _OPEN)
        except OSError as error:
            raise UnreadableFile(path, error.strerror or str(error)) from error
        file = os.fdopen(descriptor, "rb")
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            file.close()
            raise UnreadableFile(path, "no regular file stands there")
        return file


def _entry(item: os.DirEntry[str]) -> Entry:
    if item.is_symlink():
        try:
            return Entry(EntryKind.LINK, os.readlink(item.path))
        except OSError:
            return Entry(EntryKind.OTHER)
    mode = item.stat(follow_symlinks=False).st_mode
    if stat.S_ISDIR(mode):
        return Entry(EntryKind.FOLDER)
    return Entry(EntryKind.FILE if stat.S_ISREG(mode) else EntryKind.OTHER)
