"""The flows of the host datapath that are not the kernel's alone, and how each of them ends.

A flow is in `flows` under the keys of both of its directions while it waits or is held, and in `tracked` while the
kernel carries it and filters want reports. Everything is bounded; what no packet tells of is found by sweeps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..core.flow_decision import Policy
from ..core.packets import TCP, UDP
from ..linux.filter_ruleset import FlowMark
from ..linux.nfqueue import DROP, REPEAT, HeldPacket, Queue
from ..linux.reactor import Reactor
from ..rules import Direction
from .host_flow import HostFlow, Stage, TableKey, Waiting, reversed_key
from .host_holds import VerdictMemory

if TYPE_CHECKING:
    from .filter_stage import FilterStage
    from .host_kernel import HostKernel

SILENT_TCP, SILENT_OTHER, ALLOWED_AGAIN, OPENED_AGAIN = 130.0, 30.0, 2.0, 8.0
"""Seconds for which a verdict is given again: tcp_syn_retries of 6 make 127 s; the third covers what was already on
its way to us, the last a SYN that comes again because our SYN-ACK was lost (after 1, 3 and 7 s, RFC 6298)."""
SWEEP_INTERVAL = 2.0
MOST_LOOKS = 500
"""Flows that one sweep asks the kernel about."""
OUTBOUND, INBOUND = Direction.OUTBOUND, Direction.INBOUND


class FlowTable:
    """All flows that are not the kernel's alone."""

    def __init__(self, reactor: Reactor, queue: Queue, stage: FilterStage, kernel: HostKernel, policy: Policy) -> None:
        self._reactor, self.queue, self._stage, self._kernel = reactor, queue, stage, kernel
        self._is_open = policy is not Policy.CLOSED
        self._shift, self._keep = kernel.mark_shift, ~kernel.mark_mask & 0xFFFFFFFF
        self.flows: dict[TableKey, HostFlow] = {}
        self.tracked: dict[TableKey, HostFlow] = {}
        """Allowed for good, and filters want reports of them."""
        self._fresh: list[HostFlow] = []
        self.memory = VerdictMemory()
        self.told: Callable[[HostFlow], None] = lambda flow: None
        """Called with flows that are left when the session ends, and what became of them."""
        self._held_bytes = 0
        self._to_look: list[HostFlow] = []
        reactor.call_later(SWEEP_INTERVAL, self._sweep)

    # Verdicts

    def _decide(self, packet: HeldPacket | Waiting, state: int) -> None:
        self.queue.decide(packet.id, REPEAT, packet.mark & self._keep | state << self._shift)

    def _accept(self, flow: HostFlow, packet: Waiting) -> None:
        self.queue.decide(packet.id, REPEAT, packet.mark & self._keep | flow.mark << self._shift)

    def _by_policy(self, packet: HeldPacket) -> None:
        """Nobody can decide about it: too many flows, or it is no packet."""
        if self._is_open:
            self._decide(packet, FlowMark.ALLOWED)
        else:
            self.queue.decide(packet.id, DROP)

    def counts(self, flow: HostFlow) -> tuple[int, int]:
        """Bytes in and out: the kernel's count of the connection, or what we have seen of it."""
        found = self._kernel.counters(flow.table_key)
        if found is not None:
            there, back = found
            counted = (back, there) if flow.direction is OUTBOUND else (there, back)
            flow.bytes_in, flow.bytes_out = max(counted[0], flow.bytes_in), max(counted[1], flow.bytes_out)
        return flow.bytes_in, flow.bytes_out

    # Flows end

    def keep_for_page(self, flow: HostFlow, packets: list[Waiting]) -> None:
        """The flow stays ours to its end: nothing that was held goes out, and all of its packets come to us."""
        for packet in packets:
            self._held_bytes -= len(packet.payload)
            self.queue.decide(packet.id, DROP)
        packets.clear()
        flow.stage, flow.mark = Stage.HELD, FlowMark.HOLD_BOTH
        self.flows[flow.table_key] = self.flows[reversed_key(flow.table_key)] = flow

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Call back then."""
        self._reactor.call_later(seconds, action)

    def _take_held(self, flow: HostFlow) -> list[Waiting]:
        packets = [packet for hold in flow.holds.values() for packet in hold.close()]
        flow.holds.clear()
        return packets

    def _set_free(self, flow: HostFlow) -> None:
        """From now on the kernel carries it alone."""
        was_held, flow.stage = flow.stage is Stage.HELD, Stage.FREE
        if was_held or flow.protocol_number != TCP or flow.sequence < 0:
            self._remove_keys(flow)
            self.memory.add(flow.table_key, flow.sequence, FlowMark.ALLOWED, self._reactor.clock() + ALLOWED_AGAIN)
        else:
            del self.flows[flow.table_key]  # no answer was there to be expected
            if flow.direction is INBOUND:
                self.memory.add(flow.table_key, flow.sequence, FlowMark.ALLOWED, self._reactor.clock() + OPENED_AGAIN)
        if flow.filter is not None:
            self._fresh.append(flow)

    def _track_fresh(self) -> None:
        """Of those that were set free: keep the ones that the stage still wants to hear of."""
        fresh, self._fresh = self._fresh, []
        for flow in fresh:
            if flow.filter is not None and flow.stage is Stage.FREE:
                self.tracked[flow.table_key] = flow
                self._kernel.count_bytes()

    def _remove_keys(self, flow: HostFlow) -> None:
        if self.flows.get(flow.table_key) is flow:
            del self.flows[flow.table_key]
        other = reversed_key(flow.table_key)
        if self.flows.get(other) is flow:
            del self.flows[other]

    def _forget(self, flow: HostFlow) -> None:
        flow.stage = Stage.ENDED
        self._remove_keys(flow)
        if self.tracked.get(flow.table_key) is flow:
            del self.tracked[flow.table_key]

    def end(self, flow: HostFlow) -> None:
        """The flow is over, by its ends: nothing of it is kept."""
        if flow.stage is Stage.ENDED:
            return
        for packet in self._take_held(flow):
            self._held_bytes -= len(packet.payload)
            self.queue.decide(packet.id, DROP)
        for waiting in flow.waiting:
            self.queue.decide(waiting.id, DROP)
        flow.waiting.clear()
        if flow.page is not None:
            self._kernel.set_mark(flow.table_key, FlowMark.DROPPED)
            self.memory.add(flow.table_key, flow.sequence, FlowMark.DROPPED, self._reactor.clock() + SILENT_OTHER)
        self._forget(flow)
        if flow.filter is not None:
            self._stage.closed(flow)

    def _sweep(self) -> None:
        """End flows of which no packet tells: a program closed its socket while it waited, an entry timed out.

        Each look asks the kernel, so a sweep goes on where the last one stopped.
        """
        self._reactor.call_later(SWEEP_INTERVAL, self._sweep)
        self._track_fresh()
        now = self._reactor.clock()
        self.memory.expire(now)
        if not self._to_look:
            self._to_look = list(dict.fromkeys((*self.tracked.values(), *self.flows.values())))
        for _ in range(min(MOST_LOOKS, len(self._to_look))):
            flow = self._to_look.pop()
            if now - flow.started_at > SWEEP_INTERVAL / 2 and flow.page is None and not self._is_there(flow):
                self.counts(flow)
                self.end(flow)

    def _is_there(self, flow: HostFlow) -> bool:
        has_socket = flow.protocol_number in (TCP, UDP)
        if flow.stage is Stage.WAITING:
            if flow.direction is INBOUND or flow.process is None or not has_socket:
                return True
            return self._kernel.has_socket(flow)
        if flow.stage is Stage.FREE and has_socket:
            return self._kernel.has_socket(flow)
        return flow.stage is Stage.ENDED or self._kernel.has_entry(flow.table_key)

    def closed_socket(self, protocol: int, local: tuple[bytes, int], remote: tuple[bytes, int]) -> None:
        """A socket was destroyed: the end of a flow that is tracked."""
        key = (protocol, *local, *remote)
        flow = self.tracked.get(key) or self.tracked.get(reversed_key(key))
        if flow is not None:
            self.counts(flow)
            self.end(flow)

    def finish(self) -> None:
        """The session ends: what waits gets the policy's verdict."""
        for flow in list({id(flow): flow for flow in self.flows.values()}.values()):
            for packet in (*flow.waiting, *self._take_held(flow)):
                if self._is_open:
                    self._decide(packet, FlowMark.ALLOWED)
                else:
                    self.queue.decide(packet.id, DROP)
            if flow.filter is not None and not flow.filter.is_final:
                # What is held may still go its way: the rules go now, and TCP sends again what was dropped.
                flow.outcome, flow.reason = ("passed" if self._is_open else "undecided"), "the filter ended"
                self.told(flow)
            self._forget(flow)
        self.queue.flush()
