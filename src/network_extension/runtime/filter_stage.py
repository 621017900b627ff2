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

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from ..core.filter_decision import (
    AppendString,
    AskComplete,
    AskControl,
    AskData,
    AskNewFlow,
    Drop,
    FilterLimits,
    FilterMisuse,
    FlowFilter,
    Hold,
    Open,
    Pass,
    Remediate,
    Report,
    Step,
)
from ..core.flow_decision import Policy, Trouble
from ..core.packet_heads import address_bytes
from ..core.rule_matching import FlowFacts
from ..filter_verdicts import (
    FilterAction,
    FilterReportEvent,
    FilterVerdict,
    VerdictKind,
)
from ..linux.reactor import Reactor
from ..rules import Direction, Protocol
from . import filter_wire
from .filter_link import FilterLink
from .filter_remediation import HOLD_ALL, LONGEST_STAND_IN, Remediation, StandIn, asks_for_page, is_appended
from .filter_roster import CONTROL, DATA, PACKET, FilterRoster
from .filter_times import FlowTimes
from .filter_wire import Answer, ForgottenFlow, forgotten_flow, wants_reports
from .filtered_flow import NEVER, Access, FilteredFlow, FlowWatch
from .intercepted import TCP, UDP, FlowKey
from .wire import WireError

__all__ = ["CONTROL", "DATA", "PACKET", "FilterStage", "FilteredFlow"]

SHORTEST_LOOK = 0.001
"""Seconds between two looks at a flow, whatever its clock says."""
BETWEEN_LINES = 5.0
"""Seconds without trouble after which new trouble of the same kind is told."""
OUTBOUND, INBOUND = Direction.OUTBOUND, Direction.INBOUND
_RULE_PROTOCOL = {TCP: Protocol.TCP, UDP: Protocol.UDP}
_UPDATES = {
    filter_wire.UPDATE_ANY: Direction.ANY,
    filter_wire.UPDATE_IN: INBOUND,
    filter_wire.UPDATE_OUT: OUTBOUND,
}
_OF_CONTROL = (filter_wire.CONTROL, filter_wire.CONTROL_REMEDIATION)
_ALLOW, _DROP = FilterVerdict(VerdictKind.ALLOW), FilterVerdict(VerdictKind.DROP)


class FilterStage(FilterRoster):
    """All filters of a run, and the flows that they are asked about. `deadline` is what a filter has for an answer."""

    def __init__(self, reactor: Reactor, *, deadline: float, policy: Policy | None, log: Callable[..., None]) -> None:
        super().__init__(reactor, deadline=deadline, policy=policy)
        self._log = log
        self._limits = FilterLimits(deadline=deadline)
        self._longest_stand_in = min(LONGEST_STAND_IN, deadline / 2)
        self.decided: Callable[[Any], None] = lambda flow: None
        """Called once for each flow when what becomes of it is final; `flow.by` and `flow.reason` are set."""
        self.update_forgotten: Callable[[FlowKey, FilterVerdict, Direction], bool] = lambda key, verdict, way: False
        """The datapath's: a filter changes its verdict (allow, drop, data) about a flow that was allowed for good, and
        that the stage keeps no more. Returns whether there is such a flow. `key` is from who began it."""
        self._flows: dict[int, FlowWatch] = {}
        self._times = FlowTimes(reactor, self._flows, self._look)
        self._steps: deque[tuple[FilteredFlow, Step]] = deque()
        self._touched: dict[int, FilteredFlow] = {}
        self._over: set[int] = set()
        self._stepping = False
        self._said_full: dict[int, float] = {}
        self._remediation = Remediation()

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
        self._flows[flow.id] = FlowWatch(flow)
        self._carry_out(flow, flow.filter.start(self._reactor.clock()))

    def received(self, flow: FilteredFlow, direction: Direction, data: bytes) -> None:
        """The next bytes of a held direction (UDP: one datagram); the datapath keeps them until `filter_pass`."""
        if flow.filter is None:
            return
        watch = self._flows[flow.id]
        if not watch.sniffed and direction is OUTBOUND and flow.direction is OUTBOUND:
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
            self._say_full(link)
            self._trouble(flow, step.index, Trouble.QUEUE_FULL, "")
        else:
            link.show(filter_wire.NEW, flow)

    def _ask_data(self, flow: FilteredFlow, decision: FlowFilter, step: AskData) -> None:
        watch, link = self._flows[flow.id], self._links.get(step.index)
        if link is None or flow.id not in link.flows:
            self._trouble(flow, step.index, Trouble.DEAD, "")
        elif watch.access is Access.NONE and self._remediation.is_request(flow.url, step.index):
            watch.access = Access.ASKED
            link.show(filter_wire.REMEDIATION, flow)
        elif watch.stand_in is not None and watch.stand_in.slot == step.index:
            self._stand_in(watch, decision, step)
        else:
            link.data(flow, step.direction, step.offset, step.data)

    def _ask_complete(self, flow: FilteredFlow, decision: FlowFilter, step: AskComplete) -> None:
        watch, link = self._flows[flow.id], self._links.get(step.index)
        if link is None or flow.id not in link.flows:
            self._trouble(flow, step.index, Trouble.DEAD, "")
        elif watch.stand_in is not None and watch.stand_in.slot == step.index:
            self._end_stand_in(watch, decision)
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
        flow.by, flow.reason = decision.by, decision.reason
        flow.filter_drop(step.silent, self._flows[flow.id].page)

    def _remediate(self, flow: FilteredFlow, decision: FlowFilter, step: Remediate) -> None:
        flow.by, flow.reason = step.by, decision.reason
        maps, keys = self._maps(step.index), (step.url_map_key, step.button_text_map_key)
        flow.filter_drop(False, self._remediation.page(maps, step.index, keys, flow.url, flow.host))

    def _append_string(self, flow: FilteredFlow, decision: FlowFilter, step: AppendString) -> None:
        flow.by, flow.reason = step.by, decision.reason
        flow.filter_drop(False, self._remediation.redirect(self._maps(step.index), step.map_key, flow.url))

    def _report(self, flow: FilteredFlow, decision: FlowFilter, step: Report) -> None:
        counts = flow.filter_counts() if step.event is FilterReportEvent.FLOW_CLOSED else (0, 0)
        for link in self._reporters(flow, step.index):
            link.report(flow, step.action, step.event, counts)

    def _reporters(self, flow: FilteredFlow, index: int) -> list[FilterLink]:
        """Who hears reports for a filter: itself, and the control provider that asked for them in its place."""
        reporter = self._flows[flow.id].reporter
        links = [self._links.get(index), reporter[1] if reporter is not None and reporter[0] == index else None]
        return [link for link in links if link is not None and flow.id in link.flows]

    def _trouble(self, flow: FilteredFlow, index: int, trouble: Trouble, detail: str) -> None:
        """The filter gives no answer: what its policy says."""
        assert flow.filter is not None
        self._carry_out(flow, flow.filter.trouble(index, trouble, detail, self._reactor.clock()))
        if (link := self._links.get(index)) is not None:
            link.gone(flow.id, True)

    def _say_full(self, link: FilterLink) -> None:
        """Once for each time that a filter falls behind."""
        now = self._reactor.clock()
        if now - self._said_full.get(link.slot.index, -NEVER) > BETWEEN_LINES:
            text = f"filter {link.slot.name}: does not keep up ({len(link.flows)} flows wait); new flows get the policy"
            self._log("filter", text, provider=link.slot.name, flows=len(link.flows))
        self._said_full[link.slot.index] = now

    # Answers

    def link_ended(self, link: FilterLink, flows: list[FilteredFlow], why: str) -> None:
        """The filter is gone: its policy decides what waited for it."""
        super().link_ended(link, flows, why)
        for flow in flows:
            self._troubled(link, flow, Trouble.DEAD, why)

    def answered(self, link: FilterLink, answer: Answer, flow: FilteredFlow | None) -> None:
        """The filter has said something, about a flow that it has, or about none."""
        if flow is None or flow.filter is None:
            if answer.op == filter_wire.NOTIFY_RULES and link.kind == CONTROL:
                self._tell_rules_changed()
            elif answer.op == filter_wire.UPDATE_FORGOTTEN and link.kind == DATA:
                self._update_forgotten(link, answer)
            return
        handler = (self._CONTROL_ANSWERS if link.kind == CONTROL else self._ANSWERS).get(answer.op)
        if handler is not None:
            try:
                handler(self, link, answer, flow, flow.filter)
            except FilterMisuse:
                pass  # it crossed a deadline, or a change of the flow, on its way

    def _new_answered(self, link: FilterLink, answer: Answer, flow: FilteredFlow, decision: FlowFilter) -> None:
        index, verdict = link.slot.index, _verdict(answer)
        waits = self._waits_for_request(flow, decision, verdict)
        steps = decision.answer_new_flow(index, _hold_all(verdict) if waits else verdict, self._reactor.clock())
        self._answered(flow, index, verdict if waits else None, steps)

    def _resumed(self, link: FilterLink, answer: Answer, flow: FilteredFlow, decision: FlowFilter) -> None:
        index, verdict = link.slot.index, _verdict(answer)
        waits = self._waits_for_request(flow, decision, verdict)
        steps = decision.resume(index, _hold_all(verdict) if waits else verdict, self._reactor.clock())
        self._answered(flow, index, verdict if waits else None, steps)

    def _answered(self, flow: FilteredFlow, index: int, waiting: FilterVerdict | None, steps: list[Step]) -> None:
        if waiting is not None:
            watch = self._flows[flow.id]
            watch.stand_in = StandIn(index, waiting, self._reactor.clock() + self._longest_stand_in)
        self._carry_out(flow, steps)

    def _data_answered(self, link: FilterLink, answer: Answer, flow: FilteredFlow, decision: FlowFilter) -> None:
        direction = OUTBOUND if answer.op == filter_wire.DATA_OUT else INBOUND
        now = self._reactor.clock()
        self._carry_out(flow, decision.answer_data(link.slot.index, direction, _verdict(answer), now))

    def _complete_answered(self, link: FilterLink, answer: Answer, flow: FilteredFlow, decision: FlowFilter) -> None:
        direction = OUTBOUND if answer.op == filter_wire.COMPLETE_OUT else INBOUND
        now = self._reactor.clock()
        self._carry_out(flow, decision.answer_complete(link.slot.index, direction, _verdict(answer), now))

    def _updated(self, link: FilterLink, answer: Answer, flow: FilteredFlow, decision: FlowFilter) -> None:
        now, direction = self._reactor.clock(), _UPDATES[answer.op]
        self._carry_out(flow, decision.update(link.slot.index, _verdict(answer), direction, now))

    def _update_forgotten(self, link: FilterLink, answer: Answer) -> None:
        """A filter changes its mind about a flow that it let go: other filters may have it still, or the datapath."""
        verdict = _verdict(answer)
        try:
            key, direction = _forgotten_key(forgotten_flow(verdict))
        except (WireError, ValueError) as error:
            link.end(f"it sent what is not a message: {error}")
            return
        verdict = verdict._replace(url_map_key="")
        watch = self._flows.get(answer.number)
        if watch is None or watch.flow.filter is None or watch.flow.key != key:
            self.update_forgotten(key, verdict, direction)
            return
        try:
            steps = watch.flow.filter.update(link.slot.index, verdict, direction, self._reactor.clock())
        except FilterMisuse:
            return
        self._carry_out(watch.flow, steps)

    def _failed(self, link: FilterLink, answer: Answer, flow: FilteredFlow, decision: FlowFilter) -> None:
        self._troubled(link, flow, Trouble.RAISED, answer.text)

    def _troubled(self, link: FilterLink, flow: FilteredFlow, trouble: Trouble, detail: str) -> None:
        """A data provider's trouble is its policy's business; without a control provider's answer flows are dropped."""
        if flow.filter is None:
            return
        if link.kind == CONTROL:
            words = f"control provider {link.slot.name} {trouble.value}"
            self._control_failed(flow, flow.filter, f"{words} ({detail})" if detail else words)
        else:
            self._trouble(flow, link.slot.index, trouble, detail)

    # Control providers

    def _ask_control(self, flow: FilteredFlow, decision: FlowFilter, step: AskControl) -> None:
        watch, link = self._flows[flow.id], self._nearest_control(step.index)
        watch.control = step.index
        if link is None:
            self._control_failed(flow, decision, "rules are needed, and no control provider is running")
        elif not link.has_room:
            self._control_failed(flow, decision, f"control provider {link.slot.name} {Trouble.QUEUE_FULL.value}")
        else:
            asked = watch.access is Access.NEEDS_RULES
            link.show(filter_wire.CONTROL_REMEDIATION if asked else filter_wire.CONTROL, flow)

    def _control_answered(self, link: FilterLink, answer: Answer, flow: FilteredFlow, decision: FlowFilter) -> None:
        watch, verdict, now = self._flows[flow.id], _verdict(answer), self._reactor.clock()
        index, watch.control = watch.control, None
        if verdict.update_rules:
            self._tell_rules_changed()
        if index is None:
            return
        if wants_reports(verdict):
            watch.reporter = index, link
        steps = decision.control_answer(index, verdict, now)
        if watch.access is Access.NEEDS_RULES:
            watch.access = Access.ANSWERED
            if verdict.kind is VerdictKind.ALLOW and not decision.is_final:
                watch.stand_in = None
                steps += decision.update(index, _ALLOW, Direction.ANY, now)
        self._carry_out(flow, steps)

    def _control_failed(self, flow: FilteredFlow, decision: FlowFilter, why: str) -> None:
        """Nobody knows rules for the flow: it is dropped."""
        watch = self._flows[flow.id]
        index, watch.control = watch.control, None
        if index is not None:
            steps = decision.control_answer(index, _DROP, self._reactor.clock())
            decision.reason = why
            self._carry_out(flow, steps)

    # Pages: see filter_remediation

    def _waits_for_request(self, flow: FilteredFlow, decision: FlowFilter, verdict: FilterVerdict) -> bool:
        """Whether a page is asked for before the program's request has been seen."""
        may_come = flow.protocol_number == TCP and flow.direction is OUTBOUND and flow.url is None
        return may_come and asks_for_page(verdict) and not decision.outcome

    def _stand_in(self, watch: FlowWatch, decision: FlowFilter, step: AskData) -> None:
        """Bytes have come that may be the request."""
        if step.direction is OUTBOUND and watch.flow.url is None and not watch.sniffed:
            more = FilterVerdict(VerdictKind.DATA, peek_bytes=len(step.data) + 1)
            now = self._reactor.clock()
            self._carry_out(watch.flow, decision.answer_data(step.index, OUTBOUND, more, now))
        else:
            self._end_stand_in(watch, decision)

    def _end_stand_in(self, watch: FlowWatch, decision: FlowFilter) -> None:
        """The request is there, or there is none."""
        assert watch.stand_in is not None
        (index, verdict, _), watch.stand_in = watch.stand_in, None
        flow, maps, now = watch.flow, self._maps(index), self._reactor.clock()
        if is_appended(maps.append_strings, verdict, flow.url):
            self._carry_out(flow, decision.update(index, _ALLOW, Direction.ANY, now))
            return
        if verdict.kind is VerdictKind.REMEDIATE:
            keys = verdict.url_map_key, verdict.button_text_map_key
            watch.page = self._remediation.page(maps, index, keys, flow.url, flow.host)
        else:
            watch.page = self._remediation.redirect(maps, verdict.url_map_key, flow.url)
        steps = decision.update(index, _DROP, Direction.ANY, now)
        decision.reason = f"handle_new_flow: {verdict.kind.value}"
        if watch.page is None:
            decision.reason += ", which only plain HTTP can be"
        else:
            decision.outcome = "remediated"
        self._carry_out(flow, steps)

    def _access_answered(self, link: FilterLink, answer: Answer, flow: FilteredFlow, decision: FlowFilter) -> None:
        """What handle_remediation said."""
        watch, verdict, index, now = self._flows[flow.id], _verdict(answer), link.slot.index, self._reactor.clock()
        if watch.access is not Access.ASKED:
            return
        if verdict.kind is VerdictKind.NEED_RULES:
            watch.access = Access.NEEDS_RULES
            steps = decision.answer_data(index, OUTBOUND, verdict, now)
        else:
            watch.access, watch.stand_in = Access.ANSWERED, None
            steps = decision.update(index, verdict, Direction.ANY, now)
            decision.reason = f"handle_remediation: {verdict.kind.value}"
        self._carry_out(flow, steps)

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
            self._forget(flow, decision)
            return
        deadline = decision.next_deadline
        due = NEVER if deadline is None else deadline
        if decision.wants_reports:
            due = min(due, self._statistics_due(watch, decision))
        if watch.stand_in is not None:
            due = min(due, watch.stand_in.until)
        if due < watch.armed:
            due = max(due, self._reactor.clock() + SHORTEST_LOOK)
            watch.armed = due
            self._times.add(due, flow.id)

    def _tell_decided(self, watch: FlowWatch, decision: FlowFilter) -> None:
        watch.decided = True
        watch.flow.by, watch.flow.reason = decision.by, decision.reason
        try:
            self.decided(watch.flow)
        except Exception as error:
            self._reactor.guard(partial(_raise, error))

    def _forget(self, flow: FilteredFlow, decision: FlowFilter) -> None:
        flow.filter = None
        self._flows.pop(flow.id, None)
        allowed = decision.outcome == "allowed" and flow.id not in self._over
        self._over.discard(flow.id)
        for link in self._links.values():
            link.gone(flow.id, allowed)

    def _look(self, number: int, due: float) -> None:
        """A time has come for a flow."""
        watch, now = self._flows[number], self._reactor.clock()
        decision = watch.flow.filter
        if watch.armed != due or decision is None:
            return  # an earlier look was asked for since, and has been
        watch.armed = NEVER
        if watch.statistics:
            self._report_statistics(watch, decision, now)
        if watch.stand_in is not None and watch.stand_in.until <= now:
            if decision.outcome:
                self._end_stand_in(watch, decision)
            else:  # another filter has not answered yet
                watch.stand_in = watch.stand_in._replace(until=now + self._longest_stand_in)
        deadline = decision.next_deadline
        self._carry_out(watch.flow, decision.tick(now) if deadline is not None and deadline <= now else [])

    def _statistics_due(self, watch: FlowWatch, decision: FlowFilter) -> float:
        """When the next byte counts are to be told."""
        known = watch.statistics = {} if watch.statistics is None else watch.statistics
        for index, frequency in decision.statistics:
            if index not in known:
                known[index] = self._reactor.clock() + frequency.seconds
        return min(known.values(), default=NEVER)

    def _report_statistics(self, watch: FlowWatch, decision: FlowFilter, now: float) -> None:
        assert watch.statistics is not None
        flow, wanted = watch.flow, dict(decision.statistics)
        for index, due in list(watch.statistics.items()):
            if index not in wanted:
                watch.statistics[index] = NEVER
            elif due <= now:
                watch.statistics[index] = now + wanted[index].seconds
                for link in self._reporters(flow, index):
                    action = FilterAction.ALLOW if decision.is_final else FilterAction.FILTER_DATA
                    link.report(flow, action, FilterReportEvent.STATISTICS, flow.filter_counts())

    # Names

    def _sniff(self, watch: FlowWatch, data: bytes) -> None:
        """What the first bytes tell of the flow's name. An ECH's outer name is no better than the one from DNS."""
        flow = watch.flow
        if watch.sniffer is None:
            from ..core.name_sniffing import NameSniffer  # takes milliseconds, and few runs look at bytes

            watch.sniffer = NameSniffer(flow.protocol_number, flow.remote[1])
        found = watch.sniffer.feed(data)
        if found is not None:
            if found.host and (found.source != "tls-ech-outer" or flow.host is None):
                flow.host, flow.name_source = found.host, found.source
            if found.url:
                flow.url = found.url
            self._tell_about(watch)
        if watch.sniffer.done:
            watch.sniffed, watch.sniffer = True, None

    def _tell_about(self, watch: FlowWatch) -> None:
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
        filter_wire.REMEDIATION: _access_answered,
        filter_wire.RESUME: _resumed,
        filter_wire.UPDATE_ANY: _updated,
        filter_wire.UPDATE_IN: _updated,
        filter_wire.UPDATE_OUT: _updated,
        filter_wire.FAIL: _failed,
    }
    _CONTROL_ANSWERS: ClassVar[dict[int, Callable[..., None]]] = {
        filter_wire.CONTROL: _control_answered,
        filter_wire.CONTROL_REMEDIATION: _control_answered,
        filter_wire.FAIL: _failed,
    }


def _facts(flow: FilteredFlow) -> FlowFacts:
    protocol, source, port, destination, remote_port = flow.key
    if flow.direction is INBOUND:
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


def _forgotten_key(flow: ForgottenFlow) -> tuple[FlowKey, Direction]:
    """The key of a flow that the filter remembers, and the direction of its update. Raises ValueError."""
    local, remote = address_bytes(flow.local), address_bytes(flow.remote)
    if flow.direction == INBOUND:
        return (flow.protocol, remote, flow.remote_port, local, flow.local_port), Direction(flow.update)
    return (flow.protocol, local, flow.local_port, remote, flow.remote_port), Direction(flow.update)


def _hold_all(verdict: FilterVerdict) -> FilterVerdict:
    """What stands for a verdict that needs the program's request; who asked for reports gets them."""
    return HOLD_ALL._replace(
        should_report=verdict.should_report, statistics_report_frequency=verdict.statistics_report_frequency
    )


def _verdict(answer: Answer) -> FilterVerdict:
    assert answer.verdict is not None
    return answer.verdict


def _raise(error: Exception) -> None:
    raise error
