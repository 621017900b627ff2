"""The lists that are in use, and how one tells that a file has changed."""

from __future__ import annotations

import io
import os

from .document import RuleError, RuleFileError, read_bounded
from .lists import TargetList

MOST_LIST_BYTES = 64 << 20
Signature = tuple[int, int, int, int]


class ListCache:
    """The lists that are in use; one that has not changed is not read again."""

    def __init__(self) -> None:
        self._lists: dict[str, tuple[Signature, TargetList]] = {}
        self._used: set[str] = set()

    def get(self, path: str) -> TargetList:
        """The list in a file. Raises RuleFileError."""
        self._used.add(path)
        signature = signature_of(path)
        known = self._lists.get(path)
        if known is not None and known[0] == signature and signature is not None:
            return known[1]
        content = read_bounded(path, MOST_LIST_BYTES)
        if b"\0" in content[:4096]:
            raise RuleFileError([RuleError(path, 0, 0, "it is no text, so it is no list of names and networks")])
        found = TargetList(os.path.basename(path), io.StringIO(content.decode("utf-8", "replace")))
        if signature is not None:
            self._lists[path] = signature, found
        return found

    def forget_unused(self) -> None:
        """Let go of the lists that were not asked for since the last call."""
        self._lists = {path: each for path, each in self._lists.items() if path in self._used}
        self._used = set()


def signature_of(path: str) -> Signature | None:
    """What changes whenever a file does: device, inode, size and time; None if there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
