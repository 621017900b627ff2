"""The filter stage where others than the filter decide: control providers, and the users who ask for access.

A filter without rules for a flow leaves it to the control provider next to it in the order of the run, whose answer
stands for the filter's; new rules are told to all data providers before the filter is asked again. Where there is no
answer to be had the flow is dropped, whatever the policy: the filter has said that it must not go unasked.

For pages see `filter_remediation`.
"""

from __future__ import annotations

from collections.abc import Callable

from ..core.filter_decision import FlowFilter
from ..core.filter_steps import AppendString, AskControl, AskData, Remediate, Step
from ..core.flow_decision import Policy, Trouble
from ..filter_verdicts import FilterVerdict, VerdictKind
from ..linux.reactor import Reactor
from ..rules import Direction
from . import filter_wire
from .filter_link import FilterLink
from .filter_remediation import HOLD_ALL, Remediation, StandIn, asks_for_page, is_appended
from .filter_watch import FilterWatch
from .filter_wire import Answer, verdict_of, wants_reports
from .filtered_flow import Access, FilteredFlow, FlowWatch
from .intercepted import TCP

_ALLOW, _DROP = FilterVerdict(VerdictKind.ALLOW), FilterVerdict(VerdictKind.DROP)


class FilterAppeal(FilterWatch):
    """Control providers, block pages, redirects and requests for access."""

    def __init__(self, reactor: Reactor, *, deadline: float, policy: Policy | None, log: Callable[..., None]) -> None:
        super().__init__(reactor, deadline=deadline, policy=policy, log=log)
        self._remediation = Remediation()
        self._told_keys: set[str] = set()
        """Keys without a URL that the log has told of."""

    # Control providers

    def _ask_control(self, flow: FilteredFlow, decision: FlowFilter, step: AskControl) -> None:
        watch, link = self._flows[flow.id], self._nearest_control(step.slot)
        watch.control = step.slot
        if link is None:
            self._control_failed(flow, decision, "rules are needed, and no control provider is running")
        elif not link.has_room:
            self._control_failed(flow, decision, f"control provider {link.slot.name} {Trouble.QUEUE_FULL.value}")
        else:
            asked = watch.access is Access.NEEDS_RULES
            link.show(filter_wire.CONTROL_REMEDIATION if asked else filter_wire.CONTROL, flow)

    def _control_answered(self, link: FilterLink, answer: Answer, flow: FilteredFlow, decision: FlowFilter) -> None:
        watch, verdict, now = self._flows[flow.id], verdict_of(answer), self._reactor.clock()
        index, watch.control = watch.control, None
        if verdict.update_rules:
            self._tell_rules_changed()
        if index is None:
            return
        if wants_reports(verdict):
            watch.reporter = index, link
        steps = decision.control_answer(index, verdict, now)
        if verdict.kind is not VerdictKind.UPDATE_RULES:
            decision.reason = f"control provider {link.slot.name}: {verdict.kind.value}"
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

    # Pages

    def _remediate(self, flow: FilteredFlow, decision: FlowFilter, step: Remediate) -> None:
        flow.by, flow.reason = step.by, decision.reason
        maps, keys = self._maps(step.slot), (step.url_map_key, step.button_text_map_key)
        if step.url_map_key not in maps.urls and step.url_map_key not in self._told_keys and len(self._told_keys) < 100:
            self._told_keys.add(step.url_map_key)
            text = (
                f"filter {step.by}: no control provider has a remediation URL {step.url_map_key!r}: pages have no link"
            )
            self._log("pages", text)
        flow.filter_drop(False, self._remediation.page(maps, step.slot, keys, flow.url, flow.host or flow.remote[0]))

    def _append_string(self, flow: FilteredFlow, decision: FlowFilter, step: AppendString) -> None:
        flow.by, flow.reason = step.by, decision.reason
        flow.filter_drop(False, self._remediation.redirect(self._maps(step.slot), step.map_key, flow.url))

    def _waits_for_request(self, flow: FilteredFlow, verdict: FilterVerdict) -> bool:
        """Whether a page is asked for before the program's request has been seen whole."""
        if not asks_for_page(verdict) or flow.url is not None or self._flows[flow.id].sniffed:
            return False
        return flow.protocol_number == TCP and flow.direction is Direction.OUTBOUND

    def _wait_or_go(
        self, flow: FilteredFlow, index: int, waiting: FilterVerdict | None, steps: list[Step], method: str
    ) -> None:
        if waiting is not None:
            watch = self._flows[flow.id]
            watch.stand_in = StandIn(index, waiting, self._reactor.clock() + self._longest_stand_in, method)
        self._carry_out(flow, steps)

    def _stand_in(self, watch: FlowWatch, decision: FlowFilter, step: AskData) -> None:
        """Bytes have come that may be the request."""
        if step.direction is Direction.OUTBOUND and watch.flow.url is None and not watch.sniffed:
            more = FilterVerdict(VerdictKind.DATA, peek_bytes=len(step.data) + 1)
            now = self._reactor.clock()
            self._carry_out(watch.flow, decision.answer_data(step.slot, Direction.OUTBOUND, more, now))
        else:
            self._end_stand_in(watch, decision)

    def _end_stand_in(self, watch: FlowWatch, decision: FlowFilter) -> None:
        """The request is there, or there is none."""
        assert watch.stand_in is not None
        (index, verdict, _, method), watch.stand_in = watch.stand_in, None
        flow, maps, now = watch.flow, self._maps(index), self._reactor.clock()
        if is_appended(maps.append_strings, verdict, flow.url):
            self._carry_out(flow, decision.update(index, _ALLOW, Direction.ANY, now))
            return
        if verdict.kind is VerdictKind.REMEDIATE:
            keys = verdict.url_map_key, verdict.button_text_map_key
            watch.page = self._remediation.page(maps, index, keys, flow.url, flow.host or flow.remote[0])
        else:
            watch.page = self._remediation.redirect(maps, verdict.url_map_key, flow.url)
        steps = decision.update(index, _DROP, Direction.ANY, now)
        decision.reason = f"{method}: {verdict.kind.value}"
        if watch.page is None:
            decision.reason += ", which only plain HTTP can be"
        else:
            decision.outcome = "remediated"
        self._carry_out(flow, steps)

    def _access_answered(self, link: FilterLink, answer: Answer, flow: FilteredFlow, decision: FlowFilter) -> None:
        """What handle_remediation said."""
        watch, verdict, index, now = self._flows[flow.id], verdict_of(answer), link.slot.index, self._reactor.clock()
        if watch.access is not Access.ASKED:
            return
        if verdict.kind is VerdictKind.NEED_RULES:
            watch.access = Access.NEEDS_RULES
            steps = decision.answer_data(index, Direction.OUTBOUND, verdict, now)
        else:
            watch.access, watch.stand_in = Access.ANSWERED, None
            steps = decision.update(index, verdict, Direction.ANY, now)
            decision.reason = f"handle_remediation: {verdict.kind.value}"
        self._carry_out(flow, steps)


def hold_all(verdict: FilterVerdict) -> FilterVerdict:
    """What stands for a verdict that needs the program's request; who asked for reports gets them."""
    return HOLD_ALL._replace(
        should_report=verdict.should_report, statistics_report_frequency=verdict.statistics_report_frequency
    )
