"""Packet filters on the host datapath: a queue of their own gets every packet but loopback's and what is exempt."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ..filter_verdicts import FilterPacketVerdict
from ..linux.nfqueue import ACCEPT, DROP, HeldPacket, Queue
from ..linux.reactor import READ, Reactor
from ..rules import Direction

if TYPE_CHECKING:
    from .packet_link import PacketFilters

LOCAL_OUT = 3


class HostPacketQueue:
    """Shows each packet of `queue` to the run's packet filters. `name_of` gives an interface's name for its number."""

    def __init__(
        self, reactor: Reactor, queue: Queue, filters: PacketFilters, name_of: Callable[[int], str | None]
    ) -> None:
        self._queue, self._filters, self._name_of = queue, filters, name_of
        reactor.register(queue.fileno(), READ, self._packets)
        reactor.after_each_batch(queue.flush)

    def _packets(self, events: int) -> None:
        for packet in self._queue.receive():
            self._ask(packet)

    def _ask(self, packet: HeldPacket) -> None:
        outbound = packet.hook == LOCAL_OUT
        direction = Direction.OUTBOUND if outbound else Direction.INBOUND
        interface = self._name_of(packet.outdev if outbound else packet.indev) or ""
        self._filters.decide(packet.payload, interface, direction, partial(self._decided, packet.id))

    def _decided(self, number: int, verdict: FilterPacketVerdict) -> None:
        self._queue.decide(number, ACCEPT if verdict is FilterPacketVerdict.ALLOW else DROP)
