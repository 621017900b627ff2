"""Row 7: the memory that 10,000 idle flows take in all processes of `netext run`."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from bench.evidence import NotProven, Ran, Traffic, require
from bench.figures import OURS, Row
from bench.network import ECHO_PORT, FAR4, HERE, wait_for_seconds
from bench.ways import WITNESS, Way, python
from tests.netlab import NOBODY

FLOWS = 10_000
GOAL = 200
SPARE_FILES = 200  # the engine keeps some in reserve, and has others besides the flows


class Memory(NamedTuple):
    """What the processes of one run hold, in MiB."""

    resident: float
    """Sum of the resident sets: shared pages count in each process."""
    proportional: float
    """Sum of the proportional set sizes: shared pages are divided."""
    processes: dict[str, float]
    """Resident set by process."""


def idle_row() -> Row:
    """The row."""

    def reached(row: Row) -> bool | None:
        own = row.median(OURS)
        return None if own is None else own <= GOAL

    row = Row(f"{FLOWS:,} idle flows, resident in all processes", "MiB", f"{GOAL} MiB", reached)
    row.less_is_more = True
    return row


def most_flows(wanted: int) -> int:
    """How many flows the limit of open files allows: the engine needs two descriptors for each."""
    return min(wanted, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_FILES) // 2)


def measure(way: Way, count: int) -> tuple[Memory, str]:
    """Memory while `count` flows are open and idle, and the proof (each is used once afterwards)."""
    client = [WITNESS, *python(), str(HERE / "load.py"), "hold", FAR4, str(ECHO_PORT), str(count)]
    lab = way.lab
    # Rounds follow each other faster than the ports of the last ones become free (TIME_WAIT, 60 s).
    lab.near.run("sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65535")
    with tempfile.TemporaryFile("w+") as log:
        process = lab.near.start(
            *NOBODY, *way.words(client), stdin=subprocess.PIPE, stderr=log, env=lab.environment(), cwd=str(lab.folder)
        )
        assert process.stdin is not None and process.stdout is not None
        first = process.stdout.readline()
        held = None
        if first:
            wait_for_seconds(1.0)
            held = memory(process.pid)
        output, _ = process.communicate("\n" if first else None, timeout=120)
        lab.near.processes.remove(process)
        log.seek(0)
        errors = log.read()
    if held is None or not output:
        raise NotProven(f"the client ended early: {errors.strip()[-300:]}")
    opened, used = json.loads(first), json.loads(output)
    require(used["alive"] == count, f"{used['alive']} of {count} flows still worked afterwards")
    ran = Ran(process.returncode, output, errors, lab.witness())
    traffic = Traffic(64 * count, 128 * count, count, frozenset(opened["seen"]), used["local"])
    return held, way.prove(ran, traffic)


def memory(main: int) -> Memory:
    """Of `netext run` and its processes, without the command and what is below it."""
    own = os.readlink(f"/proc/{main}/ns/net")
    resident = proportional = 0
    each: dict[str, float] = {}
    for pid in (main, *children_of(main)):
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        if WITNESS in words and pid != main and "run" not in words:
            continue  # the command
        if pid == main:
            role = "main"
        elif "network_extension.runtime.provider_host" in words:
            role = "provider"
        else:
            role = "engine" if os.readlink(f"/proc/{pid}/ns/net") == own else "keeper"
        sizes = _sizes(pid)
        resident, proportional = resident + sizes["Rss"], proportional + sizes["Pss"]
        each[role] = sizes["Rss"] / 1024
    return Memory(resident / 1024, proportional / 1024, each)


def children_of(pid: int) -> list[int]:
    """The child processes of a process."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _sizes(pid: int) -> dict[str, int]:
    """The rows of /proc/PID/smaps_rollup, in KiB (Linux 4.14)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) for line in lines}
