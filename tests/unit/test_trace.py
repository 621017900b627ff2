"""The writer of traces without a kernel: a tap that says what it is told to, and a file."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest

from network_extension.core.flow_decision import FlowState
from network_extension.core.packets import udp_datagram
from network_extension.errors import ConfigurationError
from network_extension.linux.packet_tap import TappedPacket
from network_extension.linux.reactor import READ, Reactor
from network_extension.metadata import ProcessInfo
from network_extension.runtime import trace as trace_module
from network_extension.runtime.intercepted import InterceptedFlow
from network_extension.runtime.trace import Trace, comment
from network_extension.runtime.trace_file import TraceFile

SECOND = 1_000_000_000
PROGRAM, FAR = bytes([192, 0, 0, 2]), bytes([198, 51, 100, 2])


class Clock:
    """Both clocks of the writer; timers count in seconds, packets in nanoseconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 1000.0
        monkeypatch.setattr(trace_module, "wall_clock", lambda: int(self.seconds * SECOND))

    @property
    def ns(self) -> int:
        return int(self.seconds * SECOND)


class Tap:
    """A tap whose packets the test supplies."""

    def __init__(self) -> None:
        self.packets: list[TappedPacket] = []
        self.seen = self.lost = 0
        self.socket, self.other = socket.socketpair()

    def fileno(self) -> int:
        return self.socket.fileno()

    def receive(self) -> Iterator[TappedPacket]:
        while self.packets:
            yield self.packets.pop(0)

    def count(self) -> None:
        pass

    def close(self) -> None:
        self.socket.close()
        self.other.close()


class Block(NamedTuple):
    time_ns: int
    data: bytes
    comment: str


def blocks(path: Path) -> list[Block]:
    """The packets of a file, read by the format's rules (draft-ietf-opsawg-pcapng §4.3) without our own code."""
    content, at, found = path.read_bytes(), 0, []
    while at < len(content):
        kind, length = struct.unpack_from("<II", content, at)
        assert content[at + length - 4 : at + length] == content[at + 4 : at + 8], "a block that is not whole"
        if kind == 6:
            _, high, low, kept, _ = struct.unpack_from("<IIIII", content, at + 8)
            options = content[at + 28 + (kept + 3 & ~3) : at + length - 4]
            text = ""
            if options[:2] == b"\1\0":
                text = options[4 : 4 + int.from_bytes(options[2:4], "little")].decode()
            found.append(Block(high << 32 | low, content[at + 28 : at + 28 + kept], text))
        at += length
    return found


class Writing:
    """A running writer."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path, self.clock, self.tap, self.said = path, clock, Tap(), list[str]()
        self.file = TraceFile.create(str(path), ["curl", "a b"], ["run", "--trace", str(path)])
        self.reactor = Reactor(lambda: clock.seconds, lambda error: pytest.fail(repr(error)))
        self.drained: list[InterceptedFlow] = []
        self.trace = Trace(
            self.file, cast(Any, self.tap), self.reactor, self._drain, lambda kind, text: self.said.append(text)
        )

    def _drain(self) -> None:
        while self.drained:
            self.trace.first_packet(self.drained.pop())

    def passes(self, data: bytes, after: float = 0.0) -> None:
        """A packet passes the tap now, and is read."""
        self.clock.seconds += after
        self.tap.packets.append(TappedPacket(self.clock.ns, data, len(data)))
        self.trace._readable(READ)

    def tick(self, seconds: float = 2.0) -> list[Block]:
        """Time goes by; what is in the file then."""
        self.clock.seconds += seconds
        self.reactor._fire_timers()
        return blocks(self.path)

    def end(self) -> list[Block]:
        self.trace.close()
        self.file.close()
        self.reactor.close()
        return blocks(self.path)


@pytest.fixture
def writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Writing]:
    writing = Writing(tmp_path / "trace.pcapng", Clock(monkeypatch))
    yield writing
    if writing.file.path and writing.trace._running:
        writing.end()


def packet(payload: bytes) -> bytes:
    return udp_datagram(PROGRAM, 40000, FAR, 53, payload)


def flow(data: bytes, number: int = 1) -> InterceptedFlow:
    made = InterceptedFlow(number, (17, PROGRAM, 40000, FAR, 53), data, cast(Any, None), 0.0)
    made.process = ProcessInfo(812, 1, 1000, "/usr/bin/curl", ("curl",), ())
    made.host = "example.com"
    return made


def claim(writing: Writing, it: InterceptedFlow) -> None:
    it.state, it.outcome, it.by = FlowState.OPEN, "claimed", "SNIRouter"
    writing.trace.decided(it)


def test_packets_come_in_the_order_of_their_times(writing: Writing) -> None:
    writing.tap.packets += [
        TappedPacket(writing.clock.ns - 5, packet(b"2"), 29),
        TappedPacket(writing.clock.ns - 9, packet(b"1"), 29),
    ]
    writing.trace._readable(READ)
    assert [block.data[-1:] for block in writing.tick()] == [b"1", b"2"]


def test_a_first_packet_waits_for_its_decision_and_comes_once(writing: Writing) -> None:
    data = packet(b"first")
    it, at = flow(data), writing.clock.ns
    writing.passes(data)
    writing.clock.seconds += 0.001
    writing.trace.first_packet(it)
    assert writing.tick() == []
    claim(writing, it)
    assert writing.tick() == [Block(at, data, "curl[812] → example.com:53: claimed by SNIRouter")]
    assert len(writing.end()) == 1


def test_the_same_datagram_again_is_another_packet(writing: Writing) -> None:
    data = packet(b"same")
    it = flow(data)
    writing.trace.first_packet(it)
    claim(writing, it)
    writing.passes(data)
    writing.passes(data, after=0.01)
    found = writing.tick()
    assert [block.data for block in found] == [data, data]
    assert [bool(block.comment) for block in found] == [True, False]


def test_a_copy_that_the_tap_lost_does_not_swallow_another_packet(writing: Writing) -> None:
    data = packet(b"same")
    it = flow(data)
    writing.trace.first_packet(it)
    claim(writing, it)
    writing.tick()
    writing.tick(10)
    writing.passes(data)
    assert len(writing.tick()) == 2


def test_a_refusal_after_the_claim_is_what_is_told(writing: Writing) -> None:
    it = flow(packet(b"first"))
    writing.trace.first_packet(it)
    it.state, it.outcome, it.by = FlowState.CLAIMED, "claimed", "Tunnel"
    writing.trace.decided(it)
    assert writing.tick() == []
    it.state, it.outcome, it.reason = FlowState.CLOSED, "refused", "Connection refused"
    writing.trace.decided(it)
    assert writing.tick()[0].comment == "curl[812] → example.com:53: refused by Tunnel (Connection refused)"


def test_how_an_open_flow_ended_is_not_its_decision(writing: Writing) -> None:
    it = flow(packet(b"first"))
    writing.trace.first_packet(it)
    claim(writing, it)
    it.state, it.reason = FlowState.CLOSED, "Connection reset by peer"
    writing.trace.decided(it)
    assert writing.tick()[0].comment.endswith("claimed by SNIRouter")


def test_what_is_undecided_at_the_end_is_written_as_such(writing: Writing) -> None:
    writing.trace.first_packet(flow(packet(b"first")))
    assert [block.comment for block in writing.end()] == ["curl[812] → example.com:53: undecided"]


def test_memory_is_bounded(writing: Writing, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too much is written at once, after a look into the queue for first packets among it."""
    monkeypatch.setattr(trace_module, "MOST_BUFFERED", 100_000)
    held = packet(b"held" + bytes(1000))
    it = flow(held)
    writing.drained.append(it)
    writing.tap.packets += [
        TappedPacket(writing.clock.ns, data, len(data)) for data in [held] + [packet(bytes(1000))] * 150
    ]
    writing.trace._readable(READ)
    assert writing.trace._buffered <= 100_000
    assert len(blocks(writing.path)) >= 50
    claim(writing, it)
    assert len(writing.end()) == 151


def test_a_file_that_cannot_be_written_is_given_up(writing: Writing) -> None:
    writing.passes(packet(b"one"))
    assert len(writing.tick()) == 1
    os.unlink(writing.path)
    writing.passes(packet(b"two"))
    writing.clock.seconds += 2
    writing.reactor._fire_timers()
    assert writing.said == [f"trace {writing.path}: the file was removed; nothing more is written to it"]
    writing.trace.first_packet(flow(packet(b"three")))  # and nobody minds any more
    writing.trace.close()
    writing.file.close()
    writing.reactor.close()


def test_a_comment_without_a_process() -> None:
    it = flow(packet(b""))
    it.process = it.host = None
    it.outcome, it.by, it.reason = "refused", "policy", "X has died; policy closed"
    assert comment(it) == "? → 198.51.100.2:53: refused by policy (X has died; policy closed)"


def test_what_a_killed_writer_left_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    file = TraceFile.create(str(path), ["true"], ["run"])
    whole = path.stat().st_size
    with open(path, "ab") as other:
        other.write(b"half a blo")
    file.cut()
    assert path.stat().st_size == file.written == whole
    file.close()


def test_a_write_that_fails_half_way_leaves_whole_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trace"
    file = TraceFile.create(str(path), ["true"], ["run"])
    whole, write = path.stat().st_size, os.pwrite

    def fill_up(descriptor: int, data: bytes, at: int) -> int:
        if at > whole:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[:10], at)

    monkeypatch.setattr(os, "pwrite", fill_up)
    with pytest.raises(OSError, match="No space left"):
        file.append(bytes(100))
    assert path.stat().st_size == whole
    file.close()


def test_a_pipe_whose_reader_is_slow_holds_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file = TraceFile.create(str(path), ["true"], ["run"])
    file.append(b"x" * 300_000)
    assert file.is_behind
    total = 0
    while file.is_behind:
        total += len(os.read(reader, 1 << 20))
        file.append(b"")
    monkeypatch.setattr("network_extension.runtime.trace_file.MOST_WAITING", 1000)
    with pytest.raises(OSError, match="its reader is too slow"):
        file.append(b"x" * 300_000)
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        file.append(b"x")
    file.close()


def test_what_cannot_be_opened_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"--trace .*/no/file: No such file or directory; name a file"
    ) as caught:
        TraceFile.create(str(tmp_path / "no" / "file"), ["true"], ["run"])
    assert caught.value.exit_code == 78
