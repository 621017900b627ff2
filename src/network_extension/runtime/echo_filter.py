"""Echo requests under filters: a flow of its own for each program, destination and identifier (protocol 1 or 58).

A filter that asks for data is shown whole packets, each behind Apple's attribute word (`NEFilterDataAttribute`, 1: an
IP header follows), requests as outbound and replies as inbound bytes. A flow ends when nothing moved for `IDLE_TIMEOUT`
seconds. What a router says of a request (time exceeded, unreachable) is a reply.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ..core.packets import PacketError, Unreachable, icmp_unreachable, parse_echo, parse_head
from ..linux.reactor import Reactor
from ..rules import Direction
from .datagram_gate import DatagramGate
from .described_flow import DescribedFlow

if TYPE_CHECKING:
    from ..linux.echo import EchoRelay
    from .filter_stage import FilterStage

IDLE_TIMEOUT = 60.0
MOST_HELD, MOST_FLOWS = 16, 1024
HAS_IP_HEADER = struct.pack("=I", 1)

Name = tuple[bytes, bytes, int]
"""Program's address, destination, identifier."""


class EchoFlow(DescribedFlow):
    """A `FilteredFlow` of echo messages."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "dropped",
        "gates",
        "held",
        "last_used",
        "outcome",
        "owner",
        "silent",
    )

    def __init__(self, owner: EchoFilter, number: int, packet: bytes, now: float) -> None:
        head = parse_head(packet)
        super().__init__(number, (head.protocol, head.source, 0, head.destination, 0), Direction.OUTBOUND)
        self.owner, self.last_used, self.outcome = owner, now, ""
        self.bytes_in = self.bytes_out = 0
        self.held: list[bytes] = []
        self.gates: tuple[DatagramGate, DatagramGate] | None = None
        """Inbound and outbound, once the flow is open."""
        self.dropped = self.silent = False

    def filter_open(self, hold_inbound: bool, hold_outbound: bool) -> None:
        """Send what waits."""
        self.owner.open(self, hold_inbound, hold_outbound)

    def filter_pass(self, direction: Direction, up_to: int) -> None:
        """Bytes may go."""
        if self.gates is not None:
            self.gates[direction is Direction.OUTBOUND].let(up_to)

    def filter_hold(self, direction: Direction) -> None:
        """Show what comes from now on."""
        if self.gates is not None:
            self.gates[direction is Direction.OUTBOUND].shut()

    def filter_drop(self, silent: bool, page: bytes | None) -> None:
        """Send nothing more."""
        self.owner.drop(self, silent)

    def filter_counts(self) -> tuple[int, int]:
        """Bytes of whole packets."""
        return self.bytes_in, self.bytes_out


class EchoFilter:
    """Stands between the programs and the echo relay."""

    def __init__(
        self,
        reactor: Reactor,
        stage: FilterStage,
        next_number: Callable[[], int],
        relay: EchoRelay,
        deliver: Callable[[bytes], None],
    ) -> None:
        self._reactor, self._stage, self._next_number = reactor, stage, next_number
        self._relay, self._deliver = relay, deliver
        self.describe: Callable[[EchoFlow], None] = lambda flow: None
        self._flows: dict[Name, EchoFlow] = {}
        reactor.call_later(IDLE_TIMEOUT, self._sweep)

    def request(self, packet: bytes) -> None:
        """An echo request of a program's, as a whole packet."""
        try:
            head, echo = parse_head(packet), parse_echo(packet)
        except PacketError:
            return
        if echo is None or echo.is_reply:
            return
        name = head.source, head.destination, echo.identifier
        flow = self._flows.get(name)
        if flow is not None:
            flow.last_used = self._reactor.clock()
            self._further(flow, packet)
        elif len(self._flows) < MOST_FLOWS:
            flow = self._flows[name] = EchoFlow(self, self._next_number(), packet, self._reactor.clock())
            flow.held.append(packet)
            self.describe(flow)
            self._stage.admit(flow)

    def _further(self, flow: EchoFlow, packet: bytes) -> None:
        if flow.dropped:
            self._refuse(flow, packet)
        elif flow.gates is not None:
            flow.gates[1].arrive(packet)
        elif len(flow.held) < MOST_HELD:
            flow.held.append(packet)

    def reply(self, packet: bytes) -> bool:
        """Whether a packet for the program may go at once; one that is held comes later."""
        flow = self._flow_of(packet)
        if flow is None:
            return True
        flow.last_used = self._reactor.clock()
        if not flow.dropped and flow.gates is not None:
            flow.gates[0].arrive(packet)
        return False

    def _flow_of(self, packet: bytes) -> EchoFlow | None:
        try:
            head, echo = parse_head(packet), parse_echo(packet)
        except PacketError:
            return None
        if echo is not None:
            return self._flows.get((head.destination, head.source, echo.identifier))
        try:  # what a router says quotes the request behind eight bytes of its own
            quoted = packet[head.transport_offset + 8 :]
            head, echo = parse_head(quoted), parse_echo(quoted)
        except PacketError:
            return None
        return self._flows.get((head.source, head.destination, echo.identifier)) if echo is not None else None

    def open(self, flow: EchoFlow, hold_inbound: bool, hold_outbound: bool) -> None:
        """The filters let it begin."""
        soon, word = self._reactor.call_soon, HAS_IP_HEADER
        inbound, outbound = partial(self._inbound, flow), partial(self._outbound, flow)
        flow.gates = (
            DatagramGate(soon, self._stage, flow, Direction.INBOUND, hold_inbound, inbound, word),
            DatagramGate(soon, self._stage, flow, Direction.OUTBOUND, hold_outbound, outbound, word),
        )
        held, flow.held = flow.held, []
        for packet in held:
            flow.gates[1].arrive(packet)

    def _outbound(self, flow: EchoFlow, packet: bytes) -> None:
        flow.bytes_out += len(packet)
        self._relay.request(packet)

    def _inbound(self, flow: EchoFlow, packet: bytes) -> None:
        flow.bytes_in += len(packet)
        self._deliver(packet)

    def drop(self, flow: EchoFlow, silent: bool) -> None:
        """The filters end it; its later requests are refused without being asked about."""
        flow.dropped, flow.silent = True, silent
        held, flow.held = flow.held, []
        for gate in flow.gates or ():
            gate.discard()
        for packet in held:
            self._refuse(flow, packet)

    def _refuse(self, flow: EchoFlow, packet: bytes) -> None:
        if not flow.silent:
            self._deliver(icmp_unreachable(packet, Unreachable.ADMINISTRATIVELY_PROHIBITED))

    def _sweep(self) -> None:
        latest = self._reactor.clock() - IDLE_TIMEOUT
        for name, flow in list(self._flows.items()):
            if flow.last_used < latest and not flow.held:
                del self._flows[name]
                self._stage.closed(flow)
        self._reactor.call_later(IDLE_TIMEOUT, self._sweep)

    def close(self) -> None:
        """The end of the sandbox."""
        for flow in self._flows.values():
            self._stage.closed(flow)
        self._flows.clear()
