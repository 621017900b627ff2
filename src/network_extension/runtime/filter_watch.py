"""What the filter stage keeps of its flows, and when it looks at them: steps one after the other, names, time, the end.

Steps are carried out one after the other, never inside each other: a datapath may call back from within its methods.

A flow of which nobody wants to hear again is forgotten at once: `flow.filter` is None from then on, and the stage holds
no reference. Only flows that wait, that are shown, or that filters want reports of cost memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from ..core.filter_decision import FilterLimits, FlowFilter
from ..core.filter_steps import Report, Step
from ..core.flow_decision import Policy, Trouble
from ..filter_verdicts import FilterAction, FilterReportEvent
from ..linux.reactor import Reactor
from .filter_link import FilterLink
from .filter_remediation import LONGEST_STAND_IN
from .filter_roster import FilterRoster
from .filter_times import FlowTimes
from .filtered_flow import NEVER, FilteredFlow, FlowWatch

SHORTEST_LOOK = 0.001
"""Seconds between two looks at a flow, whatever its clock says."""
BETWEEN_LINES = 5.0
"""Seconds without trouble after which new trouble of the same kind is told."""


class FilterWatch(FilterRoster):
    """The flows that the filters of a run have. What steps and answers mean is for subclasses."""

    _STEPS: ClassVar[dict[type, Callable[..., None]]] = {}

    def __init__(self, reactor: Reactor, *, deadline: float, policy: Policy | None, log: Callable[..., None]) -> None:
        super().__init__(reactor, deadline=deadline, policy=policy)
        self._log = log
        self._limits = FilterLimits(deadline=deadline)
        self._longest_stand_in = min(LONGEST_STAND_IN, deadline / 2)
        self.decided: Callable[[Any], None] = lambda flow: None
        """Called once for each flow when what becomes of it is final; `flow.by` and `flow.reason` are set."""
        self._flows: dict[int, FlowWatch] = {}
        self._times = FlowTimes(reactor, self._flows, self._look)
        self._steps: deque[tuple[FilteredFlow, Step]] = deque()
        self._touched: dict[int, FilteredFlow] = {}
        self._over: set[int] = set()
        self._stepping = False
        self._said_full: dict[int, float] = {}

    def _carry_out(self, flow: FilteredFlow, steps: list[Step], over: bool = False) -> None:
        """Do what is to be done with a flow, after all that is being done; then see what has become of it."""
        queue, touched = self._steps, self._touched
        if over:
            self._over.add(flow.id)
        if self._stepping:
            for step in steps:
                queue.append((flow, step))
            touched[flow.id] = flow
            return
        self._stepping = True
        try:
            for step in steps:  # before those that they lead to, which are queued meanwhile
                self._step(flow, step)
            while queue:
                self._step(*queue.popleft())
            touched.pop(flow.id, None)
            self._settle(flow)
            while queue or touched:
                if queue:
                    self._step(*queue.popleft())
                else:
                    self._settle(touched.popitem()[1])
        finally:
            self._stepping = False

    def _step(self, flow: FilteredFlow, step: Step) -> None:
        if flow.filter is None:
            return  # forgotten by an earlier step
        try:
            self._STEPS[type(step)](self, flow, flow.filter, step)
        except Exception as error:
            self._reactor.guard(partial(_raise, error))

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

    def _end_stand_in(self, watch: FlowWatch, decision: FlowFilter) -> None:
        """The program's request has not come in time."""

    # Reports

    def _report(self, flow: FilteredFlow, decision: FlowFilter, step: Report) -> None:
        counts = flow.filter_counts() if step.event is FilterReportEvent.FLOW_CLOSED else (0, 0)
        for link in self._reporters(flow, step.slot):
            link.report(flow, step.action, step.event, counts)

    def _reporters(self, flow: FilteredFlow, index: int) -> list[FilterLink]:
        """Who hears reports for a filter: itself, and the control provider that asked for them in its place."""
        reporter = self._flows[flow.id].reporter
        links = [self._links.get(index), reporter[1] if reporter is not None and reporter[0] == index else None]
        return [link for link in links if link is not None and flow.id in link.flows]

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


def _raise(error: Exception) -> None:
    raise error
