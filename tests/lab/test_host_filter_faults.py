"""`netext filter` under faults: kill -9 of each process in each state, filters that stall, floods, suspend, a link that
goes. With policy open the network is back within a second, with policy closed nothing undecided gets out.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.leaks import is_running
from tests.netlab import FAR4, NEAR4, NetLab, acquainted_lab, wait_for

from .echo_server import EchoServer
from .host_filter import (
    ALL_OUT,
    ALLOW,
    NEVER,
    PAUSE,
    PEEK_OUT,
    RAISE,
    STUCK,
    RunningFilter,
    attempt,
    near_socket,
    works_within,
)

pytestmark = pytest.mark.lab
STATES = ["idle", "flow held", "flow paused", "data held"]
HELD_PORT = {"flow held": NEVER, "flow paused": PAUSE, "data held": ALL_OUT}


@pytest.fixture(scope="module")
def served() -> Iterator[NetLab]:
    """A lab of this module's own."""
    with ExitStack() as stack:
        lab = stack.enter_context(acquainted_lab())
        for port in (ALLOW, PEEK_OUT, PAUSE, ALL_OUT, RAISE, NEVER, STUCK):
            stack.enter_context(EchoServer(lab, port))
        # What reaches `far` of flows that must not: counted by nft there.
        rules = "table inet count { counter leaked { }; chain in { type filter hook input priority 0; }; }"
        lab.far.run("nft", rules)
        for port in (PAUSE, NEVER, STUCK, RAISE):
            lab.far.run(
                "nft", "add", "rule", "inet", "count", "in", "tcp", "dport", str(port), "counter", "name", "leaked"
            )
        yield lab


def leaked(lab: NetLab) -> int:
    """Packets that reached `far` of flows that no filter allowed; counts from now on again."""
    data = json.loads(lab.far.run("nft", "-j", "reset", "counters", "table", "inet", "count").stdout)
    return sum(int(item["counter"]["packets"]) for item in data["nftables"] if "counter" in item)


def bring_into(lab: NetLab, running: RunningFilter, state: str) -> socket.socket | None:
    """Have a flow in that state; its socket."""
    if state == "idle":
        return None
    sock = near_socket(lab)
    sock.setblocking(False)
    sock.connect_ex((FAR4, HELD_PORT[state]))
    if state == "data held":
        sock.setblocking(True)
        wait_for(lambda: sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == b"\x01", 5, "the connection")
        sock.sendall(b"x" * 3000)
    return sock


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("who", ["provider", "engine", "supervisor"])
class TestKill:
    def test_policy_open(self, served: NetLab, tmp_path: Path, who: str, state: str) -> None:
        """New flows work within a second; a dead supervisor leaves neither table nor process."""
        with ExitStack() as stack:
            running = stack.enter_context(RunningFilter(served, tmp_path / "log", "--deadline", "60"))
            sock = bring_into(served, running, state)
            if sock is not None:
                stack.callback(sock.close)
            pids = [running.process.pid, running.engine, running.provider]
            running.kill(running.process.pid if who == "supervisor" else getattr(running, who))
            works_within(served, ALLOW, 1.0)
            if who == "supervisor":
                wait_for(lambda: not running.tables(), 3, "the table's end")
                wait_for(lambda: not any(is_running(pid) for pid in pids), 8, "the end of all processes")
            else:
                running.wait_for_event("in-force", count=1 if who == "provider" else 2)
                before = len(running.events("decision"))
                wait_for(lambda: attempt(served, ALLOW) == "echoed" and len(running.events("decision")) > before)

    def test_policy_closed(self, served: NetLab, tmp_path: Path, who: str, state: str) -> None:
        """Not one packet of an undecided flow gets out, whoever dies; after a dead supervisor until `--remove`."""
        leaked(served)
        with ExitStack() as stack:
            options = ("--policy", "closed", "--deadline", "60")
            running = stack.enter_context(RunningFilter(served, tmp_path / "log", *options))
            if state != "data held":
                sock = bring_into(served, running, state)
                if sock is not None:
                    stack.callback(sock.close)
            running.kill(running.process.pid if who == "supervisor" else getattr(running, who))
            for _ in range(3):
                assert attempt(served, NEVER, 0.2) in ("TimeoutError", "ConnectionRefusedError")
            assert leaked(served) == 0
            if who == "supervisor":
                wait_for(lambda: not is_running(running.process.pid), 3)
                assert "netext_filter" in running.tables()
                assert attempt(served, ALLOW, 0.3) == "TimeoutError"
                removed = served.near.run(*served.netext("filter", "--remove"))
                assert "taken away" in removed.stdout
                assert not running.tables()
            works_within(served, ALLOW, 5.0)


class TestTrouble:
    @pytest.mark.parametrize(("policy", "result"), [("open", "echoed"), ("closed", "ConnectionRefusedError")])
    @pytest.mark.parametrize("port", [RAISE, NEVER, STUCK])
    def test_a_filter_that_misbehaves(
        self, served: NetLab, tmp_path: Path, port: int, policy: str, result: str
    ) -> None:
        options = ("--policy", policy, "--deadline", "0.5", "--hang-timeout", "2")
        with RunningFilter(served, tmp_path / "log", *options) as running:
            assert attempt(served, port, 4) == result
            assert f"policy {policy}" in running.decision(port)["reason"]
            works_within(served, ALLOW, 6.0)

    @pytest.mark.parametrize("policy", ["open", "closed"])
    def test_a_filter_that_stalls_in_start_filter(self, served: NetLab, tmp_path: Path, policy: str) -> None:
        """Scenario S4: it must not take the network, unless it was asked to. A line says so."""
        options = ("--policy", policy, "--config", "start_seconds=3600", "--grace", "0.1")
        with RunningFilter(served, tmp_path / "log", *options, wait=False) as running:
            if policy == "closed":
                running.wait_for_event("in-force")
            for _ in range(3):
                assert attempt(served, ALLOW, 1) == ("echoed" if policy == "open" else "ConnectionRefusedError")
            line = running.said("has been starting for 5 s", 8)["text"]
            assert ("everything flows" if policy == "open" else "nothing flows") in line
            assert attempt(served, ALLOW, 1) == ("echoed" if policy == "open" else "ConnectionRefusedError")

    def test_a_filter_that_cannot_start(self, served: NetLab, tmp_path: Path) -> None:
        missing = str(tmp_path / "none.py")
        done = served.near.run(*served.netext("filter", "--provider", missing, "--policy", "closed"))
        assert done.returncode == 66
        assert served.near.run("nft", "list", "tables").stdout == ""
        assert attempt(served, ALLOW) == "echoed"

    def test_a_second_filter(self, served: NetLab, tmp_path: Path) -> None:
        with RunningFilter(served, tmp_path / "log") as running:
            for arguments in (["filter"], ["filter", "--remove"]):
                done = served.near.run(*served.netext(*arguments))
                assert done.returncode == 71
                assert f"(pid {running.process.pid})" in done.stderr
            assert attempt(served, ALLOW) == "echoed"

    def test_an_ordinary_user(self, served: NetLab) -> None:
        done = served.near.run(*served.netext("filter", "--for", "1"), user=True)
        assert done.returncode == 77
        assert "sudo netext filter --for 1" in done.stderr


class TestFlood:
    def test_of_syns(self, served: NetLab, tmp_path: Path) -> None:
        """50,000 of them in a second, each from an address of its own: no crash, bounded memory, others are served."""
        with RunningFilter(served, tmp_path / "log", "--quiet", wait=False) as running:
            wait_for(running.tables, 15, "the table")
            engine = running.engine
            raw = served.in_host(served.far, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW))
            with raw, near_socket(served) as listener:
                listener.bind((NEAR4, ALLOW))
                listener.listen(100)
                begin = time.monotonic()
                for number in range(50_000):
                    raw.sendto(syn_packet(number), (NEAR4, 0))
                assert time.monotonic() - begin < 5
            works_within(served, ALLOW, 5.0)
            assert running.engine == engine
            status = Path(f"/proc/{engine}/status").read_text()
            assert int(status.split("VmRSS:")[1].split()[0]) < 250_000  # KiB

    def test_of_held_flows(self, served: NetLab, tmp_path: Path) -> None:
        """More flows wait than there is room for: the policy decides about those beyond."""
        with RunningFilter(served, tmp_path / "log", "--deadline", "2") as running, ExitStack() as stack:
            for _ in range(300):
                sock = stack.enter_context(near_socket(served))
                sock.setblocking(False)
                sock.connect_ex((FAR4, PAUSE))
            assert attempt(served, ALLOW) == "echoed"
            assert not running.events("fault")


def syn_packet(number: int) -> bytes:
    """A SYN to ALLOW in `near`, from an address and a port that follow from `number`."""
    source = bytes([203, 0, 113, number % 250 + 1])
    header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40, number & 0xFFFF, 0, 64, 6, 0, source, socket.inet_aton(NEAR4))
    tcp = struct.pack(">HHIIBBHHH", 1024 + number // 250, ALLOW, number, 0, 5 << 4, 2, 1000, 0, 0)
    total = sum(struct.unpack(">10H", tcp)) + sum(struct.unpack(">4H", source + socket.inet_aton(NEAR4))) + 6 + 20
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return header + tcp[:16] + struct.pack(">H", ~total & 0xFFFF) + tcp[18:]


class TestChanges:
    def test_suspend(self, served: NetLab, tmp_path: Path) -> None:
        """Nothing of it runs for some seconds: afterwards every new flow is seen, and none is stuck."""
        with RunningFilter(served, tmp_path / "log") as running:
            pids = [running.process.pid, running.engine, running.provider]
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            with near_socket(served) as early:
                early.setblocking(False)
                early.connect_ex((FAR4, ALLOW))
                with pytest.raises(AssertionError):
                    wait_for(lambda: False, 3.5)
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)
                running.said("of sleep", 8)
                early.settimeout(5)
                early.sendall(b"early")
                assert early.recv(100) == b"early"
            assert attempt(served, ALLOW) == "echoed"
            assert len(running.events("decision")) >= 2
            assert running.provider == pids[2]

    def test_link_flap_and_a_new_address(self, served: NetLab, tmp_path: Path) -> None:
        """The link goes while a flow is paused and one is open; it comes back with another address as well."""
        device, other = served.near_device, "198.51.100.77"
        with RunningFilter(served, tmp_path / "log") as running, near_socket(served) as waiting:
            waiting.setblocking(False)
            waiting.connect_ex((FAR4, PAUSE))
            served.near.run("ip", "link", "set", device, "down")
            served.near.run("ip", "link", "set", device, "up")
            served.near.run("ip", "addr", "add", f"{other}/24", "dev", device)
            try:
                works_within(served, ALLOW, 5.0)
                with near_socket(served) as moved:
                    moved.bind((other, 0))
                    moved.connect((FAR4, ALLOW))
                    moved.sendall(b"moved")
                    assert moved.recv(100) == b"moved"
                assert running.decision(ALLOW)["local"][0] == other
            finally:
                served.near.run("ip", "addr", "del", f"{other}/24", "dev", device)
                served.near.run("ip", "route", "replace", "default", "via", FAR4)
                served.near.run("ip", "-6", "addr", "add", "2001:db8:99::1/64", "dev", device, "nodad")
