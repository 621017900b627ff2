"""Packets of a sandbox that packet filters decide: what programs send and get over the sandbox's interface.

Only a run with a packet filter has this queue: the keeper puts its rules in place when the first one is ready. Loopback
is left out, and so is what the runtime sends on behalf of programs, which leaves by the host's interfaces.
"""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING

from ..core.flow_decision import Policy
from ..filter_verdicts import FilterPacketVerdict
from ..linux.nfqueue import ACCEPT, DROP, Queue
from ..linux.reactor import READ, Reactor
from ..linux.ruleset import PACKET_QUEUE
from ..rules import Direction

if TYPE_CHECKING:
    from .packet_link import PacketFilters

INTERFACE = "netext0"
OUTPUT_HOOK = 3


class PacketGate:
    """The queue of packets, between the kernel and the packet filters."""

    def __init__(self, reactor: Reactor, sock: socket.socket, filters: PacketFilters, policy: Policy | None) -> None:
        self._reactor, self._filters = reactor, filters
        self._queue = Queue(sock, PACKET_QUEUE, copy_range=0xFFFF, fail_open=policy is not Policy.CLOSED)
        reactor.register(self._queue.fileno(), READ, self._packets)
        reactor.after_each_batch(self._queue.flush)

    def _packets(self, events: int) -> None:
        for packet in self._queue.receive():
            direction = Direction.OUTBOUND if packet.hook == OUTPUT_HOOK else Direction.INBOUND
            decide = partial(self._decided, packet.id)
            self._reactor.guard(partial(self._filters.decide, packet.payload, INTERFACE, direction, decide))

    def _decided(self, number: int, verdict: FilterPacketVerdict) -> None:
        self._queue.decide(number, ACCEPT if verdict is FilterPacketVerdict.ALLOW else DROP)

    def close(self) -> None:
        """Unbind: what waits is dropped, or passes where the policy is open."""
        self._reactor.unregister(self._queue.fileno())
        self._queue.close()
