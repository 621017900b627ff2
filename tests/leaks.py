"""The leak check: what a test may leave behind in the kernel, counted before and after it.

Two kinds of things are told apart. What belongs to us is found through our own processes: the test process is a *child
subreaper* (prctl(2)), so that even a daemon whose parent was killed stays among its descendants, and a namespace lives
on only through a descendant, a descriptor or a mount of ours. What belongs to the whole host (nft tables, routes,
rules, links, named namespaces, files) is compared as text. With NETEXT_SHARED_HOST=1 that half is left out, for a
machine on which others change the network meanwhile.

Namespaces die asynchronously (cleanup_net() in the kernel's net/core/net_namespace.c runs from a workqueue) and so do
the processes of a command that was just ended: the comparison waits, up to a limit.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

PATIENCE = 5.0
"""Seconds until what is still there counts as left behind."""
_POLL = 0.02  # doubled each time: a look costs about as much
_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>, Linux 3.4
_SEARCH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
# What the kernel counts by itself in the lines of ip(8): lifetimes of addresses and routes.
_VOLATILE = re.compile(r"\s(?:expires|age|used|users) \S+|\s(?:valid_lft|preferred_lft) \S+")


class Process(NamedTuple):
    """A process that cannot be mistaken for a later one with the same pid."""

    pid: int
    start_time: int
    """Clock ticks since boot, field 22 of /proc/PID/stat."""

    @property
    def text(self) -> str:
        """The process as a person wants to read it."""
        try:
            words = Path(f"/proc/{self.pid}/cmdline").read_bytes().split(b"\0")
            return f"process {self.pid}: {b' '.join(words).decode(errors='replace').strip() or '(zombie)'}"
        except OSError:
            return f"process {self.pid}"


class Snapshot(NamedTuple):
    """What there is at one moment."""

    processes: frozenset[Process]
    namespaces: frozenset[str]
    descriptors: Mapping[int, str]
    threads: frozenset[str]
    host: Mapping[str, frozenset[str]]

    @classmethod
    def take(cls) -> Snapshot:
        """Look at everything; about 20 ms, most of it for nft and ip."""
        gc.collect()  # sockets and loops that a failed test's traceback kept
        processes = descendants(os.getpid())
        return cls(processes, _namespaces(processes), _descriptors(), _threads(), _host())

    def beyond(self, before: Snapshot) -> list[str]:
        """One line for each thing that is here and was not before, or of the host was and is no more."""
        lines = [process.text for process in sorted(self.processes - before.processes)]
        lines += [f"network namespace {name}" for name in sorted(self.namespaces - before.namespaces)]
        lines += [
            f"descriptor {number}: {what}"
            for number, what in self.descriptors.items()
            if before.descriptors.get(number) != what
        ]
        lines += [f"thread {name}" for name in sorted(self.threads - before.threads)]
        for place, now in self.host.items():
            lines += [f"{place}: new: {line}" for line in sorted(now - before.host[place])]
            lines += [f"{place}: gone: {line}" for line in sorted(before.host[place] - now)]
        return lines


def wait_until_like(before: Snapshot, patience: float = PATIENCE) -> list[str]:
    """What is left behind since `before` after at most `patience` seconds; [] as soon as nothing is."""
    deadline, pause = time.monotonic() + patience, _POLL
    while True:
        reap_orphans(before.processes)
        remains = Snapshot.take().beyond(before)
        if not remains or time.monotonic() > deadline:
            return remains
        time.sleep(pause)  # noqa: TID251 -- neither a namespace nor a grandchild announces its end
        pause = min(2 * pause, 0.5)


def become_subreaper() -> None:
    """Make orphaned descendants our children instead of init's. They are reaped by `reap_orphans`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def reap_orphans(spare: frozenset[Process] = frozenset()) -> None:
    """Collect children that have ended, but those in `spare`, whose owners still want their status."""
    for process in descendants(os.getpid()) - spare:
        try:
            os.waitpid(process.pid, os.WNOHANG)
        except ChildProcessError:
            continue  # a grandchild, or its Popen was quicker


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie: an orphan that ended stays one until `reap_orphans`."""
    stat = _stat(pid)
    return stat is not None and stat[0] not in "ZX"


def descendants(root: int) -> frozenset[Process]:
    """All processes below `root`, zombies among them."""
    children: dict[int, list[Process]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (stat := _stat(int(entry))) is not None:
            children.setdefault(int(stat[1]), []).append(Process(int(entry), int(stat[19])))
    found: set[Process] = set()
    waiting = [root]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            found.add(child)
            waiting.append(child.pid)
    return frozenset(found)


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third (state) on; the second may hold blanks and brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def _namespaces(processes: frozenset[Process]) -> frozenset[str]:
    """Network namespaces other than ours that descendants, our descriptors or our mounts keep alive."""
    names = {_link(f"/proc/{process.pid}/ns/net") for process in processes}
    names.update(_link(f"/proc/self/fd/{number}") for number in _descriptors())
    if not os.environ.get("NETEXT_SHARED_HOST"):  # else others' `ip netns` mounts would count
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            names.update(line.split()[3] for line in mounts if " nsfs " in line)
    return frozenset(name for name in names if name.startswith("net:")) - {_link("/proc/self/ns/net")}


def _descriptors() -> dict[int, str]:
    found = {int(entry): _link(f"/proc/self/fd/{entry}") for entry in os.listdir("/proc/self/fd")}
    return {number: what for number, what in found.items() if what}  # listdir's own is closed by now


def _threads() -> frozenset[str]:
    return frozenset(f"{thread.name} ({thread.ident})" for thread in threading.enumerate())


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


_HOST_COMMANDS = {
    "nft tables": ("nft", "list", "tables"),
    "rules, IPv4": ("ip", "-4", "rule"),
    "rules, IPv6": ("ip", "-6", "rule"),
    "routes, IPv4": ("ip", "-4", "route", "show", "table", "all"),
    "routes, IPv6": ("ip", "-6", "route", "show", "table", "all"),
    "links": ("ip", "-o", "-br", "link"),
    "addresses": ("ip", "-o", "addr"),
}
_HOST_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf")


def _host() -> dict[str, frozenset[str]]:
    if os.environ.get("NETEXT_SHARED_HOST"):
        return {}
    found = {place: _lines(command) for place, command in _HOST_COMMANDS.items()}
    found["named namespaces"] = frozenset(os.listdir("/run/netns") if os.path.isdir("/run/netns") else ())
    found["files"] = frozenset(_file_state(path) for path in _HOST_FILES)
    return found


def _lines(command: tuple[str, ...]) -> frozenset[str]:
    program = shutil.which(command[0], path=_SEARCH)
    if program is None:
        return frozenset()
    output = subprocess.run([program, *command[1:]], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return frozenset(_VOLATILE.sub("", line).strip() for line in output.stdout.splitlines())


def _file_state(path: str) -> str:
    try:
        return f"{path} {hash(Path(path).read_bytes())}"
    except OSError as error:
        return f"{path} {error.strerror}"
