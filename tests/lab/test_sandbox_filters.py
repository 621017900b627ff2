"""Content filters in `netext run`: what programs, servers and filters see. `providers/deciding.py` decides by port."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from ast import literal_eval
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.netlab import FAR4, NetLab, wait_for

from . import agent
from .echo_server import EchoServer
from .program import Program, RemoteSocket, provider, running

pytestmark = pytest.mark.lab

# As in providers/deciding.py
DROP, SILENT, PAUSE = 2001, 2002, 2003
WORD, REPORT, LATE_LOOK, LATE_DROP, PAUSE_DATA, COMPLETE, SILENT_WORD, DROP_END, STATISTICS = range(2011, 2020)
PASS_AHEAD = 2024
MEGABYTE = 1_000_000
WAYS = {
    "pass-through": (),
    "relayed": provider("relaying"),
    "carried": provider("carrying"),
}


@pytest.fixture(scope="module", params=WAYS)
def program(request: pytest.FixtureRequest, lab: NetLab) -> Iterator[Program]:
    """A program behind the filter; the filter comes last on the command line."""
    with running(lab, "--grace", "0.3", *WAYS[request.param], *provider("deciding")) as program:
        program.way = request.param
        yield program


def said(program: Program, start: str = "") -> list[str]:
    """What the filter has written to the log."""
    texts = [record["text"] for record in program.records("provider-log")]
    words = [text.partition(": ")[2] for text in texts if text.startswith("Deciding")]
    return [text for text in words if text.startswith(start)]


@contextmanager
def connection(program: Program, lab: NetLab, port: int) -> Iterator[tuple[RemoteSocket, socket.socket]]:
    """The program's socket and the server's, connected."""
    with lab.far_listener(port) as server, program.socket() as near:
        connecting = near.begin("connect", (FAR4, port))
        far, _ = server.accept()
        with far:
            connecting.result(10)
            far.settimeout(15)
            yield near, far


class TestNewFlows:
    def test_a_dropped_flow_is_refused_at_once(self, program: Program, lab: NetLab) -> None:
        with lab.far_listener(DROP) as server, program.socket() as near:
            began = time.monotonic()
            assert near.connect_ex((FAR4, DROP)) == errno.ECONNREFUSED
            assert time.monotonic() - began < 1
            server.settimeout(0.2)
            with pytest.raises(TimeoutError):  # the server has never heard of it
                server.accept()
        record = program.flow(DROP)
        assert (record["outcome"], record["by"], record["reason"]) == ("dropped", "Deciding", "handle_new_flow: drop")
        assert "python" in record["process"]["executable"]

    def test_a_silent_drop_is_no_answer_at_all(self, program: Program, lab: NetLab) -> None:
        with program.socket(timeout=1.5) as near:
            assert near.connect_ex((FAR4, SILENT)) in (errno.EAGAIN, errno.EINPROGRESS, errno.ETIMEDOUT)
        asked = [text for text in said(program, "new") if f":{SILENT} " in text]
        assert len(asked) == 1  # its SYN came twice
        assert program.flow(SILENT)["outcome"] == "dropped"

    def test_a_paused_flow_connects_when_it_is_resumed_and_holds_no_other(self, program: Program, lab: NetLab) -> None:
        with EchoServer(lab) as server, lab.far_listener(PAUSE), program.socket() as near:
            began = time.monotonic()
            connecting = near.begin("connect", (FAR4, PAUSE))
            with program.socket() as other:
                other.connect(server.address)
                others = time.monotonic() - began
                assert other.ask_many(1, 10)
            connecting.result(5)
            assert others < 0.3 < 0.45 < time.monotonic() - began

    def test_who_lets_it_in_is_in_the_log(self, program: Program, lab: NetLab) -> None:
        with connection(program, lab, 2999) as (near, far):
            near.sendall(b"hello")
            assert far.recv(10) == b"hello"
        record = program.flow(2999)
        assert record["allowed_by"] == "Deciding: handle_new_flow: allow"
        assert record["outcome"] == ("passed" if program.way == "pass-through" else "claimed")
        decision = next(one for one in program.records("filter") if one["remote"][1] == 2999)
        assert (decision["outcome"], decision["by"]) == ("allowed", "Deciding")


class TestData:
    def test_a_word_ends_the_flow_for_both(self, program: Program, lab: NetLab) -> None:
        """What came before it has arrived, and the word has not."""
        with connection(program, lab, WORD) as (near, far):
            near.sendall(b"harmless")
            assert far.recv(100) == b"harmless"
            far.sendall(b"reply")
            assert near.recv(100) == b"reply"
            near.sendall(b"something forbidden")
            assert near.errno_of("recv", 100) == errno.ECONNRESET
            if program.way != "carried":  # the example takes its flow's end for one
                with pytest.raises(ConnectionResetError):
                    far.recv(100)
            else:
                assert read_to_end(far) == b""
        record = program.flow(WORD)
        assert (record["outcome"], record["by"]) == ("dropped", "Deciding")
        assert record["reason"] == "handle_outbound_data: drop" and record["out"] == 8

    def test_a_silent_drop_in_mid_stream(self, program: Program, lab: NetLab) -> None:
        """The server's end is reset; the program hears nothing."""
        with connection(program, lab, SILENT_WORD) as (near, far):
            near.sendall(b"forbidden")
            assert read_to_end(far) == b""
            near.settimeout(0.5)
            assert isinstance(near.begin("recv", 10).exception(5), TimeoutError)

    def test_paused_data_arrives_later_and_whole(self, program: Program, lab: NetLab) -> None:
        with connection(program, lab, PAUSE_DATA) as (near, far):
            began = time.monotonic()
            sending = near.begin("send_bytes", MEGABYTE)
            assert agent.receive_bytes(far, MEGABYTE) == sending.result(15)
            assert time.monotonic() - began > 0.45

    def test_both_ends_are_told_of_and_decided(self, program: Program, lab: NetLab) -> None:
        before = len(said(program))
        with connection(program, lab, COMPLETE) as (near, far):
            near.sendall(b"question")
            near.shutdown(socket.SHUT_WR)
            assert agent.read_all(far) == b"question"
            far.sendall(b"answer")
            far.shutdown(socket.SHUT_WR)
            assert near.read_all() == b"answer"
        wait_for(lambda: "in complete" in said(program)[before:], 5, "the end of the stream")
        heard = [text for text in said(program)[before:] if not text.startswith("new")]
        assert [text.split(" None")[0] for text in heard] == [
            "out 0 b'question'", "out complete", "in 0 b'answer'", "in complete",
        ]  # fmt: skip

    def test_a_drop_at_the_end(self, program: Program, lab: NetLab) -> None:
        """The end does not reach the server, a reset does."""
        with connection(program, lab, DROP_END) as (near, far):
            near.sendall(b"all but the end")
            assert far.recv(100) == b"all but the end"
            near.shutdown(socket.SHUT_WR)
            with pytest.raises(ConnectionResetError):
                assert far.recv(100) == b"" and program.way == "carried"
                raise ConnectionResetError
            assert near.errno_of("recv", 100) == errno.ECONNRESET

    def test_passing_more_than_has_come(self, program: Program, lab: NetLab) -> None:
        """Four bytes are looked at in ten."""
        before = len(said(program))
        with connection(program, lab, PASS_AHEAD) as (near, far):
            for number in range(3):
                near.sendall(b"%d234567890" % number)
                assert agent.read_exactly(far, 10) == b"%d234567890" % number
            near.sendall(b"and freely")
            assert agent.read_exactly(far, 10) == b"and freely"
        shown = [" ".join(text.split()[:3]) for text in said(program)[before:] if text.startswith("out")]
        assert shown == ["out 0 b'0234'", "out 10 b'1234'", "out 20 b'2234'"]


class TestDatagrams:
    def test_a_dropped_socket_is_refused(self, program: Program, lab: NetLab) -> None:
        with program.socket(kind=socket.SOCK_DGRAM) as near:
            near.connect((FAR4, DROP))
            near.send(b"hello")
            assert near.errno_of("recv", 10) == errno.ECONNREFUSED

    def test_a_silent_drop(self, program: Program, lab: NetLab) -> None:
        with program.socket(kind=socket.SOCK_DGRAM, timeout=0.5) as near:
            near.connect((FAR4, SILENT))
            near.send(b"hello")
            assert isinstance(near.begin("recv", 10).exception(5), TimeoutError)

    def test_a_pause_keeps_what_was_sent(self, program: Program, lab: NetLab) -> None:
        with lab.far_listener(PAUSE, kind=socket.SOCK_DGRAM) as far, program.socket(kind=socket.SOCK_DGRAM) as near:
            began = time.monotonic()
            near.connect((FAR4, PAUSE))
            near.send(b"one")
            near.send(b"two")
            assert [far.recv(10), far.recv(10)] == [b"one", b"two"]
            assert time.monotonic() - began > 0.45

    def test_a_word_ends_the_conversation(self, program: Program, lab: NetLab) -> None:
        """What came before has arrived; what comes after is refused, and nothing of it arrives."""
        with lab.far_listener(WORD, kind=socket.SOCK_DGRAM) as far, program.socket(kind=socket.SOCK_DGRAM) as near:
            near.connect((FAR4, WORD))
            near.send(b"harmless")
            data, peer = far.recvfrom(100)
            far.sendto(b"reply", peer)
            assert (data, near.recv(100)) == (b"harmless", b"reply")
            near.send(b"something forbidden")
            assert near.errno_of("recv", 100) == errno.ECONNREFUSED
            near.begin("send", b"forbidden again").exception(5)
            far.settimeout(0.3)
            with pytest.raises(TimeoutError):
                far.recvfrom(100)

    def test_reports_have_the_byte_counts(self, program: Program, lab: NetLab) -> None:
        if program.way == "carried":
            pytest.skip("the provider has the program's own sockets: nobody counts")
        before = len(said(program))
        with lab.far_listener(REPORT, kind=socket.SOCK_DGRAM) as far, program.socket(kind=socket.SOCK_DGRAM) as near:
            near.connect((FAR4, REPORT))
            near.send(b"x" * 100)
            _, peer = far.recvfrom(200)
            far.sendto(b"y" * 50, peer)
            near.recv(100)
        wait_for(lambda: len(reports(program, before)) == 2, 5, "two reports")
        assert reports(program, before) == ["report NEW_FLOW ALLOW 0 0", "report FLOW_CLOSED ALLOW 100 50"]


class TestLater:
    def test_reports_have_the_byte_counts(self, program: Program, lab: NetLab) -> None:
        before = len(said(program))
        with connection(program, lab, REPORT) as (near, far):
            near.sendall(b"x" * 1000)
            agent.read_exactly(far, 1000)
            far.sendall(b"y" * 2345)
            near.read_exactly(2345)
            near.close()
            assert far.recv(1) == b""
        wait_for(lambda: len(reports(program, before)) == 2, 5, "two reports")
        assert reports(program, before) == ["report NEW_FLOW ALLOW 0 0", "report FLOW_CLOSED ALLOW 1000 2345"]

    def test_statistics_come_while_it_runs(self, program: Program, lab: NetLab) -> None:
        before = len(said(program))
        with connection(program, lab, STATISTICS) as (near, far):
            near.sendall(b"x" * 1000)
            agent.read_exactly(far, 1000)
            wait_for(lambda: reports(program, before), 8, "statistics")
        assert reports(program, before)[0] == "report STATISTICS ALLOW 1000 0"

    def test_a_flow_that_went_freely_is_looked_at_again(self, program: Program, lab: NetLab) -> None:
        if program.way == "carried":
            pytest.skip("the provider has the program's own socket")
        before = len(said(program))
        with connection(program, lab, LATE_LOOK) as (near, far):
            sending = near.begin("send_bytes", MEGABYTE)  # it is spliced
            assert agent.receive_bytes(far, MEGABYTE) == sending.result(15)
            looking = wait_for(lambda: look_again(program, near, far, before), 5, "a look at the bytes")
            assert looking[0].startswith("out 0 b'ping'")

    def test_a_flow_that_went_freely_is_dropped(self, program: Program, lab: NetLab) -> None:
        with connection(program, lab, LATE_DROP) as (near, far):
            near.sendall(b"hello")
            assert far.recv(100) == b"hello"
            assert near.errno_of("recv", 100) == errno.ECONNRESET
        assert program.flow(LATE_DROP)["reason"] == "update_flow: drop"


def look_again(program: Program, near: RemoteSocket, far: socket.socket, before: int) -> list[str]:
    """One more message; what the filter has seen so far."""
    near.sendall(b"ping")
    assert agent.read_exactly(far, 4) == b"ping"
    return [text for text in said(program)[before:] if text.startswith("out")]


def reports(program: Program, before: int) -> list[str]:
    """What was reported since."""
    return [text for text in said(program)[before:] if text.startswith("report")]


def read_to_end(sock: socket.socket) -> bytes:
    """What comes before the end, or before a reset."""
    data = b""
    try:
        while part := sock.recv(65536):
            data += part
    except ConnectionResetError:
        pass
    return data


class TestContent:
    def test_a_megabyte_both_ways(self, lab: NetLab) -> None:
        """Two filters with different portions, both ways at once: the same bytes come out."""
        filters = (*provider("peeking", seed=11), *provider("peeking", seed=12, most=300))
        with running(lab, *filters) as program, connection(program, lab, 2998) as (near, far):
            up, down = os.urandom(MEGABYTE), os.urandom(MEGABYTE)
            sending, reading = near.begin("sendall", up), near.begin("read_exactly", MEGABYTE)
            far.setblocking(True)
            got = exchange(far, down)
            sending.result(20)
            assert hashlib.sha256(got).digest() == hashlib.sha256(up).digest()
            assert hashlib.sha256(reading.result(20)).digest() == hashlib.sha256(down).digest()


def exchange(sock: socket.socket, data: bytes) -> bytes:
    """Send `data` and receive as much, at the same time."""
    sender = threading.Thread(target=sock.sendall, args=(data,))
    sender.start()
    got = agent.read_exactly(sock, len(data))
    sender.join(20)
    return got


def test_no_filter_is_imported_without_one(lab: NetLab) -> None:
    """A run without filters has none of what serves them in its engine, but for the interceptors' own halves."""
    code = (
        "import sys, network_extension.runtime.engine, network_extension.runtime.sandbox\n"
        "found = {name.rpartition('.')[2] for name in sys.modules}\n"
        "print([name for name in found if 'filter' in name or 'inspected' in name or 'gate' in name])"
    )
    done: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert sorted(literal_eval(done.stdout)) == ["tcp_filtering", "udp_filtering"]
