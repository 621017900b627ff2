"""Bytes of an open TCP flow: half-close, reset, pressure, urgent data and the rest, as without us."""

from __future__ import annotations

import array
import errno
import fcntl
import hashlib
import os
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.netlab import NetLab, wait_for

from . import agent
from .program import Program, RemoteSocket

pytestmark = pytest.mark.lab

INET, INET6 = socket.AF_INET, socket.AF_INET6
RESET = struct.pack("ii", 1, 0)
MEGABYTE = 1_000_000


@contextmanager
def connection(program: Program, lab: NetLab, family: int = INET) -> Iterator[tuple[RemoteSocket, socket.socket]]:
    """The program's socket and the server's, connected."""
    with lab.far_listener(0, family) as server, program.socket(family) as near:
        connecting = near.begin("connect", server.getsockname()[:2])
        far, _ = server.accept()
        with far:
            connecting.result(10)
            far.settimeout(15)
            yield near, far


@pytest.mark.parametrize("family", [INET, INET6])
def test_question_and_answer(program: Program, lab: NetLab, family: int) -> None:
    with connection(program, lab, family) as (near, far):
        near.sendall(b"question")
        assert far.recv(100) == b"question"
        far.sendall(b"answer")
        assert near.recv(100) == b"answer"


def test_the_server_speaks_first(program: Program, lab: NetLab) -> None:
    with connection(program, lab) as (near, far):
        far.sendall(b"220 ready\r\n")
        assert near.recv(100) == b"220 ready\r\n"


@pytest.mark.parametrize("family", [INET, INET6])
def test_half_close_by_the_program(program: Program, lab: NetLab, family: int) -> None:
    """The server sees the end of file while it can still answer, and the whole answer arrives."""
    with connection(program, lab, family) as (near, far):
        near.sendall(b"question")
        near.shutdown(socket.SHUT_WR)
        assert agent.read_all(far) == b"question"
        answer = os.urandom(MEGABYTE)
        reading = near.begin("read_all")
        far.sendall(answer)
        far.close()
        assert reading.result(15) == answer


def test_half_close_by_the_server(program: Program, lab: NetLab) -> None:
    """The program sees the end of file while it can still send, and the server gets everything."""
    with connection(program, lab) as (near, far):
        far.sendall(b"that is all")
        far.shutdown(socket.SHUT_WR)
        assert near.read_all() == b"that is all"
        sending = near.begin("send_bytes", MEGABYTE)
        assert agent.receive_bytes(far, MEGABYTE) == sending.result(15)
        near.shutdown(socket.SHUT_WR)
        assert far.recv(1) == b""


def test_close_at_once(program: Program, lab: NetLab) -> None:
    """A program that sends and closes without waiting: everything arrives, then the end of file."""
    with lab.far_listener() as server:
        near = program.socket()
        connecting = near.begin("connect", server.getsockname())
        far, _ = server.accept()
        with far:
            connecting.result(10)
            digest = near.send_bytes(300_000)
            near.close()
            data = agent.read_all(far)
            assert hashlib.sha256(data).hexdigest() == digest


def test_reset_by_the_program(program: Program, lab: NetLab) -> None:
    """SO_LINGER 0 and close: the server's read fails with ECONNRESET."""
    with connection(program, lab) as (near, far):
        near.sendall(b"x")
        assert far.recv(1) == b"x"
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        near.close()
        with pytest.raises(ConnectionResetError):
            far.recv(1)


def test_reset_by_the_server(program: Program, lab: NetLab) -> None:
    """The program's read fails with ECONNRESET, and its next write with EPIPE."""
    with connection(program, lab) as (near, far):
        near.sendall(b"x")
        assert far.recv(1) == b"x"
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        far.close()
        with pytest.raises(ConnectionResetError):
            near.recv(1)
        with pytest.raises(BrokenPipeError):
            near.send(b"x")


def test_reset_after_half_close(program: Program, lab: NetLab) -> None:
    """The program has shut its side down and waits for the answer: a reset still arrives as one."""
    with connection(program, lab) as (near, far):
        near.shutdown(socket.SHUT_WR)
        assert far.recv(1) == b""
        reading = near.begin("recv", 1)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        far.close()
        assert isinstance(reading.exception(10), ConnectionResetError)


def test_a_write_to_a_closed_server(program: Program, lab: NetLab) -> None:
    """The server has closed for good: the program's writes fail after the first, as TCP does it."""
    with connection(program, lab) as (near, far):
        far.close()
        assert near.recv(1) == b""

        def fails() -> int:
            return getattr(near.begin("send", b"x").exception(10), "errno", 0) or 0

        assert wait_for(fails, 5) in (errno.EPIPE, errno.ECONNRESET)


def test_fifty_megabytes_both_ways_at_once(program: Program, lab: NetLab) -> None:
    """Every byte arrives in order: equal SHA-256 at both ends, in both directions."""
    size = 50 * MEGABYTE
    with connection(program, lab) as (near, far), ThreadPoolExecutor(2) as pool:
        sending, receiving = near.begin("send_bytes", size), near.begin("receive_bytes", size)
        back = pool.submit(agent.send_bytes, far, size)
        arrived = pool.submit(agent.receive_bytes, far, size)
        assert arrived.result(30) == sending.result(30)
        assert receiving.result(30) == back.result(30)


def test_a_receiver_that_does_not_read_stops_the_sender(program: Program, lab: NetLab) -> None:
    """Back-pressure from end to end: the sender blocks, our memory stays, and then everything arrives."""
    with connection(program, lab) as (near, far):
        before = memory(program)
        taken = near.send_until_full(0.3)
        assert taken < 40 * MEGABYTE
        assert memory(program) - before < 8 * MEGABYTE
        near.begin("shutdown", socket.SHUT_WR)
        assert len(agent.read_all(far)) == taken


def test_a_program_that_does_not_read_stops_the_server(program: Program, lab: NetLab) -> None:
    with connection(program, lab) as (near, far):
        before = memory(program)
        taken = agent.send_until_full(far, 0.3)
        assert taken < 40 * MEGABYTE
        assert memory(program) - before < 8 * MEGABYTE
        far.shutdown(socket.SHUT_WR)
        assert len(near.read_all()) == taken


def memory(program: Program) -> int:
    """Resident bytes of the engine and the provider; 0 natively."""
    if program.way == "native":
        return 0
    children = program.children()
    pids = [children[name] for name in ("engine", "provider") if name in children]
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 for pid in pids)


def test_single_bytes(program: Program, lab: NetLab) -> None:
    """A thousand writes of one byte, TCP_NODELAY: none is lost, none waits."""
    with connection(program, lab) as (near, far):
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = bytes(range(256)) * 4
        sending = near.begin("send_singly", data)
        assert agent.read_exactly(far, len(data)) == data
        sending.result(10)


def test_many_small_requests(program: Program, lab: NetLab) -> None:
    """Two thousand questions, each answered before the next: all right, within seconds."""
    with connection(program, lab) as (near, far):
        asking = near.begin("ask_many", 2000, 64)
        for _ in range(2000):
            far.sendall(agent.read_exactly(far, 64))
        assert asking.result(10) == 2000


def test_an_idle_flow_lives(program: Program, lab: NetLab) -> None:
    """Three seconds of silence, with keep-alives each second: the flow is as before."""
    with connection(program, lab) as (near, far):
        for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 2)):
            near.setsockopt(socket.IPPROTO_TCP, option, value)
            far.setsockopt(socket.IPPROTO_TCP, option, value)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        far.settimeout(3)
        with pytest.raises(TimeoutError):
            far.recv(1)
        near.sendall(b"still here")
        assert far.recv(100) == b"still here"
        far.sendall(b"me too")
        assert near.recv(100) == b"me too"


class TestUrgentData:
    """MSG_OOB (RFC 6093): one byte out of band between ordinary ones."""

    def test_from_the_program(self, program: Program, lab: NetLab) -> None:
        """The server gets the byte out of band, and the ordinary ones before and after the mark."""
        with connection(program, lab) as (near, far):
            near.sendall(b"before")
            near.send(b"!", socket.MSG_OOB)
            near.sendall(b"after")
            if program.way == "carried":  # a provider that reads sees one stream of bytes: none is lost, none is urgent
                assert agent.read_exactly(far, 12) == b"before!after"
                return
            assert wait_for(lambda: urgent_byte(far), 5) == b"!"
            assert read_to_mark(far) == b"before"
            assert agent.read_exactly(far, 5) == b"after"

    def test_to_the_program(self, program: Program, lab: NetLab) -> None:
        with connection(program, lab) as (near, far):
            far.sendall(b"before")
            far.send(b"!", socket.MSG_OOB)
            far.sendall(b"after")
            if program.way == "carried":  # the example's own socket to the server is not told to read it in line
                assert near.read_exactly(11) == b"beforeafter"
                return
            assert wait_for(lambda: urgent_byte(near), 5) == b"!"
            assert near.read_exactly(11) == b"beforeafter"

    def test_in_line(self, program: Program, lab: NetLab) -> None:
        """A server that reads urgent data in line (SO_OOBINLINE) finds the byte at its place in the stream."""
        with connection(program, lab) as (near, far):
            far.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
            near.sendall(b"before")
            near.send(b"!", socket.MSG_OOB)
            near.sendall(b"after")
            assert agent.read_exactly(far, 12) == b"before!after"

    def test_in_the_middle_of_much(self, program: Program, lab: NetLab) -> None:
        """Amid a bulk transfer that is spliced: every ordinary byte arrives, and the urgent one."""
        with connection(program, lab) as (near, far), ThreadPoolExecutor(1) as pool:
            far.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
            reading = pool.submit(agent.read_all, far)
            near.sendall(bytes(3 * MEGABYTE))
            near.send(b"!", socket.MSG_OOB)
            near.sendall(bytes(3 * MEGABYTE))
            near.shutdown(socket.SHUT_WR)
            data = reading.result(20)
            assert len(data) == 6 * MEGABYTE + 1
            assert data.index(b"!") == 3 * MEGABYTE


def urgent_byte(sock: socket.socket | RemoteSocket) -> bytes:
    """The urgent byte, if it is there."""
    try:
        data: bytes = sock.recv(1, socket.MSG_OOB)
    except OSError:
        return b""
    return data


def read_to_mark(sock: socket.socket) -> bytes:
    """Ordinary bytes up to where the urgent one was: a read never goes over the mark (tcp(7))."""
    data, mark = b"", array.array("i", [0])
    while not fcntl.ioctl(sock, 0x8905, mark) and not mark[0]:  # SIOCATMARK
        data += sock.recv(100)
    return data


def test_a_second_flow_does_not_wait_for_a_stuck_one(program: Program, lab: NetLab) -> None:
    """While a flow is stopped by its receiver, others run."""
    with connection(program, lab) as (near, far):
        near.send_until_full(0.2)
        with connection(program, lab) as (other, answering):
            other.sendall(b"quick")
            answering.settimeout(1)
            assert answering.recv(10) == b"quick"
        reader = threading.Thread(target=agent.read_all, args=(far,))
        reader.start()
        near.shutdown(socket.SHUT_WR)
        reader.join(15)


def test_the_log_counts_the_bytes(program: Program, lab: NetLab) -> None:
    """The flow's record has the numbers of bytes each way, and who decided."""
    if program.way == "native":
        pytest.skip("there is no log")
    with lab.far_listener() as server, program.socket() as near:
        port = server.getsockname()[1]
        connecting = near.begin("connect", server.getsockname())
        with server.accept()[0] as far:
            connecting.result(5)
            near.sendall(b"x" * 1000)
            agent.read_exactly(far, 1000)
            far.sendall(b"y" * 2345)
            near.read_exactly(2345)
            near.close()
            assert far.recv(1) == b""
    record = program.flow(port)
    assert (record["out"], record["in"]) == (1000, 2345)
    assert record["outcome"] == ("passed" if program.way == "pass-through" else "claimed")
    assert "python" in record["process"]["executable"]
