"""Writes what a command and the datapath say to each other as a capture file, with what was decided as comments.

Two sources, one file:

- the tap on the sandbox's loopback interface sees all packets, each as it passes;
- a flow's first packet is held in the packet queue, and nobody knows yet what becomes of it. It is written when that is
  decided, with the time of its arrival and the decision as its comment. The tap's copy of it is left out.

Both run late, by their own delays. So packets stay in memory for `SETTLE` at least, until the file gets them in the
order of their times. Only the first packet of a flow on which a provider thinks for long comes later than others.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable

from ..core import pcapng
from ..core.flow_decision import FlowState
from ..core.packets import address_bytes
from ..linux.packet_tap import PacketTap, TappedPacket
from ..linux.reactor import READ, Reactor
from .flow_log import destination_text
from .intercepted import InterceptedFlow
from .keeper import PROGRAM_ADDRESSES
from .trace_file import TraceFile

FLUSH_INTERVAL = 1.0
PIPE_INTERVAL = 0.02
SETTLE = 50_000_000
"""Nanoseconds after which both sources have told of a packet: the tap's block timeout, and some turns of the loop."""
MOST_BUFFERED = 16 << 20
MOST_LAST_LOOKS = 10
LAST_WAIT = 2.0
"""Seconds that the reader of a pipe has to take the rest."""
FORGET = 5_000_000_000
_OVERHEAD = 200  # bytes of memory for each packet besides its data
_RELEASED = frozenset({FlowState.OPENING, FlowState.OPEN, FlowState.CLOSED})
_NEAR = frozenset(address_bytes(address) for address in PROGRAM_ADDRESSES)


class _FirstPacket:
    """The first packet of a flow, until its fate is known."""

    __slots__ = ("comment", "data", "flow", "outcome", "time_ns")

    def __init__(self, flow: InterceptedFlow, time_ns: int) -> None:
        self.flow, self.data, self.time_ns = flow, flow.first_packet, time_ns
        self.comment = self.outcome = ""

    @property
    def is_decided(self) -> bool:
        return self.flow.state in _RELEASED

    def note(self) -> None:
        """What is known now. A claimed flow may yet be refused, but one that was opened stays what it was."""
        if self.flow.outcome != self.outcome or not self.comment:
            self.outcome, self.comment = self.flow.outcome, comment(self.flow)


class Trace:
    """One engine's part of a trace. `drain` reads the packet queue; `report` tells the user, as FlowLog.event does."""

    def __init__(
        self,
        file: TraceFile,
        tap: PacketTap,
        reactor: Reactor,
        drain: Callable[[], None],
        report: Callable[[str, str], None],
    ) -> None:
        self._file, self._tap, self._reactor, self._drain, self._report = file, tap, reactor, drain, report
        self._packets: list[TappedPacket] = []
        self._first: list[_FirstPacket] = []
        self._by_flow: dict[int, _FirstPacket] = {}
        self._copies: dict[tuple[bytes, int], list[_FirstPacket]] = {}
        self._buffered = 0
        self._running, self._hurrying = True, False
        file.cut()  # what another engine may have left when it died
        reactor.register(tap.fileno(), READ, self._readable)
        reactor.call_later(FLUSH_INTERVAL, self._tick)

    def first_packet(self, flow: InterceptedFlow) -> None:
        """A flow has begun; its first packet waits for a decision."""
        if not self._running or not flow.first_packet:
            return
        first = _FirstPacket(flow, wall_clock())
        self._first.append(first)
        self._by_flow[flow.id] = first
        self._copies.setdefault(_identity(first.data, len(first.data)), []).append(first)
        self._buffered += len(first.data) + _OVERHEAD
        if self._buffered > MOST_BUFFERED and not self._hurrying:
            self._hurrying = True
            self._reactor.call_soon(self._hurry)

    def decided(self, flow: InterceptedFlow) -> None:
        """It is known who has the flow, or that nobody gets it; also at its end, which may be a late refusal."""
        if (first := self._by_flow.get(flow.id)) is not None:
            first.note()

    def _readable(self, events: int) -> None:
        for packet in self._tap.receive():
            self._packets.append(packet)
            self._buffered += len(packet.data) + _OVERHEAD
            if self._buffered > MOST_BUFFERED:
                self._hurry()
                if not self._running:
                    return  # the ring is gone

    def _hurry(self) -> None:
        """Too much is waiting: ask the queue what it has, and write without regard to age."""
        self._hurrying = False
        if self._running:
            self._drain()
            self._write(wall_clock())

    def _tick(self) -> None:
        if self._running:
            self._readable(READ)
            self._write(wall_clock() - SETTLE)
            self._reactor.call_later(PIPE_INTERVAL if self._file.is_behind else FLUSH_INTERVAL, self._tick)

    def _write(self, until: int, undecided: bool = False) -> None:
        """Write what is older than `until` and decided, in the order of time; at the end, what is undecided too."""
        if not self._running:
            return
        due = [(packet.time_ns, packet.data, packet.length, "") for packet in self._take_packets(until)]
        decided = self._take_first(until, undecided)
        due += [(first.time_ns, first.data, len(first.data), first.comment) for first in decided]
        due.sort(key=lambda entry: entry[0])
        try:
            self._file.append(b"".join(_block(*entry) for entry in due))
        except OSError as error:
            self._give_up(error)

    def _take_packets(self, until: int) -> list[TappedPacket]:
        taken, left = [], []
        self._buffered = 0
        for packet in self._packets:
            if packet.time_ns > until:
                left.append(packet)
                self._buffered += len(packet.data) + _OVERHEAD
            elif not (self._copies and self._is_copy(packet)):
                taken.append(packet)
        self._packets = left
        return taken

    def _is_copy(self, packet: TappedPacket) -> bool:
        """Whether the queue has brought this packet too; the kernel's time for it is the better one."""
        identity = _identity(packet.data, packet.length)
        waiting = self._copies.get(identity)
        if not waiting:
            return False
        waiting.pop(0).time_ns = packet.time_ns
        if not waiting:
            del self._copies[identity]
        return True

    def _take_first(self, until: int, undecided: bool) -> list[_FirstPacket]:
        taken, left = [], []
        for first in self._first:
            if (first.is_decided or undecided) and first.time_ns <= until:
                first.note()
                taken.append(first)
                self._by_flow.pop(first.flow.id, None)
            else:
                left.append(first)
        self._first = left
        if self._copies:
            self._forget(until - FORGET)
        return taken

    def _forget(self, before: int) -> None:
        """The tap lost some packets: what comes later and looks the same is not their copy."""
        for identity, waiting in list(self._copies.items()):
            waiting[:] = [first for first in waiting if first.time_ns > before or not first.is_decided]
            if not waiting:
                del self._copies[identity]

    def _give_up(self, error: OSError) -> None:
        self._report("trace", f"trace {self._file.path}: {error.strerror}; nothing more is written to it")
        self._stop()

    def _stop(self) -> None:
        self._running = False
        self._reactor.unregister(self._tap.fileno())
        self._tap.close()
        for container in (self._packets, self._first, self._by_flow, self._copies):
            container.clear()

    def close(self) -> None:
        """Write the rest. Waits a little for the kernel to hand over the last block."""
        for _ in range(MOST_LAST_LOOKS):
            if not self._running or not select.select([self._tap], [], [], SETTLE / 1e9)[0]:
                break
            self._readable(READ)
            self._drain()
        self._write(wall_clock(), undecided=True)
        if self._running:
            self._write_statistics()
            self._file.wait_for_reader(LAST_WAIT)
            self._stop()

    def _write_statistics(self) -> None:
        self._tap.count()
        seen, lost = self._tap.seen, self._tap.lost
        try:
            self._file.append(pcapng.interface_statistics(0, wall_clock(), received=seen, dropped=lost))
        except OSError as error:
            self._give_up(error)
        if lost:
            self._report("trace", f"trace {self._file.path}: {lost} of {seen} packets came too fast and are not in it")


def comment(flow: InterceptedFlow) -> str:
    """Who, where to, and what became of it: `curl[812] → example.com:443: claimed by SNIRouter`."""
    process = f"{flow.process.name}[{flow.process.pid}]" if flow.process else "?"
    decided = f"{flow.outcome or 'undecided'}{f' by {flow.by}' if flow.by else ''}"
    if flow.admitted_by and flow.outcome not in ("dropped", "remediated"):
        decided += f", allowed by {flow.admitted_by}"
    return f"{process} → {destination_text(flow)}: {decided}{f' ({flow.reason})' if flow.reason else ''}"


def wall_clock() -> int:
    """Nanoseconds since 1970 (UTC), the clock of the kernel's time stamps."""
    return time.clock_gettime_ns(time.CLOCK_REALTIME)


def _identity(data: bytes, length: int) -> tuple[bytes, int]:
    """What the two copies of a packet have in common, and successive packets of a flow hardly ever."""
    return data[:64], length


def _block(time_ns: int, data: bytes, length: int, comment: str) -> bytes:
    return pcapng.enhanced_packet(0, time_ns, data, length, comment=comment, direction=_direction(data))


def _direction(data: bytes) -> pcapng.PacketDirection:
    """Which way, as the command sees it; between two addresses of loopback that cannot be told."""
    source, destination = (data[12:16], data[16:20]) if data[:1] < b"\x60" else (data[8:24], data[24:40])
    if source in _NEAR:
        return pcapng.PacketDirection.OUTBOUND
    return pcapng.PacketDirection.INBOUND if destination in _NEAR else pcapng.PacketDirection.UNKNOWN
