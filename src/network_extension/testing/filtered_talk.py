"""One flow under filters in memory: the verdict machine is the real one, the test is both of the flow's ends."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Protocol

from ..core.filter_decision import FilterSlot, FlowFilter, Step
from ..core.flow_description import facts_of
from ..core.name_sniffing import NameSniffer
from ..filter_flow import FilterFlow
from ..filter_verdicts import FLOW_BYTES_MAX
from ..rules import Direction
from .clock import FakeTimeLoop
from .transcript import Transcript, shown

DIRECTION_NAMES = {Direction.OUTBOUND: "outbound", Direction.INBOUND: "inbound"}


class Conversation(Protocol):
    """What a flow needs of the harness that it is in."""

    @property
    def slots(self) -> Sequence[FilterSlot]:
        """The filters in their order."""

    @property
    def loop(self) -> FakeTimeLoop:
        """Where the providers run."""

    @property
    def transcript(self) -> Transcript:
        """What is written down."""

    def carry_out(self, talk: FilteredTalk, steps: list[Step]) -> None:
        """Do what the machine says."""

    def forget(self, talk: FilteredTalk) -> None:
        """The flow is over."""


class FilteredTalk:
    """One flow under filters, with the test as both of its ends."""

    def __init__(self, conversation: Conversation, flow: FilterFlow) -> None:
        self._conversation, self.flow = conversation, flow
        self.state = "held"
        """ "held" (asked or paused), "open" (some direction is held), "allowed", "dropped", "silently dropped"."""
        self.is_silent = False
        self._streams = {direction: bytearray() for direction in DIRECTION_NAMES}
        self._passed = dict.fromkeys(DIRECTION_NAMES, 0)
        self._free = dict.fromkeys(DIRECTION_NAMES, False)
        self._unseen = dict.fromkeys(DIRECTION_NAMES, 0)
        """Bytes that passed before the machine began to count."""
        self._sniffer: NameSniffer | None = NameSniffer(
            flow.socket_protocol, flow.remote_endpoint.port if flow.remote_endpoint else 0
        )
        self.machine = FlowFilter(
            conversation.slots,
            facts_of(flow),
            is_datagram=flow.socket_protocol == socket.IPPROTO_UDP,
            protocol=flow.socket_protocol,
        )

    @property
    def sent(self) -> bytes:
        """What the program sent and the filters let out."""
        return self._let_through(Direction.OUTBOUND)

    @property
    def received(self) -> bytes:
        """What the far side sent and the filters let in."""
        return self._let_through(Direction.INBOUND)

    @property
    def why(self) -> str:
        """Who decided, and the reason."""
        return f"{self.machine.by}: {self.machine.reason}"

    def send(self, data: bytes) -> None:
        """The program sends."""
        self._data(Direction.OUTBOUND, data)

    def receive(self, data: bytes) -> None:
        """The far side sends."""
        self._data(Direction.INBOUND, data)

    def end_outbound(self) -> None:
        """The program sends no more."""
        self._conversation.carry_out(self, self.machine.ended(Direction.OUTBOUND, self._conversation.loop.clock()))

    def end_inbound(self) -> None:
        """The far side sends no more."""
        self._conversation.carry_out(self, self.machine.ended(Direction.INBOUND, self._conversation.loop.clock()))

    def close(self) -> None:
        """The connection is over: reports of it come now."""
        self._conversation.carry_out(self, self.machine.closed(self._conversation.loop.clock()))
        self._conversation.forget(self)

    def _data(self, direction: Direction, data: bytes) -> None:
        assert self.state in ("open", "allowed"), f"{self.flow!r} is {self.state}: no bytes move"
        self._streams[direction] += data
        if direction is Direction.OUTBOUND:
            self._sniff(data)
        if self._free[direction]:
            self._passed[direction] = len(self._streams[direction])
        # The machine counts what passes freely, too: its offsets are those of the stream if it is held again.
        self._conversation.carry_out(self, self.machine.received(direction, data, self._conversation.loop.clock()))
        self._conversation.loop.settle()

    def _sniff(self, data: bytes) -> None:
        if self._sniffer is not None:
            if (found := self._sniffer.feed(data)) is not None:
                self.flow.remote_hostname = found.host or self.flow.remote_hostname
                self.flow.url = found.url or self.flow.url
                self.flow.metadata.name_source = found.source if found.host else self.flow.metadata.name_source
            if self._sniffer.done:
                self._sniffer = None

    def _let_through(self, direction: Direction) -> bytes:
        return bytes(self._streams[direction][: self._passed[direction]])

    # What the machine says

    def opened(self, hold_inbound: bool, hold_outbound: bool) -> None:
        """All filters let it begin."""
        self._free = {Direction.INBOUND: not hold_inbound, Direction.OUTBOUND: not hold_outbound}
        self.state = "open" if hold_inbound or hold_outbound else "allowed"
        self._conversation.transcript.became("open" if self.state == "open" else "allowed")

    def passes(self, direction: Direction, up_to: int) -> None:
        """Bytes move."""
        before, there = self._passed[direction], len(self._streams[direction])
        self._passed[direction] = min(up_to + self._unseen[direction], there)
        if self._passed[direction] > before:
            data = bytes(self._streams[direction][before : self._passed[direction]])
            self._conversation.transcript.became(f"{DIRECTION_NAMES[direction]} passes {shown(data)}")
        if up_to >= FLOW_BYTES_MAX and not self._free[direction]:
            self._free[direction] = True
            if all(self._free.values()):
                self.state = "allowed"
                self._conversation.transcript.became("allowed")

    def held_again(self, direction: Direction) -> None:
        """A direction that passed freely is held from now on."""
        self._free[direction], self.state = False, "open"
        self._unseen[direction] = len(self._streams[direction]) - self.machine.given(direction)

    def dropped(self, silent: bool) -> None:
        """The flow ends."""
        was_open = self.state in ("open", "allowed")
        self.state, self.is_silent = "dropped", silent
        self._conversation.transcript.became("silently dropped" if silent else "reset" if was_open else "refused")
