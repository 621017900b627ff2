"""The engine's end of one filter's channel: questions go out in batches, answers come in.

What a provider process sends is not trusted: an answer about a flow that it does not have is dropped, a malformed one
ends the channel, and with it the filter's turn (the supervisor restarts it).

A link holds a flow for as long as the filter does, by the same rule on both ends: from the first question until the
filter allowed or dropped the new flow without asking for reports, until it failed, or until GONE tells it the end.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from ..linux.reactor import READ, WRITE, Reactor
from ..metadata import ProcessInfo
from ..rules import Direction
from . import filter_wire
from .channel import MAX_QUEUED_BYTES, Channel
from .filter_hello import FilterHello, unpack_filter_hello
from .filter_wire import Answer, ends_new_flow, is_answers, pack_events, unpack_answers, wants_reports
from .wire import MessageType, WireError, decode

if TYPE_CHECKING:
    from .filtered_flow import FilteredFlow

MOST_FLOWS = 65536
"""Flows that one filter has at a time: waiting, paused, shown data or reported."""
MOST_PROCESSES = 4096
_CONTROL = (filter_wire.CONTROL, filter_wire.CONTROL_REMEDIATION)


class LinkSlot(Protocol):
    """What a link knows of its provider (core's FilterSlot is one)."""

    index: int
    name: str


class LinkOwner(Protocol):
    """Whom a link tells."""

    def greeted(self, link: FilterLink, hello: FilterHello) -> None:
        """The filter says who it is; again whenever its settings change."""

    def answered(self, link: FilterLink, answer: Answer, flow: FilteredFlow | None) -> None:
        """The filter has said something, about a flow that it has."""

    def link_ended(self, link: FilterLink, flows: list[FilteredFlow], why: str) -> None:
        """The filter is gone, and had these flows."""


class FilterLink:
    """Talks with one filter's process until its channel ends."""

    def __init__(
        self, reactor: Reactor, owner: LinkOwner, slot: LinkSlot, kind: str, channel: Channel, pid: int = 0
    ) -> None:
        self._reactor, self._owner, self.slot, self.kind, self._channel, self.pid = (
            reactor, owner, slot, kind, channel, pid,
        )  # fmt: skip
        self.flows: dict[int, FilteredFlow] = {}
        self.hello: FilterHello | None = None
        self._events: list[tuple[Any, ...]] = []
        self._processes: dict[tuple[int, int], tuple[int, ProcessInfo]] = {}
        self._watched = READ
        self._descriptor = channel.fileno()
        reactor.register(self._descriptor, READ, self._event)

    @property
    def is_up(self) -> bool:
        """Whether the filter can be asked."""
        return self._descriptor >= 0

    @property
    def has_room(self) -> bool:
        """Whether one more flow can be shown; a filter that does not keep up has no room left."""
        return len(self.flows) < MOST_FLOWS and self._channel.queued_bytes < MAX_QUEUED_BYTES // 2

    # To the filter

    def show(self, op: int, flow: FilteredFlow) -> None:
        """Ask about a flow that the filter need not know: NEW, REMEDIATION, CONTROL, CONTROL_REMEDIATION."""
        self.flows[flow.id] = flow
        process = flow.process
        local, remote = flow.local, flow.remote
        self._events.append(
            (
                op,
                flow.id,
                int(flow.protocol_number),
                int(flow.direction),
                2 if len(flow.key[1]) == 4 else 10,  # AF_INET, AF_INET6
                local[0],
                local[1],
                remote[0],
                remote[1],
                flow.host,
                flow.name_source,
                flow.url,
                flow.interface,
                0 if process is None else self._process_key(process),
            )
        )

    def data(self, flow: FilteredFlow, direction: Direction, offset: int, data: bytes) -> None:
        """Show bytes."""
        op = filter_wire.DATA_OUT if direction is Direction.OUTBOUND else filter_wire.DATA_IN
        self._events.append((op, flow.id, offset, data))

    def complete(self, flow: FilteredFlow, direction: Direction) -> None:
        """A direction has ended."""
        op = filter_wire.COMPLETE_OUT if direction is Direction.OUTBOUND else filter_wire.COMPLETE_IN
        self._events.append((op, flow.id))

    def about(self, flow: FilteredFlow) -> None:
        """Names and remote endpoint as they are known now."""
        remote = flow.remote
        self._events.append((filter_wire.ABOUT, flow.id, flow.host, flow.name_source, flow.url, remote[0], remote[1]))

    def report(self, flow: FilteredFlow, action: int, event: int, counts: tuple[int, int]) -> None:
        """What became of the flow."""
        self._events.append((filter_wire.REPORT, flow.id, int(action), int(event), *counts))

    def gone(self, number: int, allowed: bool) -> None:
        """The filter has nothing more to do with the flow, which goes on if it is allowed."""
        if self.flows.pop(number, None) is not None:
            self._events.append((filter_wire.GONE, number, allowed))

    def rules_changed(self) -> None:
        """The control provider has new rules."""
        self._events.append((filter_wire.RULES_CHANGED, 0))

    def packet(self, number: int, interface: str, direction: Direction, data: bytes) -> None:
        """Show a packet (packet providers)."""
        self._events.append((filter_wire.PACKET, number, interface, int(direction), data))

    def flush(self) -> None:
        """Send what was collected."""
        if not self._events:
            return
        events, self._events = self._events, []
        if self._descriptor < 0:
            return
        try:
            for packet in pack_events(events):
                self._channel.send_packet(packet)
        except (WireError, OSError) as error:
            self.end(f"it does not read its messages: {error}")
            return
        if self._channel.wants_write:
            self._watch()

    def end(self, why: str) -> None:
        """The filter is gone: its flows are the owner's again. May be called twice."""
        if self._descriptor < 0:
            return
        self._reactor.unregister(self._descriptor)
        self._descriptor = -1
        self._channel.close()
        flows, self.flows = list(self.flows.values()), {}
        self._events.clear()
        self._owner.link_ended(self, flows, why)

    def _process_key(self, process: ProcessInfo) -> int:
        """The number by which the filter knows the process; tells it first where it is new."""
        name = process.pid, process.start_time
        known = self._processes.get(name)
        if known is not None and (known[1] is process or known[1] == process):
            return known[0]
        if known is None and len(self._processes) >= MOST_PROCESSES:
            self._processes.clear()
        key = known[0] if known is not None else len(self._processes) + 1
        self._processes[name] = key, process
        parents = [tuple(parent) for parent in process.parents]
        self._events.append(
            (filter_wire.PROCESS, key, process.pid, process.start_time, process.uid, process.executable,
             tuple(process.arguments), parents)
        )  # fmt: skip
        return key

    # From the filter

    def _watch(self) -> None:
        events = READ | WRITE if self._channel.wants_write else READ
        if events != self._watched:
            self._watched = events
            self._reactor.modify(self._descriptor, events)

    def _event(self, events: int) -> None:
        if events & WRITE:
            self._channel.flush()
            self._watch()
        try:
            packets = self._channel.receive_packets()
        except WireError as error:
            self.end(f"it sent what is not a message: {error}")
            return
        for packet, descriptors in packets:
            if self._descriptor >= 0:  # what comes after the packet that ended the link is dropped
                self._packet(packet, descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
        if self._channel.eof and not packets:
            self.end("its process ended")

    def _packet(self, packet: bytes, descriptors: list[int]) -> None:
        try:
            if not is_answers(packet):
                self._message(packet, descriptors)
                return
            answers = list(unpack_answers(packet))
        except WireError as error:
            self.end(f"it sent what is not a message: {error}")
            return
        owner, flows = self._owner, self.flows
        for answer in answers:
            if _is_the_last(answer):
                flow = flows.pop(answer.number, None)
            else:
                flow = flows.get(answer.number)
            try:
                owner.answered(self, answer, flow)
            except Exception as error:
                self._reactor.guard(partial(_raise, error))
            if self._descriptor < 0:
                return

    def _message(self, packet: bytes, descriptors: list[int]) -> None:
        kind, _, body = decode(packet)
        if kind is not MessageType.HELLO:
            return
        try:
            hello = unpack_filter_hello(body, descriptors)
        except WireError as error:
            self.end(f"its settings were not understood: {error}")
            return
        self.hello = hello
        self._owner.greeted(self, hello)
        try:
            self._channel.send(MessageType.SETTINGS_HELD, 0, {"serial": hello.serial})
        except (WireError, OSError) as error:
            self.end(f"it does not read its messages: {error}")
            return
        self._watch()


def _is_the_last(answer: Answer) -> bool:
    """Whether the filter has forgotten the flow with this answer."""
    op, verdict = answer.op, answer.verdict
    if op == filter_wire.NEW:
        return verdict is not None and ends_new_flow(verdict)
    if op in _CONTROL:
        return verdict is None or not wants_reports(verdict)
    return op == filter_wire.FAIL


def _raise(error: Exception) -> None:
    raise error
