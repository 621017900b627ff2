"""`netext filter`: verdicts about flows of a whole network namespace, as root."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.netlab import FAR4, FAR6, NEAR4, NetLab, acquainted_lab, wait_for

from .echo_server import EchoServer
from .host_filter import (
    ALL_OUT,
    ALLOW,
    CALLS_OUT,
    DROP,
    PAUSE,
    PEEK_IN,
    PEEK_OUT,
    REPORT,
    SILENT,
    RunningFilter,
    attempt,
    near_socket,
)

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def served() -> Iterator[NetLab]:
    """A lab of this module's own, with echo servers at the ports that the provider knows."""
    with ExitStack() as stack:
        lab = stack.enter_context(acquainted_lab())
        for port in (ALLOW, DROP, SILENT, PEEK_OUT, PAUSE, PEEK_IN, ALL_OUT, CALLS_OUT, REPORT):
            stack.enter_context(EchoServer(lab, port))
        for port in (ALLOW, DROP, PEEK_OUT):
            stack.enter_context(EchoServer(lab, port, socket.AF_INET6))
        yield lab


@pytest.fixture(scope="module")
def running(served: NetLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFilter]:
    """One filter for the tests that do it no harm."""
    with RunningFilter(served, tmp_path_factory.mktemp("filter") / "log") as filter_:
        yield filter_
    assert not filter_.events("fault")
    assert filter_.process.returncode == 0
    assert not filter_.tables()


class TestNewFlows:
    @pytest.mark.parametrize("host", [FAR4, FAR6])
    def test_allowed(self, running: RunningFilter, served: NetLab, host: str) -> None:
        assert attempt(served, ALLOW, host=host) == "echoed"
        record = running.decision(ALLOW)
        assert (record["outcome"], record["by"], record["direction"]) == ("allowed", "HostFilter", "outbound")
        assert record["process"]["pid"] == os.getpid()
        assert record["interface"] == served.near_device

    @pytest.mark.parametrize("host", [FAR4, FAR6])
    def test_dropped_is_refused_at_once(self, running: RunningFilter, served: NetLab, host: str) -> None:
        begin = time.monotonic()
        assert attempt(served, DROP, host=host) == "ConnectionRefusedError"
        assert time.monotonic() - begin < 0.5
        assert running.decision(DROP)["outcome"] == "dropped"

    def test_dropped_silently_times_out_and_is_asked_once(self, running: RunningFilter, served: NetLab) -> None:
        before = len([r for r in running.events("decision") if r["remote"][1] == SILENT])
        assert attempt(served, SILENT, timeout=2.5) == "TimeoutError"  # in which the SYN is sent again
        assert len([r for r in running.events("decision") if r["remote"][1] == SILENT]) == before + 1

    def test_datagrams(self, running: RunningFilter, served: NetLab) -> None:
        with served.far_listener(DROP, kind=socket.SOCK_DGRAM), near_socket(served, socket.SOCK_DGRAM) as near:
            near.connect((FAR4, DROP))
            near.send(b"first")
            with pytest.raises(ConnectionRefusedError):
                near.recv(100)
        with served.far_listener(ALLOW, kind=socket.SOCK_DGRAM) as far, near_socket(served, socket.SOCK_DGRAM) as near:
            for number in range(5):
                near.sendto(b"%d" % number, (FAR4, ALLOW))
            assert [far.recv(100) for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]

    def test_large_datagrams_are_whole(self, running: RunningFilter, served: NetLab) -> None:
        """8,000 bytes are six fragments on the link, in both directions; their first one alone has ports."""
        with (
            served.far_listener(PEEK_OUT, kind=socket.SOCK_DGRAM) as far,
            near_socket(served, socket.SOCK_DGRAM) as near,
        ):
            near.sendto(b"x" * 8000, (FAR4, PEEK_OUT))
            data, there = far.recvfrom(65536)
            assert data == b"x" * 8000
            far.sendto(b"y" * 8000, there)
            assert near.recv(65536) == b"y" * 8000

    def test_echo_requests(self, running: RunningFilter, served: NetLab) -> None:
        assert served.near.run("ping", "-c", "1", "-W", "3", FAR4).returncode == 0
        assert [r for r in running.events("decision") if r["protocol"] == "icmp"]

    def test_own_flows_of_providers_are_not_asked_for(self, running: RunningFilter, served: NetLab) -> None:
        """The provider's event loop stands still while it connects: asking it would be a deadlock."""
        assert attempt(served, CALLS_OUT) == "echoed"
        words = running.said("own flow")["text"].split()
        port = int(words[words.index("flow") + 1])
        assert not [r for r in running.events("decision") if r["local"][1] == port]

    def test_a_paused_flow_holds_no_other(self, running: RunningFilter, served: NetLab) -> None:
        with near_socket(served) as paused:
            paused.settimeout(0.0)
            paused.connect_ex((FAR4, PAUSE))
            for _ in range(20):
                assert attempt(served, ALLOW) == "echoed"


class TestData:
    def test_bytes_that_are_fine(self, running: RunningFilter, served: NetLab) -> None:
        assert attempt(served, PEEK_OUT, data=b"fine " * 1000) == "echoed"
        assert running.decision(PEEK_OUT)["outcome"] == "allowed"

    def test_bytes_that_are_not(self, running: RunningFilter, served: NetLab) -> None:
        """The program sees the end of its connection, the server never the bytes."""
        begin = time.monotonic()
        result = attempt(served, PEEK_OUT, data=b"something bad " * 3)
        assert result in ("ConnectionResetError", "ConnectionAbortedError")
        assert time.monotonic() - begin < 1
        assert running.decision(PEEK_OUT, "dropped")["by"] == "HostFilter"

    def test_less_than_the_peek_is_shown_soon(self, running: RunningFilter, served: NetLab) -> None:
        assert attempt(served, PEEK_OUT, data=b"short") == "echoed"

    def test_all_of_a_stream(self, running: RunningFilter, served: NetLab) -> None:
        """Peek without end: shown when the sender's window is full, then let go."""
        assert attempt(served, ALL_OUT, data=b"0123456789" * 20_000, timeout=10) == "echoed"

    def test_piece_by_piece(self, running: RunningFilter, served: NetLab) -> None:
        """Each verdict passes what was shown and asks for more."""
        assert attempt(served, PEEK_OUT, data=b"more and " * 20_000, timeout=20) == "echoed"

    def test_segments_of_one_byte(self, running: RunningFilter, served: NetLab) -> None:
        with near_socket(served) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect((FAR4, PEEK_OUT))
            for byte in b"one byte after the other":
                sock.send(bytes([byte]))
            got = b""
            while len(got) < 24:
                got += sock.recv(100)
            assert got == b"one byte after the other"

    def test_inbound_bytes(self, running: RunningFilter, served: NetLab) -> None:
        assert attempt(served, PEEK_IN, data=b"fine" * 10) == "echoed"
        assert attempt(served, PEEK_IN, data=b"bad" * 10) != "echoed"

    def test_reports_count_bytes(self, running: RunningFilter, served: NetLab) -> None:
        assert attempt(served, REPORT, data=b"z" * 1000) == "echoed"
        words = running.said("closed ")["text"].split()
        assert int(words[words.index("in") - 1]) > 1000
        assert int(words[words.index("out") - 1]) > 1000


class TestInbound:
    def test_who_comes_in_is_asked_for(self, running: RunningFilter, served: NetLab) -> None:
        with near_socket(served) as listener:
            listener.bind((NEAR4, ALLOW))
            listener.listen()
            with served.in_host(served.far, socket.socket) as far:
                far.settimeout(5)
                far.connect((NEAR4, ALLOW))
                listener.accept()[0].close()
        record = wait_for(
            lambda: [r for r in running.events("decision") if r["direction"] == "inbound" and r["local"][1] == ALLOW]
        )[0]
        assert record["process"]["pid"] == os.getpid()
        assert record["remote"][0] == FAR4

    def test_and_refused(self, running: RunningFilter, served: NetLab) -> None:
        with near_socket(served) as listener:
            listener.bind((NEAR4, DROP))
            listener.listen()
            with served.in_host(served.far, socket.socket) as far:
                far.settimeout(5)
                with pytest.raises(ConnectionRefusedError):
                    far.connect((NEAR4, DROP))
