"""Flows of the host datapath: from a packet that waits in the kernel to a mark on its connection.

The kernel asks with the packets of undecided flows, and of held directions; what it is told rides back on the verdict:
NF_REPEAT with the flow's new state in our bits of the packet mark, which the first rule of our chain moves to the
connection's mark. So a decision costs one message, and a flow that is allowed for good is never seen again.

Held bytes stay in the kernel, in their packets. TCP is put together (`core/stream_reassembly`) to show it, datagrams
are units. Everything is bounded: flows, packets of one direction, bytes, and remembered verdicts. At a bound the policy
decides (new flows), or the packet is dropped, which makes its sender wait and try again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..core.flow_decision import Policy
from ..core.packets import FIN, RST, SYN, TCP, UDP, PacketError
from ..core.tcp_segments import tcp_segment
from ..filter_verdicts import FLOW_BYTES_MAX, FilterVerdict, VerdictKind
from ..linux.filter_chains import LOOPBACK_INDEX
from ..linux.filter_ruleset import FlowMark
from ..linux.nfqueue import ACCEPT, DROP, REPEAT, HeldPacket, Queue
from ..linux.reactor import Reactor
from ..rules import Direction
from .host_flow import HostFlow, Stage, TableKey, Waiting, reversed_key
from .host_holds import MOST_PACKETS, DatagramHold, Now, StreamReassembler, VerdictMemory, stream_hold
from .host_packets import initial_sequence, other_data, segment, table_key

if TYPE_CHECKING:
    from .filter_stage import FilterStage
    from .host_kernel import HostKernel

MOST_FLOWS = 16384
"""Flows that wait or are held; the kernel's queue holds as many packets."""
MOST_HELD_BYTES = 64 << 20
SILENT_TCP, SILENT_OTHER, ALLOWED_AGAIN = 130.0, 30.0, 2.0
"""Seconds for which a verdict is given again: tcp_syn_retries of 6 make 127 s; the last one covers what was already on
its way to us."""
SWEEP_INTERVAL = 2.0
MOST_LOOKS = 500
"""Reported flows whose sockets one sweep looks for."""
LOCAL_OUT = 3
OUTBOUND, INBOUND = Direction.OUTBOUND, Direction.INBOUND
_HELD_STATES = (FlowMark.HOLD_OUT, FlowMark.HOLD_IN, FlowMark.HOLD_BOTH)
_OTHER = {OUTBOUND: INBOUND, INBOUND: OUTBOUND}


class HostFlows:
    """All flows that are not the kernel's alone."""

    def __init__(
        self, reactor: Reactor, queue: Queue, stage: FilterStage, kernel: HostKernel, policy: Policy, *, offer: bool
    ) -> None:
        self._reactor, self.queue, self._stage, self._kernel = reactor, queue, stage, kernel
        self._is_open, self._offer = policy is not Policy.CLOSED, offer
        self._shift, self._keep = kernel.mark_shift, ~kernel.mark_mask & 0xFFFFFFFF
        self.describe: Callable[[HostFlow, HeldPacket], bool] = lambda flow, packet: False
        """Fills in process, names and interface; True when the flow is our own and must not be asked for."""
        self.flows: dict[TableKey, HostFlow] = {}
        self.tracked: dict[TableKey, HostFlow] = {}
        """Allowed for good, and filters want reports of them."""
        self._fresh: list[HostFlow] = []
        self.memory = VerdictMemory()
        self.number = self.overflows = self._held_bytes = 0
        reactor.call_later(SWEEP_INTERVAL, self._sweep)

    # Packets come

    def packets(self, events: int) -> None:
        """The queue is readable."""
        for packet in self.queue.receive():
            try:
                self.packet(packet)
            except Exception as error:
                self._by_policy(packet)
                if not isinstance(error, PacketError):
                    self._reactor.guard(partial(_raise, error))

    def after_batch(self) -> None:
        """Send what was decided, and keep the flows that were let go and are to be reported."""
        self.queue.flush()
        if self._fresh:
            self._track_fresh()

    def packet(self, packet: HeldPacket) -> None:
        """Deal with one packet. Raises PacketError for what is none."""
        key = table_key(packet.payload)
        flow = self.flows.get(key)
        if flow is not None:
            self._known(flow, key, packet)
        else:
            self._unknown(key, packet)

    def _unknown(self, key: TableKey, packet: HeldPacket) -> None:
        sequence = initial_sequence(packet.payload) if key[0] == TCP else 0
        if sequence < 0 and segment(packet.payload)[0].flags & RST:
            self.queue.decide(packet.id, ACCEPT)  # the end of a connection: it holds nothing
            return
        if len(self.memory) and self._again(key, sequence, packet):
            return
        if sequence < 0:
            self._mid_stream(key, packet)
        else:
            self._new(key, packet, OUTBOUND if packet.hook == LOCAL_OUT else INBOUND, sequence)

    def _again(self, key: TableKey, sequence: int, packet: HeldPacket) -> bool:
        """Whether the verdict about this flow is remembered."""
        now = self._reactor.clock()
        state = self.memory.look_up(key, sequence, now)
        if state is None and sequence < 0:
            state = self.memory.look_up(reversed_key(key), sequence, now)
        if state is None:
            return False
        if state == FlowMark.DROPPED:
            self.queue.decide(packet.id, DROP)
        else:
            self._decide(packet, state)
        return True

    def _mid_stream(self, key: TableKey, packet: HeldPacket) -> None:
        """An established flow is offered or let be; or it was held by an engine that has died since."""
        other = self.flows.get(reversed_key(key))
        if other is not None:  # an answer to what waits
            self._known(other, key, packet)
            return
        state = self._kernel.state(key)
        if state in _HELD_STATES:
            self._decide(packet, FlowMark.ALLOWED if self._is_open else FlowMark.REFUSED)
            return
        if not self._offer:
            self._decide(packet, FlowMark.ALLOWED)
            return
        if packet.hook != LOCAL_OUT:
            key = reversed_key(key)
        local_port, remote_port = key[2], key[4]
        if local_port < remote_port and not self._kernel.is_ephemeral(local_port):
            self._new(reversed_key(key), packet, INBOUND, -1)
        else:
            self._new(key, packet, OUTBOUND, -1)

    def _new(self, key: TableKey, packet: HeldPacket, direction: Direction, sequence: int) -> None:
        if len(self.flows) >= MOST_FLOWS:
            self.overflows += 1
            self._by_policy(packet)
            return
        self.number += 1
        flow = HostFlow(self, self.number, key, direction, self._reactor.clock(), sequence)
        flow.waiting.append(Waiting(packet.id, packet.mark, packet.payload))
        self.flows[key] = flow
        if sequence < 0:
            self.flows[reversed_key(key)] = flow
        if self.describe(flow, packet):
            self.open(flow, False, False)
        else:
            self._stage.admit(flow)

    def _known(self, flow: HostFlow, key: TableKey, packet: HeldPacket) -> None:
        waiting = Waiting(packet.id, packet.mark, packet.payload)
        if flow.page is not None:
            if packet.indev == LOOPBACK_INDEX:
                self.queue.decide(packet.id, ACCEPT)  # one of ours, on its way to the program
            else:
                flow.page.packet(waiting)
            return
        if key[0] == TCP and (sequence := initial_sequence(packet.payload)) >= 0:
            if sequence != flow.sequence and key == flow.table_key:  # the program has given the old one up
                self.end(flow)
                self._unknown(key, packet)
                return
            if flow.stage is Stage.WAITING:
                self.queue.decide(packet.id, DROP)  # sent again while the first one waits: one is enough
                return
        if flow.stage is Stage.WAITING:
            if len(flow.waiting) < MOST_PACKETS:
                flow.waiting.append(waiting)
            else:
                self.queue.decide(packet.id, DROP)
        else:
            self._held(flow, flow.direction if key == flow.table_key else _OTHER[flow.direction], waiting)

    def _held(self, flow: HostFlow, direction: Direction, packet: Waiting) -> None:
        """A packet of a flow that the kernel carries, perhaps of a direction that is held."""
        hold = flow.holds.get(direction)
        if hold is None:
            self._accept(flow, packet)
        elif flow.protocol_number == TCP:
            self._segment(flow, direction, packet)
        else:
            assert isinstance(hold, DatagramHold)
            self._datagram(flow, direction, hold, packet)

    def _segment(self, flow: HostFlow, direction: Direction, packet: Waiting) -> None:
        head, data = segment(packet.payload)
        if head.flags & RST:
            self._accept(flow, packet)
            self.end(flow)
            return
        hold = flow.holds[direction]
        if isinstance(hold, _Unsynchronized):
            hold = self._synchronize(flow, direction, head.flags, head.sequence)
        assert isinstance(hold, StreamReassembler)
        fin = bool(head.flags & FIN)
        if not data and not fin:
            self._accept(flow, packet)  # SYN, SYN-ACK, acknowledgements
            return
        if self._held_bytes > MOST_HELD_BYTES:
            self.queue.decide(packet.id, DROP)
            return
        sequence = head.sequence + bool(head.flags & SYN)
        had_ended = hold.ended
        added = hold.add(packet, sequence & 0xFFFFFFFF, data, fin)
        if added.now is Now.ACCEPT:
            self._accept(flow, packet)
        elif added.now is Now.DROP:
            self.queue.decide(packet.id, DROP)
        else:
            self._held_bytes += len(packet.payload)
        if added.new:
            self._count(flow, direction, len(added.new))
            self._stage.received(flow, direction, added.new)
        if hold.ended and not had_ended and flow.stage is Stage.HELD:
            self._stage.ended(flow, direction)

    def _synchronize(
        self, flow: HostFlow, direction: Direction, flags: int, sequence: int
    ) -> StreamReassembler[Waiting]:
        """The first segment of a direction whose initial sequence number its SYN-ACK tells, or nobody."""
        hold = stream_hold(sequence if flags & SYN else None)
        flow.holds[direction] = hold
        return hold

    def _datagram(self, flow: HostFlow, direction: Direction, hold: DatagramHold, packet: Waiting) -> None:
        data = segment(packet.payload)[1] if flow.protocol_number == UDP else other_data(packet.payload)
        if self._held_bytes > MOST_HELD_BYTES or not hold.add(packet, data):
            self.queue.decide(packet.id, DROP)
            return
        self._held_bytes += len(packet.payload)
        self._count(flow, direction, len(data))
        self._stage.received(flow, direction, data)

    @staticmethod
    def _count(flow: HostFlow, direction: Direction, count: int) -> None:
        if direction is OUTBOUND:
            flow.bytes_out += count
        else:
            flow.bytes_in += count

    # Verdicts go

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

    # What the stage wants done

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
                self._held(flow, flow.direction if key == flow.table_key else _OTHER[flow.direction], packet)

    @staticmethod
    def _new_hold(flow: HostFlow, direction: Direction) -> Any:
        if flow.protocol_number != TCP:
            return DatagramHold()
        if direction is flow.direction and flow.sequence >= 0 and flow.stage is not Stage.FREE:
            return stream_hold(flow.sequence)
        return _Unsynchronized()

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
        flow.holds[direction] = self._new_hold(flow, direction) if flow.protocol_number != TCP else _Unsynchronized()
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
        self._remove_keys(flow)
        if was_held or flow.protocol_number != TCP:
            self.memory.add(flow.table_key, flow.sequence, FlowMark.ALLOWED, self._reactor.clock() + ALLOWED_AGAIN)
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
        for packet in flow.waiting:
            self.queue.decide(packet.id, DROP)
        flow.waiting.clear()
        if flow.page is not None:
            self._kernel.set_mark(flow.table_key, FlowMark.DROPPED)
            self.memory.add(flow.table_key, flow.sequence, FlowMark.DROPPED, self._reactor.clock() + SILENT_OTHER)
        self._forget(flow)
        if flow.filter is not None:
            self._stage.closed(flow)

    def _sweep(self) -> None:
        """End flows of which no packet tells: a program closed its socket while it waited, an entry timed out."""
        self._reactor.call_later(SWEEP_INTERVAL, self._sweep)
        self._track_fresh()
        now = self._reactor.clock()
        self.memory.expire(now)
        for flow in list({id(flow): flow for flow in self.flows.values()}.values()):
            if now - flow.started_at > SWEEP_INTERVAL / 2 and flow.page is None and not self._is_there(flow):
                self.end(flow)
        for flow in list(self.tracked.values())[:MOST_LOOKS]:
            if not (self._kernel.has_socket(flow) if flow.protocol_number in (TCP, UDP) else self._is_there(flow)):
                self.counts(flow)
                self.end(flow)
            else:  # to the end of the order
                self.tracked[flow.table_key] = self.tracked.pop(flow.table_key)

    def _is_there(self, flow: HostFlow) -> bool:
        if flow.stage is Stage.WAITING:
            if flow.direction is INBOUND or flow.process is None or flow.protocol_number not in (TCP, UDP):
                return True
            return self._kernel.has_socket(flow)
        return self._kernel.has_entry(flow.table_key)

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
            self._forget(flow)
        self.queue.flush()


class _Unsynchronized:
    """In place of a hold: the direction's next segment begins it."""

    ended = False

    def release(self, up_to: int) -> list[Waiting]:
        """Nothing waits."""
        return []

    def close(self) -> list[Waiting]:
        """Nothing waits."""
        return []


def _raise(error: Exception) -> None:
    raise error
