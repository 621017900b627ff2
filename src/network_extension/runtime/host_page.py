"""A block page on the host datapath: an HTTP response to the program, in the name of the server.

The request waits in the kernel and never leaves. The response is made of TCP segments of our own: from the server's
address, with the sequence number that the request acknowledges, up to a FIN. They are sent by a raw socket; the kernel
routes them over loopback, since their destination is an address of this machine. To the server goes an RST, so that it
does not keep a connection to nobody.

All packets of the connection come to us until it has ended (its mark is HOLD_BOTH). What the program sends is dropped,
and answered as far as TCP needs it: a FIN gets its acknowledgement. What the server sends is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..core.packets import ACK, FIN, RST, PacketHead
from ..core.tcp_segments import tcp_segment
from ..linux.filter_ruleset import FlowMark
from ..linux.nfqueue import DROP
from ..rules import Direction
from .host_flow import HostFlow, Waiting
from .host_packets import segment

if TYPE_CHECKING:
    from .host_table import FlowTable

SEGMENT = 1200
MOST_PAGE = 60_000
"""Bytes: what a program's initial receive window takes. A longer page is cut off."""
LONGEST = 10.0
"""Seconds until a page is given up, whether or not the program has closed."""
PUSH = 8
Inject = Callable[[bytes, int], bool]


class HostPage:
    """The server's part, played for one connection."""

    def __init__(self, flows: FlowTable, flow: HostFlow, head: PacketHead, sent: int, inject: Inject) -> None:
        self._flows, self._flow, self._inject = flows, flow, inject
        self._program, self._server = (head.source, head.source_port), (head.destination, head.destination_port)
        self._next = head.acknowledgement
        self._heard = head.sequence + sent & 0xFFFFFFFF

    @classmethod
    def start(
        cls, flows: FlowTable, flow: HostFlow, packets: list[Waiting], page: bytes, inject: Inject
    ) -> HostPage | None:
        """Answer the request in `packets`, all of which are dropped; None when it cannot be answered."""
        requests = [segment(packet.payload) for packet in packets]
        requests = [(head, data) for head, data in requests if data and head.source == _program_address(flow)]
        if not requests or flow.key[1] == flow.key[3]:
            return None
        head, data = max(requests, key=lambda request: request[0].sequence - requests[0][0].sequence & 0xFFFFFFFF)
        first = min(requests, key=lambda request: request[0].sequence - head.sequence + (1 << 31) & 0xFFFFFFFF)[0]
        played = cls(flows, flow, head, len(data), inject)
        flows.keep_for_page(flow, packets)
        if not all(
            played._send(page[start : start + SEGMENT]) for start in range(0, min(len(page), MOST_PAGE), SEGMENT)
        ):
            return None
        played._to_program(FIN | ACK, b"")
        played._next = played._next + 1 & 0xFFFFFFFF
        inject(tcp_segment(*played._program, *played._server, first.sequence, 0, RST), FlowMark.HOLD_BOTH)
        flows.later(LONGEST, lambda: flows.end(flow))
        return played

    def _send(self, data: bytes) -> bool:
        sent = self._to_program(PUSH | ACK, data)
        self._next = self._next + len(data) & 0xFFFFFFFF
        return sent

    def _to_program(self, flags: int, data: bytes) -> bool:
        packet = tcp_segment(*self._server, *self._program, self._next, self._heard, flags, data)
        return self._inject(packet, FlowMark.HOLD_BOTH)

    def packet(self, packet: Waiting) -> None:
        """A packet of the connection: one of ours that comes by, or of one of the ends."""
        head, data = segment(packet.payload)
        self._flows.queue.decide(packet.id, DROP)
        if (head.source, head.source_port) != self._program:
            return
        if head.flags & RST:
            self._flows.end(self._flow)
        elif head.flags & FIN:
            self._heard = head.sequence + len(data) + 1 & 0xFFFFFFFF
            self._to_program(ACK, b"")
            self._flows.later(1.0, lambda: self._flows.end(self._flow))
        elif data:
            self._heard = head.sequence + len(data) & 0xFFFFFFFF
            self._to_program(ACK, b"")


def _program_address(flow: HostFlow) -> bytes:
    return flow.key[1] if flow.direction is Direction.OUTBOUND else flow.key[3]
