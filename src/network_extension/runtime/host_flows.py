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
from typing import TYPE_CHECKING

from ..core.flow_decision import Policy
from ..core.packets import FIN, RST, SYN, TCP, UDP, PacketError
from ..linux.filter_chains import LOOPBACK_INDEX
from ..linux.filter_ruleset import FlowMark
from ..linux.nfqueue import ACCEPT, DROP, HeldPacket, Queue
from ..linux.reactor import Reactor
from ..rules import Direction
from .host_flow import HostFlow, Stage, TableKey, Waiting, reversed_key
from .host_holds import MOST_PACKETS, DatagramHold, Now, StreamReassembler, Unsynchronized, stream_hold
from .host_packets import initial_sequence, other_data, segment, table_key
from .host_table import INBOUND, OUTBOUND
from .host_verdicts import OTHER, HostVerdicts

if TYPE_CHECKING:
    from .filter_stage import FilterStage
    from .host_kernel import HostKernel

MOST_FLOWS = 16384
"""Flows that wait or are held; the kernel's queue holds as many packets."""
MOST_HELD_BYTES = 64 << 20
LOCAL_OUT = 3
_HELD_STATES = (FlowMark.HOLD_OUT, FlowMark.HOLD_IN, FlowMark.HOLD_BOTH)


class HostFlows(HostVerdicts):
    """All flows that are not the kernel's alone: their packets come here."""

    def __init__(
        self, reactor: Reactor, queue: Queue, stage: FilterStage, kernel: HostKernel, policy: Policy, *, offer: bool
    ) -> None:
        super().__init__(reactor, queue, stage, kernel, policy)
        self._offer = offer
        self.describe: Callable[[HostFlow, HeldPacket], bool] = lambda flow, packet: False
        """Fills in process, names and interface; True when the flow is our own and must not be asked for."""
        self.number = self.overflows = 0

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
            if self._is_open:
                self._decide(packet, FlowMark.ALLOWED)
            else:
                self._refuse_held(key, packet)
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

    def _refuse_held(self, key: TableKey, packet: HeldPacket) -> None:
        """End both sides of it: a program that only receives would wait for ever."""
        flow = HostFlow(
            self, 0, key if packet.hook == LOCAL_OUT else reversed_key(key), OUTBOUND, self._reactor.clock(), -1
        )
        flow.stage = Stage.HELD
        self._held_bytes += len(packet.payload)
        self._drop_carried(flow, False, [Waiting(packet.id, packet.mark, packet.payload)])

    def _new(self, key: TableKey, packet: HeldPacket, direction: Direction, sequence: int) -> None:
        if len(self.flows) >= MOST_FLOWS:
            self.overflows += 1
            self._by_policy(packet)
            return
        if self.tracked:
            self._replace_tracked(key)
        self.number += 1
        flow = HostFlow(self, self.number, key, direction, self._reactor.clock(), sequence)
        flow.waiting.append(packet)
        self.flows[key] = flow
        if sequence < 0:
            self.flows[reversed_key(key)] = flow
        if self.describe(flow, packet):
            self.open(flow, False, False)
        else:
            self._stage.admit(flow)

    def _replace_tracked(self, key: TableKey) -> None:
        """A flow that filters want reports of has ended unseen: another one begins with its addresses and ports."""
        for known in (key, reversed_key(key)):
            if (before := self.tracked.get(known)) is not None:
                self.end(before)

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
            self.held(flow, flow.direction if key == flow.table_key else OTHER[flow.direction], waiting)

    def held(self, flow: HostFlow, direction: Direction, packet: Waiting) -> None:
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
        if isinstance(hold, Unsynchronized):
            hold = self._synchronize(flow, direction, hold.start, head.flags, head.sequence)
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

    @staticmethod
    def _synchronize(
        flow: HostFlow, direction: Direction, start: int, flags: int, sequence: int
    ) -> StreamReassembler[Waiting]:
        """The first segment of a direction whose initial sequence number its SYN-ACK tells, or nobody."""
        hold = stream_hold(sequence if flags & SYN else None, start)
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


def _raise(error: Exception) -> None:
    raise error
