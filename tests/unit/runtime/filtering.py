"""A filter stage without packets: flows that write down what they are told, and filters played by the test.

A test reads as a trace: `stage.flow()`, `filter.hears(…)`, `filter.says(…)`, and what the datapath was told
(`flow.told`).
"""

from __future__ import annotations

import os
import socket
from typing import Any

from network_extension.core.flow_decision import Policy
from network_extension.core.packet_heads import address_bytes
from network_extension.filter_settings import FilterSettings
from network_extension.filter_verdicts import FilterGrade, FilterVerdict
from network_extension.metadata import ProcessInfo
from network_extension.rules import Direction
from network_extension.runtime import filter_wire as w
from network_extension.runtime.channel import Channel
from network_extension.runtime.filter_hello import ControlMaps, FilterHello, pack_filter_hello
from network_extension.runtime.filter_link import FilterLink
from network_extension.runtime.filter_stage import FilterStage
from network_extension.runtime.wire import MessageType, decode
from tests.unit.linux.driving import Driver

TCP, UDP = 6, 17
NO_MAPS = ControlMaps()


class Flow:
    """A `FilteredFlow` whose datapath is the test."""

    def __init__(self, number: int, protocol: int, port: int, direction: Direction) -> None:
        self.id, self.protocol_number, self.direction = number, protocol, direction
        self.local, self.remote = ("10.0.0.1", 40000 + number), ("192.0.2.1", port)
        ends = (self.local, self.remote) if direction is Direction.OUTBOUND else (self.remote, self.local)
        (source, source_port), (destination, destination_port) = ends
        self.key = (protocol, address_bytes(source), source_port, address_bytes(destination), destination_port)
        self.host: str | None = None
        self.name_source: str | None = None
        self.url: str | None = None
        self.interface: str | None = "eth0"
        self.process: ProcessInfo | None = None
        self.filter: Any = None
        self.by = self.reason = ""
        self.counts = (0, 0)
        self.told: list[tuple[Any, ...]] = []
        self.page: bytes | None = None
        self.fails_with: Exception | None = None

    def _tell(self, *words: Any) -> None:
        self.told.append(words)
        if self.fails_with is not None:
            raise self.fails_with

    def filter_open(self, hold_inbound: bool, hold_outbound: bool) -> None:
        self._tell("open", hold_inbound, hold_outbound)

    def filter_pass(self, direction: Direction, up_to: int) -> None:
        self._tell("pass", direction.name, up_to)

    def filter_hold(self, direction: Direction) -> None:
        self._tell("hold", direction.name)

    def filter_drop(self, silent: bool, page: bytes | None) -> None:
        self.page = page
        self._tell("drop", silent)

    def filter_counts(self) -> tuple[int, int]:
        return self.counts


class Filter:
    """A filter's process, played by the test."""

    def __init__(self, driver: Driver, index: int, kind: str, sock: socket.socket) -> None:
        self.driver, self.index, self.kind = driver, index, kind
        self.channel = Channel(sock)
        self.reader = w.EventReader()
        self.events: list[tuple[Any, ...]] = []
        self.held: list[int] = []

    def greets(
        self,
        grade: FilterGrade = FilterGrade.FIREWALL,
        settings: FilterSettings | None = None,
        maps: ControlMaps = NO_MAPS,
        serial: int = 1,
    ) -> None:
        """HELLO; done when the engine says that it is in force."""
        body, fds = pack_filter_hello(FilterHello(f"p{self.index}", self.kind, grade, settings, maps, serial))
        self.channel.send(MessageType.HELLO, 0, body, fds)
        for fd in fds:
            os.close(fd)
        self.driver.until(lambda: self._read() and serial in self.held)

    def says(self, op: int, number: int, verdict: FilterVerdict) -> None:
        self.sends(w.pack_verdict(op, number, verdict))

    def sends(self, *records: bytes) -> None:
        for packet in w.pack_answers(list(records)):
            self.channel.send_packet(packet)

    def hears(self, op: int, number: int) -> tuple[Any, ...]:
        """The next event is of this kind, and about this flow."""
        self.driver.until(lambda: self._read() and self.events)
        event = self.events.pop(0)
        assert event[:2] == (op, number), event
        return event

    def hears_nothing(self) -> None:
        self.driver.quiet(0.01)
        self._read()
        assert self.events == []

    def dies(self) -> None:
        self.channel.close()

    @property
    def last(self) -> int:
        """What the last event that has come is; 0 for none."""
        self._read()
        return int(self.events[-1][0]) if self.events else 0

    def _read(self) -> bool:
        for packet, fds in self.channel.receive_packets():
            for fd in fds:
                os.close(fd)
            events = self.reader.feed(packet)
            if events is None:
                kind, _, body = decode(packet)
                assert kind is MessageType.SETTINGS_HELD
                self.held.append(body["serial"])
            else:
                self.events += events
        return True


class Stage:
    """A stage, its filters, and its flows."""

    def __init__(self, driver: Driver, *kinds: str, policy: Policy | None = None, deadline: float = 60.0) -> None:
        self.driver = driver
        self.lines: list[str] = []
        self.stage = FilterStage(
            driver.reactor, deadline=deadline, policy=policy, log=lambda kind, text, **more: self.lines.append(text)
        )
        self.decided: list[tuple[int, str, str]] = []
        self.stage.decided = lambda flow: self.decided.append((flow.id, flow.by, flow.reason))
        self.lost: list[tuple[str, str]] = []
        self.running: list[str] = []
        self.flows: list[Flow] = []
        self.filters = [self.join(index, kind) for index, kind in enumerate(kinds or ("filter-data",))]

    def join(self, index: int, kind: str = "filter-data") -> Filter:
        """A filter's process gets a channel."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.stage.attach(index, f"p{index}", kind, Channel(ours), 4711, self._lost, self._running)
        return Filter(self.driver, index, kind, theirs)

    def _lost(self, link: FilterLink, why: str) -> None:
        self.lost.append((link.slot.name, why))

    def _running(self, link: FilterLink) -> None:
        self.running.append(link.slot.name)

    def greeted(self) -> Stage:
        for one in self.filters:
            one.greets()
        return self

    def flow(self, protocol: int = TCP, port: int = 80, direction: Direction = Direction.OUTBOUND, **more: Any) -> Flow:
        """A new flow is admitted."""
        flow = Flow(len(self.flows) + 1, protocol, port, direction)
        for name, value in more.items():
            setattr(flow, name, value)
        self.flows.append(flow)
        self.stage.admit(flow)
        return flow

    def until_told(self, flow: Flow, *words: tuple[Any, ...]) -> None:
        """Wait until the datapath was told just this about a flow since the last look."""
        self.driver.until(lambda: len(flow.told) >= len(words))
        assert flow.told == list(words)
        flow.told.clear()

    @property
    def left(self) -> tuple[int, int]:
        """Flows that the stage keeps, and that its links keep."""
        return len(self.stage._flows), sum(len(link.flows) for link in self.stage._links.values())

    def close(self) -> None:
        for index in range(8):
            self.stage.forget(index)
        for one in self.filters:
            one.channel.close()
