"""`netext filter` with other options: inbound flows, established ones, names."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.netlab import FAR4, NEAR4, NetLab, acquainted_lab, wait_for

from .echo_server import EchoServer
from .host_filter import ALLOW, DROP, KEPT, PAUSE, PROVIDER, RECALL, RunningFilter, attempt, near_socket

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def served() -> Iterator[NetLab]:
    """A lab of this module's own, with echo servers at some ports that the provider knows."""
    with ExitStack() as stack:
        lab = stack.enter_context(acquainted_lab())
        for port in (ALLOW, DROP, KEPT, PAUSE, RECALL):
            stack.enter_context(EchoServer(lab, port))
        yield lab


def test_without_inbound(served: NetLab, tmp_path: Path) -> None:
    with RunningFilter(served, tmp_path / "log", "--no-inbound") as running, near_socket(served) as listener:
        listener.bind((NEAR4, DROP))
        listener.listen()
        with served.in_host(served.far, socket.socket) as far:
            far.settimeout(5)
            far.connect((NEAR4, DROP))
        assert not [r for r in running.events("decision") if r["direction"] == "inbound"]


@pytest.mark.parametrize("established", ["keep", "offer"])
def test_established_flows(served: NetLab, tmp_path: Path, established: str) -> None:
    """Kept they go on without a question; offered they are asked for at their next packet."""
    with near_socket(served) as sock:
        sock.connect((FAR4, DROP))
        sock.sendall(b"before")
        assert sock.recv(100) == b"before"
        with RunningFilter(served, tmp_path / "log", "--established", established) as running:
            if established == "keep":
                sock.sendall(b"after")
                assert sock.recv(100) == b"after"
                assert not running.events("decision")
            else:
                with pytest.raises(OSError, match=r"reset|abort"):
                    sock.sendall(b"after")
                    assert not sock.recv(100)
                    raise ConnectionResetError("reset")
                assert running.decision(DROP)["outcome"] == "dropped"


def test_names_are_known_before_the_flow(served: NetLab, tmp_path: Path) -> None:
    """The answer of a name server is read before the program gets it."""
    served.resolv_conf(f"nameserver {FAR4}\n")
    query = bytes.fromhex("123401000001000000000000") + b"\x06server\x07example\x00\x00\x01\x00\x01"
    answer = bytes.fromhex("123481800001000100000000") + query[12:] + bytes.fromhex("c00c00010001000000ff0004")
    with (
        served.far_listener(53, kind=socket.SOCK_DGRAM) as server,
        near_socket(served, socket.SOCK_DGRAM) as near,
        RunningFilter(served, tmp_path / "log") as running,
    ):
        near.sendto(query, (FAR4, 53))
        _, there = server.recvfrom(512)
        server.sendto(answer + socket.inet_aton(FAR4), there)
        near.recv(512)
        assert attempt(served, ALLOW) == "echoed"
        record = running.decision(ALLOW)
        assert (record["host"], record["name_source"]) == ("server.example", "dns")


def test_a_flow_that_was_allowed_is_dropped_later(served: NetLab, tmp_path: Path) -> None:
    """`update_flow` at any time: the program's connection breaks at once, and so does the server's."""
    with RunningFilter(served, tmp_path / "log") as running, near_socket(served) as kept:
        kept.connect((FAR4, KEPT))
        kept.sendall(b"works")
        assert kept.recv(100) == b"works"
        assert attempt(served, RECALL) == "echoed"
        with pytest.raises(OSError, match=r"reset|abort"):
            kept.recv(100)
        assert f":{KEPT}" in running.said("update_flow")["text"]


def test_block_page(served: NetLab, tmp_path: Path) -> None:
    """Plain HTTP is answered in the server's place, which never sees the request."""
    options = ("--provider", f"{PROVIDER}:PagesFilter", "--provider", f"{PROVIDER}:PagesControl")
    with RunningFilter(served, tmp_path / "log", *options, provider="") as running:
        got = served.near.run("curl", "-sS", "-m", "5", "-i", f"http://{FAR4}:{ALLOW}/page")
        assert "blocked.example" in got.stdout, got.stderr
        assert running.decision(ALLOW)["outcome"] == "remediated"
        assert attempt(served, DROP, data=b"\x00 no HTTP at all") != "echoed"
        assert not running.events("fault")


@pytest.mark.parametrize("policy", ["open", "closed"])
def test_packet_filters(served: NetLab, tmp_path: Path, policy: str) -> None:
    options = ("--policy", policy, "--provider", f"{PROVIDER}:NoLargePackets")
    with RunningFilter(served, tmp_path / "log", *options, provider="") as running:
        running.said("running")
        wait_for(lambda: attempt(served, ALLOW, 1) == "echoed")
        ping = ("ping", "-c", "1", "-W", "1", FAR4)
        assert served.near.run(*ping, "-s", "100").returncode == 0
        assert served.near.run(*ping, "-s", "1200").returncode == 1
        assert not running.events("fault")


def test_privileges(served: NetLab, tmp_path: Path) -> None:
    """The engine keeps five capabilities; providers none, as the user that was named."""
    with RunningFilter(served, tmp_path / "log", "--user", "nobody") as running:
        engine = Path(f"/proc/{running.engine}/status").read_text()
        provider = Path(f"/proc/{running.provider}/status").read_text()
        for status, capabilities in ((engine, 1 << 2 | 1 << 12 | 1 << 13 | 1 << 19 | 1 << 39), (provider, 0)):
            assert int(status.split("CapEff:")[1].split()[0], 16) == capabilities
            assert int(status.split("CapBnd:")[1].split()[0], 16) == capabilities
            assert "NoNewPrivs:\t1" in status
        assert provider.split("Uid:")[1].split()[:4] == ["65534"] * 4
        assert attempt(served, ALLOW) == "echoed"


def test_rules_for_loopback(served: NetLab, tmp_path: Path) -> None:
    """Loopback is asked for only while a rule names it; the rule holds as soon as it is applied."""
    with (
        RunningFilter(served, tmp_path / "log", "--provider", f"{PROVIDER}:NoLocalEight", provider="") as running,
        near_socket(served) as listener,
    ):
        listener.bind(("127.0.0.1", DROP))
        listener.listen()
        assert attempt(served, DROP, host="127.0.0.1") == "ConnectionRefusedError"
        assert "DROP" in running.decision(DROP, "dropped")["reason"].upper()
        listener.close()
        assert attempt(served, ALLOW) == "echoed"


def test_flows_without_a_last_word_are_told_at_the_end(served: NetLab, tmp_path: Path) -> None:
    """A paused flow, and the end of the filter: policy open lets it go, and the log says so."""
    with near_socket(served) as paused:
        with RunningFilter(served, tmp_path / "log") as running:
            paused.setblocking(False)
            paused.connect_ex((FAR4, PAUSE))
            assert attempt(served, ALLOW) == "echoed"
        assert running.decision(PAUSE)["outcome"] == "passed"
        assert running.events("summary")[0]["flows"] == 2


def test_others_who_use_our_bits(served: NetLab, tmp_path: Path) -> None:
    with RunningFilter(served, tmp_path / "log") as running, near_socket(served) as marked:
        marked.setsockopt(socket.SOL_SOCKET, 36, 0x70000001)  # SO_MARK: seven is no state of ours
        marked.connect((FAR4, ALLOW))
        assert "--mark-mask" in running.said("not ours")["text"]
