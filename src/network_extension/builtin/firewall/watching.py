"""Notices that files have changed.

Files are looked at twice a second with stat(2), about a microsecond each. inotify would tell sooner, and more often:
editors that write a new file and rename it take the watched inode away, network file systems say nothing, and Python
reaches it by ctypes or another dependency only. A change counts when two looks agree, so that a file which is being
written is not read half.
"""

from __future__ import annotations

from collections.abc import Mapping

from .list_cache import Signature, signature_of

INTERVAL = 0.5  # seconds


class Watch:
    """A set of files, and how they were when they were last read."""

    def __init__(self) -> None:
        self._known: dict[str, Signature | None] = {}
        self._seen: dict[str, Signature | None] = {}

    def start(self, files: Mapping[str, Signature | None]) -> None:
        """Watch these from now on, as they were just before they were read."""
        self._known = self._seen = dict(files)

    @property
    def files(self) -> dict[str, Signature | None]:
        """What is watched."""
        return dict(self._known)

    def has_changed(self) -> bool:
        """Whether a file is different from when it was last read, and the same as at the last call."""
        now = {path: signature_of(path) for path in self._known}
        settled, self._seen = now == self._seen, now
        return settled and now != self._known
