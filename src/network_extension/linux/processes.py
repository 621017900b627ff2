"""Which process of a sandbox holds a socket, and what that process is: /proc, read sparingly (proc(5)).

`sock_diag` tells a socket's inode number; its owner is the process with a descriptor that links to `socket:[N]`. No
look-up in the kernel leads there, so processes are asked in the order in which they are likely to be it:

1. the process of the last hit, at the descriptor numbers that it is likely to use next;
2. the tree below the command;
3. every other process in the sandbox's network namespace: daemons, which have left the tree.

Nothing here raises OSError: processes vanish at any moment, and then they are not found.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from ..metadata import MAX_PARENTS, ParentProcess, ProcessInfo

MAX_ARGUMENTS = 65536  # bytes of a command line that are kept
MAX_PROCESSES = 4096
MAX_THREADS = 256  # of one process that are asked for children
MAX_LINKS = 8192  # descriptors that one search looks at, about 10 ms
MAX_CACHE = 1024

Inode = int | None | Callable[[], int | None]


class ProcessFinder:
    """Finds the owners of sockets among the processes below `roots`, and those that share their network namespace."""

    __slots__ = ("_cache", "_last", "_last_descriptor", "_links", "_namespace", "_roots")

    def __init__(self, *roots: int) -> None:
        self._roots = roots
        self._namespace = ""
        self._last, self._last_descriptor = 0, 0
        self._links = 0
        self._cache: dict[int, tuple[tuple[int | str, ...], ProcessInfo]] = {}

    def owner(self, inode: Inode) -> ProcessInfo | None:
        """The process that holds the socket with this inode number (or the one that a call of `inode` returns).

        None when it is gone or has closed the socket. Where descriptors may not be looked at, or the number is not
        known, the only process of the tree is the owner.
        """
        number = inode() if callable(inode) else inode
        pid = self._search(f"socket:[{number}]") if number else 0
        if not pid:
            living = [candidate for candidate in self.tree() if status_of(candidate) is not None]
            pid = living[0] if len(living) == 1 and not (number and _may_look(living[0])) else 0
        return self.describe(pid) if pid else None

    def tree(self) -> list[int]:
        """The root processes and all that are below them, parents before children; may hold zombies."""
        found: list[int] = []
        for root in self._roots:
            level = [root]
            while level and len(found) < MAX_PROCESSES:
                found += level
                level = [child for pid in level for child in _children(pid)]
        return found

    def describe(self, pid: int) -> ProcessInfo | None:
        """What process `pid` is now; None for a zombie, a kernel thread, or none at all.

        Remembered as long as pid, start time, parent, executable and the place of its arguments in memory (which exec
        changes, even to the same program) stay the same.
        """
        status = status_of(pid)
        if status is None:
            return None
        parent, start_time, stack, arguments = status
        executable = executable_of(pid)
        key = (start_time, parent, stack, arguments, executable)
        known = self._cache.get(pid)
        if known is not None and known[0] == key:
            return known[1]
        if not executable and not _read(f"/proc/{pid}/cmdline", 1):
            return None  # a kernel thread has neither
        info = ProcessInfo(
            pid, start_time, user_of(pid), executable or name_of(pid), arguments_of(pid), self._parents(pid, parent)
        )
        if len(self._cache) >= MAX_CACHE:
            self._cache.clear()
        self._cache[pid] = key, info
        return info

    def _parents(self, pid: int, parent: int) -> tuple[ParentProcess, ...]:
        """The chain upwards, the root of the tree last; short where the process has left the tree."""
        chain: list[ParentProcess] = []
        while pid not in self._roots and parent > 1 and len(chain) < MAX_PARENTS:
            status, namespace = status_of(parent), _namespace(parent)
            if status is None or (namespace and namespace != self._known_namespace()):
                break  # a daemon, whose parent is outside of the sandbox
            chain.append(ParentProcess(parent, executable_of(parent) or name_of(parent)))
            pid, parent = parent, status[0]
        return tuple(chain)

    def _search(self, link: str) -> int:
        """The process with a descriptor that links to `link`; 0 when none is found."""
        self._links = MAX_LINKS
        if self._last and (self._is_next(link) or self._holds(self._last, link)):
            return self._last
        tree, last = self.tree(), self._last
        for pid in tree:
            if pid != last and self._holds(pid, link):
                return pid
        known = {*tree, last}
        for pid in self._namespace_members():
            if pid not in known and self._holds(pid, link):
                return pid
        return 0

    def _is_next(self, link: str) -> bool:
        """Whether the last hit's process has the socket at the same number again, or at one of the next.

        A program that opens many connections gets ascending numbers; one that opens and closes gets the same again.
        """
        last, descriptor = self._last, self._last_descriptor
        for number in (descriptor, descriptor + 1, descriptor + 2):
            try:
                if os.readlink(f"/proc/{last}/fd/{number}") == link:
                    self._last_descriptor = number
                    return True
            except OSError:
                pass
        return False

    def _holds(self, pid: int, link: str) -> bool:
        """Whether a process has the socket open; the highest descriptors, likely the newest, are looked at first."""
        try:
            directory = os.open(f"/proc/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            # The kernel lists them in ascending order.
            for name in reversed(os.listdir(directory)):
                self._links -= 1
                if self._links < 0:
                    return False
                try:
                    if os.readlink(name, dir_fd=directory) == link:
                        self._last, self._last_descriptor = pid, int(name)
                        return True
                except OSError:
                    continue
        except OSError:
            pass
        finally:
            os.close(directory)
        return False

    def _known_namespace(self) -> str:
        """The link of the sandbox's network namespace; remembered, for a root may end before its children."""
        if not self._namespace:
            self._namespace = next(filter(None, map(_namespace, self._roots)), "")
        return self._namespace

    def _namespace_members(self) -> Iterator[int]:
        """All processes in the sandbox's network namespace."""
        wanted = self._known_namespace()
        try:
            names = os.listdir("/proc") if wanted else []
        except OSError:
            return
        yield from (int(name) for name in names if name.isdecimal() and _namespace(int(name)) == wanted)


def printable(text: str) -> str:
    """`text` in one line that no terminal takes for a command: control characters and half characters are escaped."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )


def _read(path: str, size: int) -> bytes:
    """The start of a file; b"" when there is none. `open` would cost as much again."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, size)
    except OSError:  # ESRCH: it ended meanwhile
        return b""
    finally:
        os.close(descriptor)


def status_of(pid: int) -> tuple[int, int, int, int] | None:
    """Parent, start time, and the addresses of stack and arguments (0 where we may not know); None for the dead.

    Fields 4, 22, 28 and 48 of /proc/PID/stat. The name before them may hold spaces and parentheses.
    """
    fields = _read(f"/proc/{pid}/stat", 4096).rpartition(b")")[2].split()
    if len(fields) < 46 or fields[0] in (b"Z", b"X", b"x"):
        return None
    return int(fields[1]), int(fields[19]), int(fields[25]), int(fields[45])


def _children(pid: int) -> Iterator[int]:
    """The children of all threads of a process (CONFIG_PROC_CHILDREN, Linux 3.5)."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return
    for thread in threads[:MAX_THREADS]:
        yield from map(int, _read(f"/proc/{pid}/task/{thread}/children", 65536).split())


def executable_of(pid: int) -> str:
    """The path of a process's program, one line of valid text; "" when there is none or it may not be known."""
    try:
        return printable(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return ""


def name_of(pid: int) -> str:
    """The name that the kernel keeps, at most 15 bytes."""
    return printable(_read(f"/proc/{pid}/comm", 64).decode("utf-8", "backslashreplace").strip())


def arguments_of(pid: int) -> tuple[str, ...]:
    """The command line; its words are valid text, and may hold line breaks as they were given."""
    data = _read(f"/proc/{pid}/cmdline", MAX_ARGUMENTS)
    if not data:
        return ()
    return tuple(word.decode("utf-8", "backslashreplace") for word in data.removesuffix(b"\0").split(b"\0"))


def user_of(pid: int) -> int:
    """The effective user. The owner of /proc/PID will not do: it is root for a process that may not be looked at."""
    for line in _read(f"/proc/{pid}/status", 4096).splitlines():
        if line.startswith(b"Uid:"):
            return int(line.split()[2])
    return 0


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return ""


def _may_look(pid: int) -> bool:
    """Whether we may see a process's descriptors."""
    return os.access(f"/proc/{pid}/fd", os.R_OK | os.X_OK) and bool(_namespace(pid))
