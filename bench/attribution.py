"""Who made a flow: how long it takes to tell, and what noting it costs the programs themselves.

Every flow is of a process of its own that has ended, and its socket is closed: nothing can be remembered of it.
"""

from __future__ import annotations

import os
import socket
import time
from statistics import median, quantiles

from bench.evidence import NotProven, require
from bench.figures import NATIVE, OURS, Row
from bench.network import FAR4
from network_extension.linux.attribution import Attribution
from network_extension.metadata import ProcessInfo
from tests.netlab import NEAR4, NetLab

GOALS = {"p50": 100.0, "p99": 500.0}
MOST_ADDED = 1.5  # µs to one socket()
_PORT = 9
_FIRST_PORT = 1000  # each flow goes to a port of its own: its own one may come again among thousands


def attribution_rows() -> dict[str, Row]:
    """By quantile, and `socket`: what is added to socket(), connect() and close()."""

    def make(name: str, goal: float) -> Row:
        def reached(row: Row) -> bool | None:
            own = row.median(OURS)
            return None if own is None else own <= goal

        row = Row(f"attribution of a new flow, {name}", "µs", f"{goal:.0f} µs", reached, digits=1)
        row.less_is_more = True
        return row

    def added(row: Row) -> bool | None:
        own, native = row.median(OURS), row.median(NATIVE)
        return None if own is None or native is None else own - native <= MOST_ADDED

    cost = Row("socket(), connect(), close() of a program", "µs", f"native + {MOST_ADDED} µs", added, digits=2)
    cost.less_is_more = True
    return {name: make(name, goal) for name, goal in GOALS.items()} | {"socket": cost}


def measure(lab: NetLab, count: int) -> tuple[dict[str, float], str]:
    """Microseconds for each quantile, over `count` flows; and the proof that all were told rightly."""
    attribution = lab.in_host(lab.near, Attribution)
    assert isinstance(attribution, Attribution)
    try:
        require(attribution.is_exact, f"eBPF is not to be had: {attribution.how}")
        flows = [_ended_flow(lab, _FIRST_PORT + number) for number in range(count)]
        times, wrong = [], 0
        for number, (pid, port) in enumerate(flows):
            local, remote = (socket.inet_aton(NEAR4), port), (socket.inet_aton(FAR4), _FIRST_PORT + number)
            begun = time.perf_counter_ns()
            found = attribution.owner(socket.IPPROTO_UDP, local, remote)
            times.append((time.perf_counter_ns() - begun) / 1000)
            wrong += not _is_right(found, pid)
        require(not wrong, f"{wrong} of {count} flows were taken for another process's")
        values = {"p50": median(times), "p99": quantiles(times, n=100)[-1]}
        return values, f"{count} of {count} right by {attribution.how}"
    finally:
        attribution.close()


def _is_right(found: ProcessInfo | None, pid: int) -> bool:
    return found is not None and found.pid == pid and found.executable == os.readlink("/proc/self/exe")


def _ended_flow(lab: NetLab, remote_port: int) -> tuple[int, int]:
    """A process that connects a socket and ends: its number, and the port."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            sock = lab.in_host(lab.near, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.connect((FAR4, remote_port))
            os.write(writer, sock.getsockname()[1].to_bytes(2, "big"))
        finally:
            os._exit(0)
    os.close(writer)
    port = os.read(reader, 2)
    os.close(reader)
    os.waitpid(pid, 0)
    if len(port) != 2:
        raise NotProven("a program that was to open a flow failed")
    return pid, int.from_bytes(port, "big")


def measure_socket(lab: NetLab, count: int) -> tuple[float, float]:
    """Microseconds of socket(), connect() and close() together: native, and while the programs run."""
    native = lab.in_host(lab.near, lambda: _socket_time(count))
    attribution = lab.in_host(lab.near, Attribution)
    try:
        require(attribution.is_exact, f"eBPF is not to be had: {attribution.how}")
        return native, lab.in_host(lab.near, lambda: _socket_time(count))
    finally:
        attribution.close()


def _socket_time(count: int) -> float:
    times = []
    for _ in range(count):
        begun = time.perf_counter_ns()
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect((FAR4, _PORT))
        sock.close()
        times.append((time.perf_counter_ns() - begun) / 1000)
    return median(times)
