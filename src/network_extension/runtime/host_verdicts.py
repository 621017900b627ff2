"""What the filter stage wants done with a flow of the host datapath, as verdicts, marks and ends of sockets."""

from __future__ import annotations

from typing import Any

from ..core.packets import RST, TCP
from ..core.tcp_segments import tcp_segment
from ..filter_verdicts import FLOW_BYTES_MAX, FilterVerdict, VerdictKind
from ..linux.filter_ruleset import FlowMark
from ..linux.nfqueue import DROP, REPEAT
from ..rules import Direction
from .host_flow import HostFlow, Stage, TableKey, Waiting, reversed_key
from .host_holds import DatagramHold, Unsynchronized, stream_hold
from .host_packets import segment, table_key
from .host_table import INBOUND, OUTBOUND, SILENT_OTHER, SILENT_TCP, FlowTable

OTHER = {OUTBOUND: INBOUND, INBOUND: OUTBOUND}


class HostVerdicts(FlowTable):
    """The methods that `HostFlow` hands its own to."""

    def held(self, flow: HostFlow, direction: Direction, packet: Waiting) -> None:
        """A packet of a flow that the kernel carries, perhaps of a direction that is held."""
        raise NotImplementedError

    def open(self, flow: HostFlow, hold_inbound: bool, hold_outbound: bool) -> None:
        """Let the first packets go; a direction that is held is shown first."""
        if flow.stage is not Stage.WAITING:
            return
        packets, flow.waiting = flow.waiting, []
        if not (hold_inbound or hold_outbound):
            flow.mark = FlowMark.ALLOWED
            for packet in packets:
                self.queue.decide(packet.id, REPEAT, packet.mark & self._keep | FlowMark.ALLOWED << self._shift)
            self._set_free(flow)
            return
        flow.stage = Stage.HELD
        self.flows[reversed_key(flow.table_key)] = flow
        for direction, wanted in ((INBOUND, hold_inbound), (OUTBOUND, hold_outbound)):
            if wanted:
                flow.holds[direction] = self._new_hold(flow, direction)
        flow.mark = self._held_mark(flow)
        for packet in packets:
            key = flow.table_key if flow.sequence >= 0 else table_key(packet.payload)
            if flow.stage is Stage.ENDED:
                self.queue.decide(packet.id, DROP)
            else:
                direction = flow.direction if key == flow.table_key else OTHER[flow.direction]
                self.held(flow, direction, Waiting(packet.id, packet.mark, packet.payload))

    @staticmethod
    def _new_hold(flow: HostFlow, direction: Direction) -> Any:
        if flow.protocol_number != TCP:
            return DatagramHold()
        if direction is flow.direction and flow.sequence >= 0 and flow.stage is not Stage.FREE:
            return stream_hold(flow.sequence)
        return Unsynchronized()

    @staticmethod
    def _held_mark(flow: HostFlow) -> FlowMark:
        if len(flow.holds) == 2 or (flow.holds and flow.key[1] == flow.key[3]):
            return FlowMark.HOLD_BOTH
        return FlowMark.HOLD_OUT if OUTBOUND in flow.holds else FlowMark.HOLD_IN

    def pass_bytes(self, flow: HostFlow, direction: Direction, up_to: int) -> None:
        """Let the packets go that lie wholly before that byte; the end of a hold is told to the kernel."""
        hold = flow.holds.get(direction)
        if hold is None or flow.stage is not Stage.HELD:
            return
        last = up_to >= FLOW_BYTES_MAX
        packets = hold.close() if last else hold.release(up_to)
        if last:
            del flow.holds[direction]
            flow.mark = self._held_mark(flow) if flow.holds else FlowMark.ALLOWED
        for packet in packets:
            self._held_bytes -= len(packet.payload)
            self._accept(flow, packet)
        if last and not flow.holds:
            if not packets:
                self._kernel.set_mark(flow.table_key, FlowMark.ALLOWED)
            self._set_free(flow)

    def hold(self, flow: HostFlow, direction: Direction) -> None:
        """Show a direction from now on that passed freely."""
        if flow.stage not in (Stage.HELD, Stage.FREE) or direction in flow.holds:
            return
        start = flow.filter.given(direction) if flow.filter is not None else 0
        flow.holds[direction] = Unsynchronized(start) if flow.protocol_number == TCP else DatagramHold(start)
        flow.stage, flow.mark = Stage.HELD, self._held_mark(flow)
        self.tracked.pop(flow.table_key, None)
        self.flows[flow.table_key] = self.flows[reversed_key(flow.table_key)] = flow
        self._kernel.set_mark(flow.table_key, flow.mark)

    def drop(self, flow: HostFlow, silent: bool, page: bytes | None) -> None:
        """End the flow, visibly or not."""
        if flow.stage is Stage.WAITING:
            self._drop_new(flow, silent)
        elif flow.stage in (Stage.HELD, Stage.FREE):
            packets = self._take_held(flow)
            if page is not None and flow.protocol_number == TCP and self._kernel.send_page(self, flow, packets, page):
                return
            self._drop_carried(flow, silent, packets)
        self._forget(flow)

    def _drop_new(self, flow: HostFlow, silent: bool) -> None:
        """Nothing of it has gone out: the kernel refuses it when the packet comes around again."""
        flow.mark = FlowMark.DROPPED if silent else FlowMark.REFUSED
        is_tcp = flow.protocol_number == TCP
        for packet in flow.waiting:
            if silent:
                self.queue.decide(packet.id, DROP)
            else:
                self._decide(packet, FlowMark.REFUSED)
        flow.waiting.clear()
        if silent or not is_tcp:
            until = self._reactor.clock() + (SILENT_TCP if is_tcp else SILENT_OTHER)
            self.memory.add(flow.table_key, flow.sequence, flow.mark, until)
        if flow.sequence < 0:
            self._cut(flow, silent)

    def _drop_carried(self, flow: HostFlow, silent: bool, packets: list[Waiting]) -> None:
        """The kernel carries it: mark the connection, answer what is held, and end the program's socket."""
        flow.mark = FlowMark.DROPPED if silent else FlowMark.REFUSED
        if not silent and flow.protocol_number == TCP:
            self._reset_far_side(flow, packets)
        for packet in packets:
            self._held_bytes -= len(packet.payload)
            self._decide(packet, flow.mark)
        self.memory.add(flow.table_key, flow.sequence, flow.mark, self._reactor.clock() + SILENT_OTHER)
        self.queue.flush()
        self._cut(flow, silent)

    def _reset_far_side(self, flow: HostFlow, packets: list[Waiting]) -> None:
        """Bytes that never went out tell the sequence number that the far side expects: it accepts a reset there."""
        ours = flow.key[1:3] if flow.direction is OUTBOUND else flow.key[3:5]
        theirs = flow.key[3:5] if flow.direction is OUTBOUND else flow.key[1:3]
        for packet in packets:
            head, _ = segment(packet.payload)
            if (head.source, head.source_port) == ours:
                self._kernel.inject(tcp_segment(*ours, *theirs, head.sequence, 0, RST), FlowMark.HOLD_BOTH)
                return

    def _cut(self, flow: HostFlow, silent: bool) -> None:
        if not silent:
            self._kernel.destroy(flow)  # first: its reset to the far side must not be refused itself
        self._kernel.set_mark(flow.table_key, flow.mark)

    def update_forgotten(self, key: TableKey, verdict: FilterVerdict, direction: Direction) -> bool:
        """A filter changes its mind about a flow that the kernel carries alone: a drop ends it, if it is there."""
        if verdict.kind is not VerdictKind.DROP or self._kernel.state(key) is None:
            return False
        flow = HostFlow(self, 0, key, direction, self._reactor.clock(), 0)
        flow.stage = Stage.FREE
        self._drop_carried(flow, verdict.silent, [])
        return True
