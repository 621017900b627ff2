"""The stage that every new flow passes before proxies and kernel get it: filters are asked, answers carried out.

A datapath (the host's, the sandbox's) describes each flow as a `FilteredFlow` and hands it in with `admit`; what is to
be done with it comes back as calls of its `filter_…` methods. What happens between, who is asked in which order and
what the answers mean, is decided by `core/filter_decision.FlowFilter`, one for each flow; this file carries its steps
out, and brings it answers, bytes and time.

    datapath ── admit, received, ended, closed ──▶ FilterStage ══▶ FlowFilter ── steps ──▶ links, or the datapath
    filter   ── answers ──▶ FilterLink ── answered ──▶ FilterStage

Steps are carried out one after the other, never inside each other: a datapath may call back from within its methods.

A flow of which nobody wants to hear again is forgotten at once: `flow.filter` is None from then on, and the stage holds
no reference. Only flows that wait, that are shown, or that filters want reports of cost memory.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar
from typing import Protocol as Interface

from ..core.filter_decision import (
    AppendString,
    AskComplete,
    AskControl,
    AskData,
    AskNewFlow,
    Drop,
    FilterLimits,
    FilterMisuse,
    FilterSlot,
    FlowFilter,
    Hold,
    Open,
    Pass,
    Remediate,
    Report,
    Step,
)
from ..core.filter_rule_matching import FilterRuleMatcher
from ..core.flow_decision import Policy, ProviderState, Trouble
from ..core.rule_matching import FlowFacts
from ..filter_verdicts import FilterAction, FilterControlVerdict, FilterReportEvent, FilterVerdict
from ..linux.reactor import Reactor, Timer
from ..metadata import ProcessInfo
from ..rules import Direction, Protocol
from . import filter_wire
from .channel import Channel
from .filter_hello import FilterHello
from .filter_link import FilterLink
from .filter_wire import Answer
from .intercepted import TCP, UDP, FlowKey
from .packet_link import PacketFilterLink, PacketFilters

try:
    from ..core.name_sniffing import NameSniffer
except ImportError:  # until it is there
    NameSniffer = None

DATA, CONTROL, PACKET = "filter-data", "filter-control", "filter-packet"
_RULE_PROTOCOL = {TCP: Protocol.TCP, UDP: Protocol.UDP}
_UPDATES = {
    filter_wire.UPDATE_ANY: Direction.ANY,
    filter_wire.UPDATE_IN: Direction.INBOUND,
    filter_wire.UPDATE_OUT: Direction.OUTBOUND,
}
_NEVER = float("inf")


class FilteredFlow(Interface):
    """One flow, as a datapath gives it. All attributes can be set; ends are as seen from this machine's program."""

    id: int
    key: FlowKey
    """(protocol, source, port, destination, port), as the first packet has them: from who began the flow."""
    protocol_number: int
    direction: Direction
    """OUTBOUND: a program of this machine began it."""
    host: str | None
    name_source: str | None
    url: str | None
    interface: str | None
    process: ProcessInfo | None
    filter: FlowFilter | None
    """The stage's; None before `admit`, and again when the stage has forgotten the flow."""
    by: str
    reason: str

    @property
    def local(self) -> tuple[str, int]:
        """The program's end."""

    @property
    def remote(self) -> tuple[str, int]:
        """The far end."""

    def filter_open(self, hold_inbound: bool, hold_outbound: bool) -> None:
        """Let the first packet go. A direction that is held gives its bytes to `FilterStage.received`, and keeps
        them; (False, False) is final unless `filter_hold` or `filter_drop` comes later."""

    def filter_pass(self, direction: Direction, up_to: int) -> None:
        """Bytes [0, up_to) of the direction may move; from FLOW_BYTES_MAX on it is not held any more."""

    def filter_hold(self, direction: Direction) -> None:
        """A direction that passed freely is held from now on."""

    def filter_drop(self, silent: bool, page: bytes | None) -> None:
        """End the flow: refuse it to the program, or say nothing. `page` is an HTTP response for the program."""

    def filter_counts(self) -> tuple[int, int]:
        """Bytes in and out so far."""


class Place:
    """The slot of a control provider, which is asked for no flows of its own."""

    __slots__ = ("index", "kind", "name", "policy", "state")

    def __init__(self, index: int, name: str, kind: str, policy: Policy | None = None) -> None:
        self.index, self.name, self.kind, self.policy = index, name, kind, policy or Policy.OPEN
        self.state = ProviderState.STARTING


class _Watch:
    """What the stage keeps of a flow beside its FlowFilter."""

    __slots__ = ("armed", "control", "decided", "flow", "host", "key", "sniffer", "statistics")

    def __init__(self, flow: FilteredFlow) -> None:
        self.flow = flow
        self.key, self.host = flow.key, flow.host
        self.armed = _NEVER
        """The earliest time in the stage's heap at which this flow is looked at."""
        self.decided = False
        self.control: int | None = None
        """The index of the filter that needs rules, while a control provider is asked."""
        self.sniffer: Any = None
        self.statistics: dict[int, float] | None = None


class FilterStage:
    """All filters of a run. `deadline` is what a filter has for an answer, in seconds."""

    def __init__(self, reactor: Reactor, *, deadline: float, policy: Policy | None, log: Callable[..., None]) -> None:
        self._reactor, self._policy, self._log = reactor, policy, log
        self._limits = FilterLimits(deadline=deadline)
        self.decided: Callable[[Any], None] = lambda flow: None
        """Called once for each flow when what becomes of it is final; `flow.by` and `flow.reason` are set."""
        self._slots: dict[int, FilterSlot | Place] = {}
        self._order: tuple[FilterSlot, ...] = ()
        self._links: dict[int, FilterLink] = {}
        self._callbacks: dict[int, tuple[Callable[..., None], Callable[..., None]]] = {}
        self._flows: dict[int, _Watch] = {}
        self._steps: deque[tuple[FilteredFlow, Step]] = deque()
        self._touched: dict[int, FilteredFlow] = {}
        self._over: set[int] = set()
        self._stepping = False
        self._times: list[tuple[float, int]] = []
        self._timer: Timer | None = None
        self._timer_at = _NEVER
        self.packets = PacketFilters(reactor, deadline=deadline, policy=policy)
        """The packet filters of the run: `packets.decide(…)`; false where there are none."""
        reactor.after_each_batch(self.flush)

    # Filters come and go

    @property
    def has_filters(self) -> bool:
        """Whether any provider that decides flows belongs to the run, in whatever state."""
        return bool(self._order)

    def expect(self, index: int, name: str, kind: str) -> FilterSlot | Place | PacketFilterLink:
        """A provider of this kind belongs to the run; until it is attached its flows get what STARTING gets."""
        if kind == PACKET:
            return self.packets.expect(index, name)
        slot = self._slots.get(index)
        if slot is None or slot.kind != kind:
            slot = (
                FilterSlot(index, name, policy=self._policy) if kind == DATA else Place(index, name, kind, self._policy)
            )
            self._slots[index] = slot
        slot.name, slot.state = name or slot.name, ProviderState.STARTING
        self._sort()
        return slot

    def attach(
        self,
        index: int,
        name: str,
        kind: str,
        channel: Channel,
        pid: int = 0,
        lost: Callable[[FilterLink, str], None] = lambda link, why: None,
        running: Callable[[FilterLink], None] = lambda link: None,
    ) -> FilterLink:
        """A filter's process has a channel: `running(link)` when it has greeted, `lost(link, why)` at its end."""
        if (old := self._links.get(index)) is not None:
            old.end("its process was replaced")
        slot = self.expect(index, name, kind)
        if isinstance(slot, PacketFilterLink):
            return slot.attach(channel, pid, lost, running)
        link = FilterLink(self._reactor, self, slot, kind, channel, pid)
        self._links[index], self._callbacks[index] = link, (lost, running)
        return link

    def set_state(self, index: int, state: ProviderState) -> None:
        """What the supervisor says about a filter's process."""
        slot = self._slots.get(index) or self.packets.get(index)
        if slot is not None:
            slot.state = state

    def forget(self, index: int) -> None:
        """The provider does not belong to the run any more."""
        self.packets.forget(index)
        if (link := self._links.get(index)) is not None:
            link.end("it was removed")
        self._slots.pop(index, None)
        self._sort()

    def flush(self) -> None:
        """Send what was collected for the filters; happens after each batch of events by itself."""
        for link in list(self._links.values()):
            link.flush()
        self.packets.flush()

    def _sort(self) -> None:
        """Every firewall before any inspector, in the order of the run within each. Flows keep the order they got."""
        data = [slot for slot in self._slots.values() if isinstance(slot, FilterSlot)]
        self._order = tuple(sorted(data, key=lambda slot: (slot.grade, slot.index)))

    # What links say

    def greeted(self, link: FilterLink, hello: FilterHello) -> None:
        """HELLO: grade and settings hold for every flow from now on."""
        slot = self._slots.get(link.slot.index)
        if slot is None or slot is not link.slot:
            return
        if isinstance(slot, FilterSlot):
            slot.grade = hello.grade
            slot.matcher = FilterRuleMatcher(hello.settings) if hello.settings is not None else None
            self._sort()
        if slot.state is ProviderState.STARTING:
            slot.state = ProviderState.RUNNING
            self._callbacks[slot.index][1](link)

    def link_ended(self, link: FilterLink, flows: list[FilteredFlow], why: str) -> None:
        """Its policy decides what waits for it."""
        index = link.slot.index
        lost = self._callbacks[index][0]
        if self._links.get(index) is link:  # else the provider is back on another link
            del self._links[index]
            self._slots[index].state = ProviderState.DEAD
        lost(link, why)
        for flow in flows:
            self._troubled(link, flow, Trouble.DEAD, why)

    def answered(self, link: FilterLink, answer: Answer, flow: FilteredFlow | None) -> None:
        """An answer, about a flow that the filter has, or about none."""
        if flow is not None and flow.filter is not None:
            handler = self._ANSWERS.get(answer.op)
            if handler is not None and link.kind == _KIND_OF.get(answer.op, link.kind):
                try:
                    handler(self, link, answer, flow, flow.filter)
                except FilterMisuse:
                    pass  # it crossed a deadline, or a change of the flow's state, on its way
        elif answer.op == filter_wire.NOTIFY_RULES and link.kind == CONTROL:
            self._rules_changed()

    # What the datapath says

    def admit(self, flow: FilteredFlow) -> None:
        """A new flow: `filter_open` or `filter_drop` follows, at once where nobody need be asked."""
        if not self._order:
            flow.filter_open(False, False)
            return
        number = flow.protocol_number
        flow.filter = FlowFilter(
            self._order, _facts(flow), is_datagram=number != TCP, protocol=number, limits=self._limits
        )
        self._flows[flow.id] = _Watch(flow)
        self._carry_out(flow, flow.filter.start(self._reactor.clock()))

    def received(self, flow: FilteredFlow, direction: Direction, data: bytes) -> None:
        """The next bytes of a held direction (UDP: one datagram); the datapath keeps them until `filter_pass`."""
        if flow.filter is None:
            return
        watch = self._flows[flow.id]
        if direction is Direction.OUTBOUND and flow.direction is Direction.OUTBOUND and watch.sniffer is not False:
            self._sniff(watch, data)
        if flow.host != watch.host or flow.key is not watch.key:
            self._tell_about(watch)
        self._carry_out(flow, flow.filter.received(direction, data, self._reactor.clock()))

    def ended(self, flow: FilteredFlow, direction: Direction) -> None:
        """A direction's end, behind all of its bytes."""
        if flow.filter is not None:
            self._carry_out(flow, flow.filter.ended(direction, self._reactor.clock()))

    def closed(self, flow: FilteredFlow) -> None:
        """The flow is over, in whatever way. Harmless for one that was forgotten."""
        if flow.filter is not None:
            self._carry_out(flow, flow.filter.closed(self._reactor.clock()), over=True)

    # Steps

    def _carry_out(self, flow: FilteredFlow, steps: list[Step], over: bool = False) -> None:
        """Do what is to be done with a flow, after all that is being done; then see what has become of it."""
        queue, touched = self._steps, self._touched
        for step in steps:
            queue.append((flow, step))
        touched[flow.id] = flow
        if over:
            self._over.add(flow.id)
        if self._stepping:
            return
        self._stepping = True
        try:
            while True:
                if queue:
                    self._step(*queue.popleft())
                elif touched:
                    self._settle(touched.popitem()[1])
                else:
                    return
        finally:
            self._stepping = False

    def _step(self, flow: FilteredFlow, step: Step) -> None:
        if flow.filter is None:
            return  # forgotten by an earlier step
        try:
            self._STEPS[type(step)](self, flow, flow.filter, step)
        except Exception as error:
            self._reactor.guard(partial(_raise, error))

    def _ask_new_flow(self, flow: FilteredFlow, decision: FlowFilter, step: AskNewFlow) -> None:
        link = self._links.get(step.index)
        if link is None:
            self._trouble(flow, step.index, Trouble.DEAD, "")
        elif not link.has_room:
            self._trouble(flow, step.index, Trouble.QUEUE_FULL, "")
        else:
            link.show(filter_wire.NEW, flow)

    def _ask_data(self, flow: FilteredFlow, decision: FlowFilter, step: AskData) -> None:
        link = self._links.get(step.index)
        if link is None or flow.id not in link.flows:
            self._trouble(flow, step.index, Trouble.DEAD, "")
        else:
            link.data(flow, step.direction, step.offset, step.data)

    def _ask_complete(self, flow: FilteredFlow, decision: FlowFilter, step: AskComplete) -> None:
        link = self._links.get(step.index)
        if link is None or flow.id not in link.flows:
            self._trouble(flow, step.index, Trouble.DEAD, "")
        else:
            link.complete(flow, step.direction)

    def _open(self, flow: FilteredFlow, decision: FlowFilter, step: Open) -> None:
        flow.by, flow.reason = decision.by, decision.reason
        flow.filter_open(step.hold_inbound, step.hold_outbound)

    def _pass(self, flow: FilteredFlow, decision: FlowFilter, step: Pass) -> None:
        flow.filter_pass(step.direction, step.up_to)

    def _hold(self, flow: FilteredFlow, decision: FlowFilter, step: Hold) -> None:
        flow.filter_hold(step.direction)

    def _drop(self, flow: FilteredFlow, decision: FlowFilter, step: Drop) -> None:
        flow.by, flow.reason = step.by, step.reason
        flow.filter_drop(step.silent, None)

    def _remediate(self, flow: FilteredFlow, decision: FlowFilter, step: Remediate) -> None:
        flow.by, flow.reason = step.by, decision.reason
        flow.filter_drop(False, None)

    def _append_string(self, flow: FilteredFlow, decision: FlowFilter, step: AppendString) -> None:
        flow.by, flow.reason = step.by, decision.reason
        flow.filter_drop(False, None)

    def _report(self, flow: FilteredFlow, decision: FlowFilter, step: Report) -> None:
        link = self._links.get(step.index)
        if link is not None and flow.id in link.flows:
            counts = flow.filter_counts() if step.event is FilterReportEvent.FLOW_CLOSED else (0, 0)
            link.report(flow, step.action, step.event, counts)

    def _trouble(self, flow: FilteredFlow, index: int, trouble: Trouble, detail: str) -> None:
        """The filter gives no answer: what its policy says."""
        assert flow.filter is not None
        self._carry_out(flow, flow.filter.trouble(index, trouble, detail, self._reactor.clock()))
        if (link := self._links.get(index)) is not None:
            link.gone(flow.id)

    # Answers

    def _new_answered(self, link: FilterLink, answer: Answer, flow: FilteredFlow, decision: FlowFilter) -> None:
        now = self._reactor.clock()
        self._carry_out(flow, decision.answer_new_flow(link.slot.index, _verdict(answer), now))

    def _data_answered(self, link: FilterLink, answer: Answer, flow: FilteredFlow, decision: FlowFilter) -> None:
        direction = Direction.OUTBOUND if answer.op == filter_wire.DATA_OUT else Direction.INBOUND
        now = self._reactor.clock()
        self._carry_out(flow, decision.answer_data(link.slot.index, direction, _verdict(answer), now))

    def _complete_answered(self, link: FilterLink, answer: Answer, flow: FilteredFlow, decision: FlowFilter) -> None:
        direction = Direction.OUTBOUND if answer.op == filter_wire.COMPLETE_OUT else Direction.INBOUND
        now = self._reactor.clock()
        self._carry_out(flow, decision.answer_complete(link.slot.index, direction, _verdict(answer), now))

    def _resumed(self, link: FilterLink, answer: Answer, flow: FilteredFlow, decision: FlowFilter) -> None:
        now = self._reactor.clock()
        self._carry_out(flow, decision.resume(link.slot.index, _verdict(answer), now))

    def _updated(self, link: FilterLink, answer: Answer, flow: FilteredFlow, decision: FlowFilter) -> None:
        now, direction = self._reactor.clock(), _UPDATES[answer.op]
        self._carry_out(flow, decision.update(link.slot.index, _verdict(answer), direction, now))

    def _failed(self, link: FilterLink, answer: Answer, flow: FilteredFlow, decision: FlowFilter) -> None:
        self._troubled(link, flow, Trouble.RAISED, answer.text)

    def _troubled(self, link: FilterLink, flow: FilteredFlow, trouble: Trouble, detail: str) -> None:
        """A data provider's own trouble is its policy's business, a control provider's that of who asked."""
        if flow.filter is None:
            return
        if link.kind == CONTROL:
            words = f"control provider {link.slot.name} {trouble.value}"
            self._control_failed(flow, f"{words} ({detail})" if detail else words)
        else:
            self._trouble(flow, link.slot.index, trouble, detail)

    # Control providers

    def _ask_control(self, flow: FilteredFlow, decision: FlowFilter, step: AskControl) -> None:
        watch = self._flows[flow.id]
        watch.control = step.index
        link = self._nearest_control(step.index)
        if link is None:
            self._control_failed(flow, "it needs rules, and no control provider is running")
        elif not link.has_room:
            self._control_failed(flow, f"control provider {link.slot.name} {Trouble.QUEUE_FULL.value}")
        else:
            link.show(filter_wire.CONTROL, flow)

    def _nearest_control(self, index: int) -> FilterLink | None:
        """The control provider next to a filter in the order of the run, the one behind it where two are as near."""
        found = [link for link in self._links.values() if link.kind == CONTROL and link.hello is not None]
        return min(found, key=lambda link: (abs(link.slot.index - index), -link.slot.index), default=None)

    def _control_answered(self, link: FilterLink, answer: Answer, flow: FilteredFlow, decision: FlowFilter) -> None:
        watch = self._flows[flow.id]
        index, watch.control = watch.control, None
        if index is None:
            return
        verdict = _verdict(answer)
        if verdict.update_rules:
            self._rules_changed()
        self._carry_out(flow, decision.control_answer(index, verdict, self._reactor.clock()))

    def _control_failed(self, flow: FilteredFlow, why: str) -> None:
        """Nobody knows rules for the flow: it is dropped."""
        watch = self._flows.get(flow.id)
        if watch is None or watch.control is None or flow.filter is None:
            return
        index, watch.control = watch.control, None
        steps = flow.filter.control_answer(index, FilterControlVerdict.drop(), self._reactor.clock())
        self._carry_out(flow, [step._replace(reason=why) if isinstance(step, Drop) else step for step in steps])

    def _rules_changed(self) -> None:
        """Before any flow is asked about again, the data providers hear that there are new rules."""
        for link in self._links.values():
            if link.kind == DATA:
                link.rules_changed()

    # Time, and the end

    def _settle(self, flow: FilteredFlow) -> None:
        """After each round of steps: is it final, who wants to hear more, and when is it looked at again?"""
        decision, watch = flow.filter, self._flows.get(flow.id)
        if decision is None or watch is None:
            return
        over = flow.id in self._over
        if decision.is_final:
            if not watch.decided:
                self._tell_decided(watch, decision)
            over = over or not decision.wants_reports
        if over:
            self._over.discard(flow.id)
            self._forget(flow)
            return
        deadline = decision.next_deadline
        due = _NEVER if deadline is None else deadline
        if decision.wants_reports:
            due = min(due, self._statistics_due(watch, decision))
        if due < watch.armed:
            self._arm(watch, due)

    def _tell_decided(self, watch: _Watch, decision: FlowFilter) -> None:
        watch.decided = True
        watch.flow.by, watch.flow.reason = decision.by, decision.reason
        try:
            self.decided(watch.flow)
        except Exception as error:
            self._reactor.guard(partial(_raise, error))

    def _forget(self, flow: FilteredFlow) -> None:
        flow.filter = None
        self._flows.pop(flow.id, None)
        for link in self._links.values():
            link.gone(flow.id)

    def _arm(self, watch: _Watch, due: float) -> None:
        """Look at a flow then. A look that has become needless finds nothing to do."""
        watch.armed = due
        heapq.heappush(self._times, (due, watch.flow.id))
        if due < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = due
            self._timer = self._reactor.call_later(max(0.0, due - self._reactor.clock()), self._time)

    def _time(self) -> None:
        now, times = self._reactor.clock(), self._times
        self._timer, self._timer_at = None, _NEVER
        while times and times[0][0] <= now:
            due, number = heapq.heappop(times)
            watch = self._flows.get(number)
            if watch is not None and watch.armed == due and watch.flow.filter is not None:
                watch.armed = _NEVER
                self._look(watch, watch.flow.filter, now)
        while times and times[0][1] not in self._flows:
            heapq.heappop(times)
        if times and times[0][0] < self._timer_at:
            self._timer_at = times[0][0]
            self._timer = self._reactor.call_later(max(0.0, self._timer_at - now), self._time)

    def _look(self, watch: _Watch, decision: FlowFilter, now: float) -> None:
        if watch.statistics:
            self._report_statistics(watch, decision, now)
        deadline = decision.next_deadline
        self._carry_out(watch.flow, decision.tick(now) if deadline is not None and deadline <= now else [])

    def _statistics_due(self, watch: _Watch, decision: FlowFilter) -> float:
        """When the next byte counts are to be told."""
        known = watch.statistics = {} if watch.statistics is None else watch.statistics
        for index, frequency in decision.statistics:
            if index not in known:
                known[index] = self._reactor.clock() + frequency.seconds
        return min(known.values(), default=_NEVER)

    def _report_statistics(self, watch: _Watch, decision: FlowFilter, now: float) -> None:
        assert watch.statistics is not None
        flow, wanted = watch.flow, dict(decision.statistics)
        for index, due in list(watch.statistics.items()):
            link = self._links.get(index)
            if index not in wanted or link is None:
                del watch.statistics[index]
            elif due <= now:
                watch.statistics[index] = now + wanted[index].seconds
                if flow.id in link.flows:
                    action = FilterAction.ALLOW if decision.is_final else FilterAction.FILTER_DATA
                    link.report(flow, action, FilterReportEvent.STATISTICS, flow.filter_counts())

    # Names

    def _sniff(self, watch: _Watch, data: bytes) -> None:
        """What the first bytes tell of the flow's name."""
        flow = watch.flow
        if NameSniffer is None:
            return
        if watch.sniffer is None:
            watch.sniffer = NameSniffer(flow.protocol_number, flow.remote[1])
        found = watch.sniffer.feed(data)
        if found is not None:
            if found.host and (found.source != "tls-ech-outer" or flow.host is None):
                flow.host, flow.name_source = found.host, found.source
            if found.url:
                flow.url = found.url
            self._tell_about(watch)
        if watch.sniffer.done:
            watch.sniffer = False

    def _tell_about(self, watch: _Watch) -> None:
        """Filters that have the flow learn what is known now, before they are shown its bytes."""
        flow = watch.flow
        watch.key, watch.host = flow.key, flow.host
        for link in self._links.values():
            if flow.id in link.flows:
                link.about(flow)

    _STEPS: ClassVar[dict[type, Callable[..., None]]] = {
        AskNewFlow: _ask_new_flow,
        AskData: _ask_data,
        AskComplete: _ask_complete,
        AskControl: _ask_control,
        Open: _open,
        Pass: _pass,
        Hold: _hold,
        Drop: _drop,
        Remediate: _remediate,
        AppendString: _append_string,
        Report: _report,
    }
    _ANSWERS: ClassVar[dict[int, Callable[..., None]]] = {
        filter_wire.NEW: _new_answered,
        filter_wire.DATA_OUT: _data_answered,
        filter_wire.DATA_IN: _data_answered,
        filter_wire.COMPLETE_OUT: _complete_answered,
        filter_wire.COMPLETE_IN: _complete_answered,
        filter_wire.RESUME: _resumed,
        filter_wire.UPDATE_ANY: _updated,
        filter_wire.UPDATE_IN: _updated,
        filter_wire.UPDATE_OUT: _updated,
        filter_wire.FAIL: _failed,
        filter_wire.CONTROL: _control_answered,
    }


_KIND_OF = dict.fromkeys((filter_wire.CONTROL, filter_wire.CONTROL_REMEDIATION), CONTROL)
"""Whose answers these are; all others may come from any filter, and FAIL too."""


def _facts(flow: FilteredFlow) -> FlowFacts:
    protocol, source, port, destination, remote_port = flow.key
    if flow.direction is Direction.INBOUND:
        source, port, destination, remote_port = destination, remote_port, source, port
    return FlowFacts(
        _RULE_PROTOCOL.get(protocol, Protocol.ANY),
        destination,
        remote_port,
        flow.host,
        flow.interface == "lo",
        flow.direction,
        source,
        port,
    )


def _verdict(answer: Answer) -> FilterVerdict:
    assert answer.verdict is not None
    return answer.verdict


def _raise(error: Exception) -> None:
    raise error
