"""Which process of the whole machine has a socket open: /proc/PID/fd, for sockets that are older than `socket_owners`.

No look-up in the kernel leads from a socket to its processes, so their descriptors are read one by one, about 2 µs
each. What is read is remembered, and one glance tells whether it still holds. The newest processes, and those of the
socket's user, come first. A socket that nobody has open (a kernel's own, or one whose program has ended) costs a whole
search, which is not repeated for `FORGET_AFTER` seconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

MAX_LINKS = 65536  # descriptors that one search reads
MAX_KNOWN = 65536
FORGET_AFTER = 5.0
_PREFIX = "socket:["


class SocketHolders:
    """Finds the process that holds a socket. Nothing here raises OSError: processes vanish at any moment."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, tuple[int, str]] = {}  # link → process, path of its descriptor
        self._missing: dict[str, float] = {}
        self._recent: list[int] = []

    def find(self, inode: int, uid: int = -1, spare: int = 0) -> int:
        """The number of a process that has the socket with this inode number open; 0 when there is none.

        `uid` is the socket's user, whose processes are looked at first. `spare` is a process that is not meant: the
        one that made the socket for others.
        """
        link = f"{_PREFIX}{inode}]"
        known = self._known.get(link)
        if known is not None:
            if known[0] != spare and _target(known[1]) == link:
                return known[0]
            del self._known[link]
        now = self._clock()
        if now < self._missing.get(link, now):
            return 0
        found = self._search(link, uid, spare)
        if not found:
            if len(self._missing) >= MAX_KNOWN:
                self._missing.clear()
            self._missing[link] = now + FORGET_AFTER
        return found

    def _search(self, link: str, uid: int, spare: int) -> int:
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        links = MAX_LINKS
        for pid in self._candidates(uid):
            if pid == spare:
                continue
            links -= self._read(pid)
            known = self._known.get(link)
            if known is not None and known[0] == pid:
                self._recent = [pid, *(other for other in self._recent if other != pid)][:8]
                return pid
            if links < 0:
                break
        return 0

    def _candidates(self, uid: int) -> Iterator[int]:
        """The processes of the last hits, then the user's, then all others; the newest first."""
        yield from self._recent
        try:
            pids = sorted((int(name) for name in os.listdir("/proc") if name.isdecimal()), reverse=True)
        except OSError:
            return
        others = []
        for pid in pids:
            if pid in self._recent:
                continue
            if uid >= 0 and _owner(pid) != uid:
                others.append(pid)
            else:
                yield pid
        yield from others

    def _read(self, pid: int) -> int:
        """Note all sockets of a process; how many descriptors it has."""
        directory = f"/proc/{pid}/fd"
        try:
            names = os.listdir(directory)
        except OSError:
            return 1
        for name in names:
            path = f"{directory}/{name}"
            link = _target(path)
            if link.startswith(_PREFIX):
                self._known[link] = pid, path
        return len(names) + 1


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _owner(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return -1
