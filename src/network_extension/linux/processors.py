"""Processors: how busy each is, what processes take of them, and which of them a process may use (proc(5), sched(7)).

Nothing here raises OSError: processes end at any moment, and /proc may be hidden; then there is nothing to tell.
"""

from __future__ import annotations

import os
from collections.abc import Collection

_IDLE = (3, 4)  # idle and iowait, of the columns of /proc/stat


def allowed_processors() -> frozenset[int]:
    """The processors that this process may use."""
    return frozenset(os.sched_getaffinity(0))


def processor_times() -> dict[int, float]:
    """How long each processor has been busy since the machine started, in seconds; {} where that cannot be read."""
    times = {}
    tick = os.sysconf("SC_CLK_TCK")
    for line in _lines("/proc/stat"):
        name, _, rest = line.partition(" ")
        if not name.startswith("cpu"):
            break  # what follows are long lines about interrupts
        if name != "cpu":
            columns = [int(text) for text in rest.split()[:8]]
            times[int(name[3:])] = sum(time for column, time in enumerate(columns) if column not in _IDLE) / tick
    return times


def process_time(pid: int) -> float:
    """What a process has taken of all processors, in seconds; 0.0 for one that is gone."""
    for line in _lines(f"/proc/{pid}/stat"):
        fields = line.rpartition(")")[2].split()
        if len(fields) > 12:
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def is_alone(pid: int, threads: int) -> bool:
    """Whether a process has at most so many threads, and no children; True for one that is gone."""
    tasks = _threads(pid)
    return len(tasks) <= threads and not any(
        "".join(_lines(f"/proc/{pid}/task/{tid}/children")).split() for tid in tasks
    )


def run_on(pid: int, processors: frozenset[int], *, instead_of: Collection[frozenset[int]]) -> None:
    """Let all threads of a process run on `processors`, but those that run on other than one of the sets `instead_of`:
    somebody else has chosen for them, and has a reason.
    """
    for tid in _threads(pid):
        try:
            present = frozenset(os.sched_getaffinity(tid))
            if present != processors and present in instead_of:
                os.sched_setaffinity(tid, processors)
        except OSError:  # it has ended, or is not ours to move
            continue


def children(pid: int) -> list[int]:
    """The processes that a process has started and that live, and theirs."""
    found: list[int] = []
    level = [pid]
    while level and len(found) < 1024:
        level = [
            int(child)
            for parent in level
            for tid in _threads(parent)
            for child in "".join(_lines(f"/proc/{parent}/task/{tid}/children")).split()
        ]
        found += level
    return found


def _threads(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def _lines(path: str) -> list[str]:
    try:
        with open(path, "rb") as file:
            return file.read(65536).decode("ascii", "replace").splitlines()
    except OSError:
        return []
