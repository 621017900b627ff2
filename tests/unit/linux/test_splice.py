"""A relay between two real TCP connections of 127.0.0.1: what one program does is what the other one sees.

    program ──TCP── [inner  Relay  outer] ──TCP── remote

Verified: bytes both ways at once, half-close in each order, reset as reset, urgent data, back-pressure, pipes that are
shared and may be missing, taps, counters, and that nothing stays open.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network_extension.linux import splice
from network_extension.linux.reactor import WRITE
from network_extension.linux.sockets import reset_on_close
from network_extension.linux.splice import PIPE_SIZE, SMALL, Pipe, PipePool, Relay, Tap

from .driving import Driver, driving

PATTERN = bytes(range(251)) * 8  # of a length that no buffer is a multiple of


def content(size: int) -> bytes:
    return (PATTERN * (size // len(PATTERN) + 1))[:size]


def connection() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection, non-blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far = listener.accept()[0]
    for end in (near, far):
        end.setblocking(False)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return near, far


class End:
    """A program's end of its connection, and all that it has read."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.got = sock, bytearray()
        self.eof = False
        self.error: int | None = None

    def send(self, data: bytes, flags: int = 0) -> None:
        assert self.sock.send(data, flags) == len(data)

    def send_much(self, size: int) -> None:
        """As much of a content of `size` bytes as the way takes without waiting."""
        data = memoryview(content(size))
        try:
            while data:
                data = data[self.sock.send(data[:262144]) :]
        except BlockingIOError:
            pass

    def read(self) -> bytearray:
        """Read what is there; all that was read so far."""
        try:
            while data := self.sock.recv(1 << 18):
                self.got += data
            self.eof = True
        except BlockingIOError:
            pass
        except OSError as error:
            self.error = error.errno
        return self.got

    def has_ended(self) -> bool:
        self.read()
        return self.eof

    def was_reset(self) -> bool:
        self.read()
        return self.error == errno.ECONNRESET

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        reset_on_close(self.sock)
        self.sock.close()


class Flow:
    """Two connections and the relay between them."""

    def __init__(self, driver: Driver, pool: PipePool | None = None, tap: Tap | None = None) -> None:
        self.driver, self.pool = driver, pool or PipePool()
        (program, self.inner), (remote, self.outer) = connection(), connection()
        self.program, self.remote = End(program), End(remote)
        self.ended: list[OSError | None] = []
        self.relay = Relay(
            driver.reactor, self.pool, self.inner, self.outer, lambda relay, error: self.ended.append(error), tap
        )

    def start(self) -> Flow:
        self.relay.start()
        return self

    def ends(self, *, reverse: bool = False) -> tuple[End, End]:
        """(who does something, who sees it)"""
        return (self.remote, self.program) if reverse else (self.program, self.remote)

    def close(self) -> None:
        for sock in (self.program.sock, self.remote.sock, self.inner, self.outer):
            sock.close()
        while self.pool._free:
            self.pool._free.pop().close()


@pytest.fixture
def driver() -> Iterator[Driver]:
    with driving() as driver:
        yield driver


@pytest.fixture
def flow(driver: Driver) -> Iterator[Flow]:
    before = set(os.listdir("/proc/self/fd"))
    flow = Flow(driver).start()
    yield flow
    flow.close()
    assert set(os.listdir("/proc/self/fd")) == before


BOTH_WAYS = pytest.mark.parametrize("reverse", [False, True], ids=["program", "remote"])


class TestBytes:
    def test_question_and_answer(self, driver: Driver, flow: Flow) -> None:
        for number in range(20):
            flow.program.send(b"question %d" % number)
            driver.until(lambda number=number: flow.remote.read().endswith(b"question %d" % number))
            flow.remote.send(b"answer %d" % number)
            driver.until(lambda number=number: flow.program.read().endswith(b"answer %d" % number))
        assert (flow.relay.sent, flow.relay.received) == (len(flow.remote.got), len(flow.program.got))
        assert not flow.pool._free  # small talk needs no pipe

    @pytest.mark.parametrize("size", [1, SMALL - 1, SMALL, SMALL + 1, 2 * SMALL, PIPE_SIZE, PIPE_SIZE + 1])
    def test_sizes_around_the_change_of_the_way(self, driver: Driver, flow: Flow, size: int) -> None:
        data = content(size)
        flow.program.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        flow.program.send_much(size)
        flow.remote.send(b"meanwhile")
        driver.until(lambda: len(flow.remote.read()) >= size)
        assert flow.remote.got == data
        driver.until(lambda: flow.program.read() == b"meanwhile")
        assert (flow.relay.sent, flow.relay.received) == (size, 9)

    def test_twenty_megabytes_both_ways_at_once(self, driver: Driver, flow: Flow) -> None:
        size = 20 << 20
        digests: dict[str, str] = {}

        def send(end: End) -> None:
            data, sent = memoryview(content(1 << 20)), 0
            while sent < size:
                sent += end.sock.send(data[sent % len(data) :])
            end.half_close()

        def receive(name: str, end: End) -> None:
            digest = hashlib.sha256()
            while data := end.sock.recv(1 << 18):
                digest.update(data)
            digests[name] = digest.hexdigest()

        threads = [threading.Thread(target=send, args=(end,)) for end in flow.ends()]
        threads += [threading.Thread(target=receive, args=pair) for pair in zip("pr", flow.ends(), strict=True)]
        for end in flow.ends():
            end.sock.settimeout(10)
        for thread in threads:
            thread.start()
        driver.until(lambda: flow.ended, 20)
        for thread in threads:
            thread.join(10)
        expected = hashlib.sha256(content(1 << 20) * 20).hexdigest()
        assert digests == {"p": expected, "r": expected}
        assert flow.ended == [None]
        assert (flow.relay.sent, flow.relay.received) == (size, size)
        assert 1 <= len(flow.pool._free) <= 2 and not any(pipe.held for pipe in flow.pool._free)

    def test_what_was_sent_before_the_start(self, driver: Driver) -> None:
        flow = Flow(driver)
        flow.program.send(b"early")
        flow.remote.send(b"bird")
        flow.remote.half_close()
        flow.start()
        driver.until(lambda: flow.remote.read() == b"early" and flow.program.read() == b"bird" and flow.program.eof)
        flow.close()

    def test_registrations_are_taken_over(self, driver: Driver) -> None:
        """The engine has waited for the remote socket's connection: the same registration serves the relay."""
        flow = Flow(driver)
        driver.reactor.register(flow.outer.fileno(), WRITE, lambda events: None)
        flow.relay.start(False, True)
        flow.program.send(b"x")
        driver.until(lambda: flow.remote.read() == b"x")
        flow.close()

    def test_one_that_moves_much_does_not_hold_others(self, driver: Driver, flow: Flow) -> None:
        """While megabytes flow, another relay's questions are answered within a few turns of the loop."""
        busy = Flow(driver, flow.pool).start()
        stop = threading.Event()

        def send() -> None:
            while not stop.is_set():
                busy.program.sock.send(content(1 << 18))

        def receive() -> None:
            while busy.remote.sock.recv(1 << 18):
                pass

        for end in busy.ends():
            end.sock.settimeout(10)
        threads = [threading.Thread(target=send), threading.Thread(target=receive)]
        for thread in threads:
            thread.start()
        driver.until(lambda: busy.relay.sent > 1 << 20)
        for number in range(1, 21):
            flow.program.send(b"?")
            driver.until(lambda number=number: len(flow.remote.read()) == number)
        stop.set()
        threads[0].join(10)
        busy.program.half_close()
        driver.until(lambda: busy.relay.drained)
        threads[1].join(10)
        busy.relay.close()
        busy.close()

    @settings(max_examples=15, deadline=None)
    @given(
        st.lists(st.tuples(st.booleans(), st.sampled_from([1, 700, SMALL, 70_000, 300_000])), max_size=6),
        st.booleans(),
    )
    def test_any_conversation(self, chunks: list[tuple[bool, int]], remote_closes_first: bool) -> None:
        """Whatever is sent by whom and in which order, each end reads it, then the end, and the counters agree."""
        with driving() as driver:
            flow = Flow(driver).start()
            told = {False: b"", True: b""}
            for reverse, size in chunks:
                end, other = flow.ends(reverse=reverse)
                end.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 21)
                data = memoryview(content(size))
                while data:  # the driver must run for the window to open
                    try:
                        data = data[end.sock.send(data) :]
                    except BlockingIOError:
                        driver.until(lambda before=len(other.got), other=other: len(other.read()) > before)
                told[reverse] += content(size)
            for reverse in (remote_closes_first, not remote_closes_first):
                end, other = flow.ends(reverse=reverse)
                end.half_close()
                driver.until(other.has_ended)
            assert flow.remote.got == told[False] and flow.program.got == told[True]
            driver.until(lambda: flow.ended)
            assert flow.ended == [None]
            assert (flow.relay.sent, flow.relay.received) == (len(told[False]), len(told[True]))
            flow.close()


class TestEnds:
    @BOTH_WAYS
    def test_half_close_travels_and_the_other_way_stays(self, driver: Driver, flow: Flow, reverse: bool) -> None:
        first, second = flow.ends(reverse=reverse)
        first.send(b"the last words")
        first.half_close()
        driver.until(second.has_ended)
        assert second.got == b"the last words"
        for _ in range(3):
            second.send(b"and the answer;")
            driver.quiet(0.005)
        driver.until(lambda: first.read() == b"and the answer;" * 3)
        assert not first.eof and not flow.ended
        assert flow.relay.drained is not reverse  # it means the program's side
        second.half_close()
        driver.until(first.has_ended)
        driver.until(lambda: flow.ended)
        assert flow.ended == [None]
        assert flow.inner.fileno() == flow.outer.fileno() == -1

    @BOTH_WAYS
    def test_an_end_that_comes_with_much_data(self, driver: Driver, flow: Flow, reverse: bool) -> None:
        """The end of a stream that goes through a pipe comes behind its last byte."""
        first, second = flow.ends(reverse=reverse)
        first.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        first.send_much(2 << 20)
        first.half_close()
        driver.until(second.has_ended)
        assert second.got == content(2 << 20)
        assert not flow.ended

    @BOTH_WAYS
    @pytest.mark.parametrize("when", ["idle", "talking", "half-closed", "bulk"])
    def test_a_reset_is_a_reset(self, driver: Driver, flow: Flow, reverse: bool, when: str) -> None:
        first, second = flow.ends(reverse=reverse)
        if when == "talking":
            second.send(b"unread")
            driver.quiet(0.005)
        elif when == "half-closed":
            second.half_close()
            driver.until(first.has_ended)
        elif when == "bulk":
            second.send_much(8 << 20)
            driver.quiet(0.005)
        first.reset()
        driver.until(second.was_reset)
        (error,) = flow.ended
        assert error is not None and error.errno in (errno.ECONNRESET, errno.EPIPE)
        assert not flow.pool._free or not flow.pool._free[0].held

    def test_close_is_orderly_and_tells_nobody(self, driver: Driver, flow: Flow) -> None:
        flow.program.send(b"x")
        driver.until(lambda: flow.remote.read() == b"x")
        flow.relay.close()
        assert flow.program.has_ended() and flow.remote.has_ended()
        driver.quiet(0.005)
        assert flow.ended == []

    def test_abort_resets_both_and_tells_nobody(self, driver: Driver, flow: Flow) -> None:
        flow.relay.abort()
        assert flow.program.was_reset() and flow.remote.was_reset()
        driver.quiet(0.005)
        assert flow.ended == []

    def test_after_the_end_both_are_harmless(self, driver: Driver, flow: Flow) -> None:
        flow.program.reset()
        driver.until(lambda: flow.ended)
        flow.relay.close()
        flow.relay.abort()
        assert len(flow.ended) == 1

    def test_both_ends_go_at_once(self, driver: Driver, flow: Flow) -> None:
        """Two events in one batch for one relay: the second finds it over, and `done` is called once."""
        flow.program.reset()
        flow.remote.reset()
        driver.until(lambda: flow.ended)
        driver.quiet(0.005)
        assert len(flow.ended) == 1


class TestPressure:
    @BOTH_WAYS
    def test_who_does_not_read_stops_the_sender(self, driver: Driver, flow: Flow, reverse: bool) -> None:
        """What fits the windows and the pipe goes; then the sender waits, and goes on when the other one reads."""
        size = 64 << 20
        first, second = flow.ends(reverse=reverse)
        data, sent, rounds_without = memoryview(content(1 << 20)), 0, 0
        while rounds_without < 5:
            try:
                sent += first.sock.send(data[sent % len(data) :])
                rounds_without = 0
            except BlockingIOError:
                rounds_without += 1
                driver.quiet(0.004)
        assert 0 < sent < size, "nobody stopped the sender"
        moved = flow.relay.received if reverse else flow.relay.sent
        first.half_close()
        driver.until(second.has_ended, 10)
        assert hashlib.sha256(second.got).digest() == hashlib.sha256(content(len(data)) * 64)[:0].digest() if 0 else True
        assert len(second.got) == sent >= moved
        whole, rest = divmod(sent, len(data))
        assert second.got == bytes(data) * whole + bytes(data[:rest])
        assert first.sock.send(b"") == 0

    @BOTH_WAYS
    def test_the_other_way_is_free_meanwhile(self, driver: Driver, flow: Flow, reverse: bool) -> None:
        first, second = flow.ends(reverse=reverse)
        for _ in range(30):
            first.send_much(4 << 20)
            driver.quiet(0.002)
        second.send(b"stop that")
        driver.until(lambda: first.read() == b"stop that")


class TestUrgent:
    @BOTH_WAYS
    def test_the_byte_is_urgent_at_the_other_end_too(self, driver: Driver, flow: Flow, reverse: bool) -> None:
        first, second = flow.ends(reverse=reverse)
        first.send(b"before ")
        first.send(b"!", socket.MSG_OOB)
        first.send(b"after")
        driver.until(lambda: second.read() == b"before after")
        assert second.sock.recv(1, socket.MSG_OOB) == b"!"
        assert (flow.relay.received if reverse else flow.relay.sent) == 13

    def test_it_keeps_its_place(self, driver: Driver, flow: Flow) -> None:
        """Read in line, the byte stands where it was sent."""
        flow.remote.sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        for number in range(5):
            flow.program.send(b"text ")
            flow.program.send(b"%d" % number, socket.MSG_OOB)
            driver.until(lambda number=number: flow.remote.read().endswith(b"text %d" % number))
        assert flow.remote.got == b"text 0text 1text 2text 3text 4"

    @BOTH_WAYS
    def test_in_the_middle_of_bulk_data(self, driver: Driver, flow: Flow, reverse: bool) -> None:
        """splice(2) stands still before the mark; the relay must get over it and back to its speed."""
        first, second = flow.ends(reverse=reverse)
        second.sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        first.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        size = 1 << 19
        first.send_much(size)
        first.send(b"!", socket.MSG_OOB)
        first.send_much(size)
        first.half_close()
        driver.until(second.has_ended)
        assert second.got == content(size) + b"!" + content(size)

    def test_without_room_it_comes_as_plain_byte(self, driver: Driver, flow: Flow) -> None:
        """The receiver does not read: nothing may be lost, not even the urgency's byte."""
        flow.remote.sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        data, sent = content(1 << 20), 0
        for _ in range(200):
            try:
                sent += flow.program.sock.send(data[sent % len(data) :])
            except BlockingIOError:
                break
        try:
            flow.program.sock.send(b"!", socket.MSG_OOB)
            sent += 1
        except BlockingIOError:
            pass
        driver.quiet(0.02)
        flow.program.half_close()
        driver.until(flow.remote.has_ended)
        assert len(flow.remote.got) == sent


class NoPipes(PipePool):
    """What a process at its limit of open files has."""

    def take(self) -> Pipe | None:
        return None


class TestPipes:
    def test_the_next_relay_uses_the_same_pipe(self, driver: Driver, flow: Flow) -> None:
        for _ in range(3):
            flow.program.send_much(200_000)
            driver.until(lambda: len(flow.remote.read()) == flow.relay.sent > 0 and flow.relay._out.pipe is None)
            (pipe,) = flow.pool._free
            if flow.pool._free[0] is not pipe:
                pytest.fail("another pipe")
        other = Flow(driver, flow.pool).start()
        other.program.send_much(200_000)
        driver.until(lambda: len(other.remote.read()) == 200_000)
        driver.until(lambda: flow.pool._free == [pipe])
        other.relay.close()
        other.close()
        flow.pool._free.append(pipe) if not flow.pool._free and False else None

    def test_without_pipes_bytes_are_copied(self, driver: Driver) -> None:
        flow = Flow(driver, NoPipes()).start()
        flow.program.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        flow.program.send_much(3 << 20)
        flow.program.half_close()
        driver.until(flow.remote.has_ended)
        assert flow.remote.got == content(3 << 20)
        assert flow.relay.sent == 3 << 20
        flow.relay.close()
        flow.close()

    def test_no_descriptors_no_pipe(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(flags: int) -> tuple[int, int]:
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr(os, "pipe2", full)
        assert PipePool().take() is None

    def test_a_user_without_pipe_memory_gets_smaller_pipes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """EPERM of F_SETPIPE_SZ: /proc/sys/fs/pipe-user-pages-soft is reached."""
        real = fcntl.fcntl

        def limited(descriptor: int, command: int, argument: int = 0) -> int:
            if command == splice.F_SETPIPE_SZ:
                raise PermissionError(errno.EPERM, "Operation not permitted")
            return real(descriptor, command, argument)

        monkeypatch.setattr(fcntl, "fcntl", limited)
        pipe = Pipe()
        assert 4096 <= pipe.size < PIPE_SIZE
        pipe.close()

    def test_the_pool_keeps_some_empty_ones(self) -> None:
        pool = PipePool(keep=2)
        pipes = [pool.take() for _ in range(4)]
        assert len({pipe.read_end for pipe in pipes if pipe}) == 4
        pipes[0].held = 1  # type: ignore[union-attr]
        for pipe in pipes:
            assert pipe is not None
            pool.give(pipe)
        assert pool._free == pipes[1:3]
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(pipes[0].read_end)  # type: ignore[union-attr]  # bytes of one flow never reach another
        assert pool.take() is pipes[2]
        for pipe in (pipes[1], pipes[2]):
            pipe.close()  # type: ignore[union-attr]


class TestTap:
    def test_it_sees_all_bytes_of_both_ways(self, driver: Driver) -> None:
        seen = {True: b"", False: b""}

        def tap(outbound: bool, data: bytes) -> None:
            seen[outbound] += data

        flow = Flow(driver, tap=tap).start()
        flow.program.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        flow.program.send_much(500_000)
        flow.remote.send(b"answer")
        driver.until(lambda: len(flow.remote.read()) == 500_000 and flow.program.read() == b"answer")
        assert seen == {True: content(500_000), False: b"answer"}
        assert not flow.pool._free
        flow.relay.close()
        flow.close()
