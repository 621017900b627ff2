"""What is known of a new flow of the host datapath before anybody is asked: program, far name, interface."""

from __future__ import annotations

import socket
from collections.abc import Callable

from ..core.dns_messages import DnsMessageError, parse_answers
from ..core.host_names import HostNames
from ..core.packets import TCP, UDP, FlowKey, PacketError, parse_head
from ..linux.attribution import Attribution
from ..linux.nfqueue import ACCEPT, HeldPacket, Queue
from ..metadata import ProcessInfo
from ..rules import Direction
from .host_flow import HostFlow

MOST_OWN = 4096


class FlowDescriber:
    """Describes flows. `supervisor` is the pid of the process whose flows, and those of what it started, are ours."""

    def __init__(self, attribution: Attribution, clock: Callable[[], float], supervisor: int) -> None:
        self._attribution, self._clock, self._supervisor = attribution, clock, supervisor
        self.names = HostNames()
        self._own: dict[tuple[int, int], bool] = {}
        self._interfaces: dict[int, str] = {}
        self.own_flows = 0
        self.probe: FlowKey | None = None
        """The self-check's datagram; None once it has been seen."""

    def describe(self, flow: HostFlow, packet: HeldPacket) -> bool:
        """Fill in what is known. True for flows of our own processes, which nobody is asked about."""
        key = flow.key
        if key == self.probe:
            self.probe = None
            return True
        protocol, source, port, destination, other = key
        inbound = flow.direction is Direction.INBOUND
        index = packet.indev if inbound else packet.outdev
        if protocol == TCP or protocol == UDP:
            here, there = ((destination, other), (source, port)) if inbound else ((source, port), (destination, other))
            process = flow.process = self._attribution.owner(protocol, here, there, inbound, index)
            if process is not None and self._is_own(process):
                self.own_flows += 1
                return True
        known = self.names.lookup(source if inbound else destination, self._clock())
        if known is not None:
            flow.host, flow.name_source = known
        flow.interface = self._interfaces.get(index) or self.interface(index)
        return False

    def _is_own(self, process: ProcessInfo) -> bool:
        name = process.pid, process.start_time
        known = self._own.get(name)
        if known is None:
            supervisor = self._supervisor
            known = name[0] == supervisor or any(parent.pid == supervisor for parent in process.parents)
            if len(self._own) >= MOST_OWN:
                self._own.clear()
            self._own[name] = known
        return known

    def interface(self, index: int) -> str | None:
        """The name of an interface; None for 0, or where it is gone."""
        if not index:
            return None
        try:
            name = self._interfaces[index] = socket.if_indextoname(index)
        except OSError:
            return None
        return name

    def forget_interfaces(self) -> None:
        """They may have other names by now."""
        self._interfaces.clear()

    def read_answers(self, queue: Queue) -> None:
        """Answers to programs' DNS queries: read, then released, whatever they are."""
        for packet in queue.receive():
            queue.decide(packet.id, ACCEPT)
            try:
                head = parse_head(packet.payload)
                self.names.learn(parse_answers(packet.payload[head.payload_offset : head.length]), self._clock())
            except (PacketError, DnsMessageError):
                continue
