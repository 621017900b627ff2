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

from network_extension.linux.pipes import F_SETPIPE_SZ, PIPE_SIZE, Pipe, PipePool
from network_extension.linux.reactor import READ, WRITE
from network_extension.linux.sockets import reset_on_close
from network_extension.linux.splice import SMALL, Relay, Tap

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

    def urgent_byte(self) -> bytes:
        """The urgent byte, b"" while there is none. Who reads on past its mark has missed it."""
        try:
            return self.sock.recv(1, socket.MSG_OOB)
        except OSError:
            return b""

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

    def fill(self, *, reverse: bool = False) -> bytes:
        """Send to an end that does not read, until nothing has moved for a while; what was sent."""
        sender, _ = self.ends(reverse=reverse)
        data, sent, idle = content(1 << 20), bytearray(), 0
        while idle < 5:
            try:
                piece = data[len(sent) % len(data) :]
                sent += piece[: sender.sock.send(piece)]
                idle = 0
            except BlockingIOError:
                idle += 1
                self.driver.quiet(0.004)
        return bytes(sent)

    def hears(self, end: End, last: bytes) -> None:
        """Wait until an end has read something that ends like this."""
        self.driver.until(lambda: end.read().endswith(last))

    def hears_more(self, end: End) -> None:
        before = len(end.got)
        self.driver.until(lambda: len(end.read()) > before)

    def deliver(self, data: bytes, *, reverse: bool = False) -> None:
        """Send all, while the other end reads; until the last byte has left the sender."""
        sender, reader = self.ends(reverse=reverse)
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[sender.sock.send(rest) :]
            except BlockingIOError:
                self.hears_more(reader)

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
            flow.hears(flow.remote, b"question %d" % number)
            flow.remote.send(b"answer %d" % number)
            flow.hears(flow.program, b"answer %d" % number)
        assert (flow.relay.sent, flow.relay.received) == (len(flow.remote.got), len(flow.program.got))
        assert not flow.pool._free  # small talk needs no pipe

    @pytest.mark.parametrize("size", [1, SMALL - 1, SMALL, SMALL + 1, 2 * SMALL, PIPE_SIZE, PIPE_SIZE + 1])
    def test_sizes_around_the_change_of_the_way(self, driver: Driver, flow: Flow, size: int) -> None:
        data = content(size)
        flow.remote.send(b"meanwhile")
        flow.deliver(data)
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
        for number in range(20):
            flow.program.send(b"%d?" % number)
            flow.hears(flow.remote, b"%d?" % number)
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
                flow.deliver(content(size), reverse=reverse)
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
        for number in range(3):
            second.send(b"answer %d;" % number)
            flow.hears(first, b"answer %d;" % number)
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
        flow.deliver(content(2 << 20), reverse=reverse)
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
            flow.fill(reverse=not reverse)
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
        first, second = flow.ends(reverse=reverse)
        told = flow.fill(reverse=reverse)
        assert len(told) < 32 << 20, "nobody stopped the sender"
        driver.until(lambda: len(second.read()) == len(told), 10)
        told += content(200_000)
        flow.deliver(content(200_000), reverse=reverse)
        first.half_close()
        driver.until(second.has_ended, 10)
        assert second.got == told
        assert (flow.relay.received if reverse else flow.relay.sent) == len(told)

    @BOTH_WAYS
    def test_the_other_way_is_free_meanwhile(self, driver: Driver, flow: Flow, reverse: bool) -> None:
        first, second = flow.ends(reverse=reverse)
        flow.fill(reverse=reverse)
        second.send(b"stop that")
        driver.until(lambda: first.read() == b"stop that")

    @BOTH_WAYS
    def test_the_end_of_both_ways_while_one_is_held_up(self, driver: Driver, flow: Flow, reverse: bool) -> None:
        """Both ends have said their last word, and a pipe still holds some: it must not be lost."""
        first, second = flow.ends(reverse=reverse)
        way, told = flow.relay._in if reverse else flow.relay._out, content(1 << 18)
        # A send buffer of its own size does not grow, so that half of this stays in the pipe. Were it a few pages only,
        # the kernel would make room for them when the other end says its last word.
        (flow.inner if reverse else flow.outer).setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 15)
        first.send(told)
        driver.until(lambda: bool(way.pipe and way.pipe.held))
        driver.quiet(0.01)
        assert way.pipe and way.pipe.held > 1 << 16
        second.half_close()
        first.half_close()
        driver.until(first.has_ended)
        driver.quiet(0.005)
        assert not flow.ended
        if not reverse:
            assert not flow.relay.drained
        driver.until(second.has_ended, 10)
        assert second.got == told
        driver.until(lambda: flow.ended)
        assert flow.ended == [None] and flow.relay.drained


class TestUrgent:
    @BOTH_WAYS
    def test_the_byte_is_urgent_at_the_other_end_too(self, driver: Driver, flow: Flow, reverse: bool) -> None:
        first, second = flow.ends(reverse=reverse)
        first.send(b"before ")
        first.send(b"!", socket.MSG_OOB)
        driver.until(lambda: second.urgent_byte() == b"!")
        first.send(b"after")
        driver.until(lambda: second.read() == b"before after")
        assert (flow.relay.received if reverse else flow.relay.sent) == 13

    @BOTH_WAYS
    def test_it_is_told_of_as_ordinary(self, driver: Driver, flow: Flow, reverse: bool) -> None:
        """tcp_poll(): the byte came between its look at urgent data and its look at the rest."""
        first, second = flow.ends(reverse=reverse)
        first.send(b"before")
        driver.until(lambda: second.read() == b"before")
        first.send(b"!", socket.MSG_OOB)
        first.send(b"after")
        (flow.relay._remote_event if reverse else flow.relay._program_event)(READ)
        driver.until(lambda: second.urgent_byte() == b"!")
        driver.until(lambda: second.read() == b"beforeafter")

    def test_it_keeps_its_place(self, driver: Driver, flow: Flow) -> None:
        """Read in line, the byte stands where it was sent."""
        flow.remote.sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        for number in range(5):
            flow.program.send(b"text ")
            flow.program.send(b"%d" % number, socket.MSG_OOB)
            flow.hears(flow.remote, b"text %d" % number)
        assert flow.remote.got == b"text 0text 1text 2text 3text 4"

    @BOTH_WAYS
    def test_in_the_middle_of_bulk_data(self, driver: Driver, flow: Flow, reverse: bool) -> None:
        """splice(2) stands still before the mark; the relay must get over it and back to its speed."""
        first, second = flow.ends(reverse=reverse)
        second.sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        half = content(1 << 20)
        flow.deliver(half, reverse=reverse)
        driver.until(lambda: second.read() and first.sock.send(b"!", socket.MSG_OOB))
        flow.deliver(half, reverse=reverse)
        first.half_close()
        driver.until(second.has_ended)
        assert second.got == half + b"!" + half

    def test_without_room_it_comes_as_plain_byte(self, driver: Driver, flow: Flow) -> None:
        """The receiver does not read, and the urgent byte finds its window closed: it is late, and not lost."""
        flow.remote.sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        told = bytearray()
        for _ in range(10):
            told += flow.fill()
            try:
                told += b"!"[: flow.program.sock.send(b"!", socket.MSG_OOB)]
            except BlockingIOError:
                break
        flow.program.half_close()
        driver.until(flow.remote.has_ended)
        assert flow.remote.got == told


class NoPipes(PipePool):
    """What a process at its limit of open files has."""

    def take(self) -> Pipe | None:
        return None


class TestPipes:
    def test_the_next_relay_uses_the_same_pipe(self, driver: Driver, flow: Flow) -> None:
        """Three flows that move much one after another have one pipe between them."""
        others = [Flow(driver, flow.pool).start() for _ in range(2)]
        ends = set()
        for mover in (flow, *others):
            mover.deliver(content(1 << 20))
            mover.hears(mover.remote, content(1 << 20))
            driver.until(lambda: flow.pool._free)
            ends |= {(pipe.read_end, pipe.write_end) for pipe in flow.pool._free}
        assert len(ends) == 1
        for other in others:
            other.relay.close()
            other.close()

    def test_without_pipes_bytes_are_copied(self, driver: Driver) -> None:
        flow = Flow(driver, NoPipes()).start()
        flow.deliver(content(3 << 20))
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
            if command == F_SETPIPE_SZ:
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
        flow.deliver(content(500_000))
        flow.remote.send(b"answer")
        driver.until(lambda: len(flow.remote.read()) == 500_000 and flow.program.read() == b"answer")
        assert seen == {True: content(500_000), False: b"answer"}
        assert not flow.pool._free
        flow.relay.close()
        flow.close()
