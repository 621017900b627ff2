"""The stage that every new flow passes before proxies and kernel get it: filters are asked, answers carried out.

A datapath (the host's, the sandbox's) describes each flow as a `FilteredFlow` and hands it in with `admit`; what is to
be done with it comes back as calls of its `filter_…` methods. What happens between, who is asked in which order and
what the answers mean, is decided by `core/filter_decision.FlowFilter`, one for each flow; this file carries its steps
out, and brings it answers, bytes and time.

    datapath ── admit, received, ended, closed ──▶ FilterStage ══▶ FlowFilter ── steps ──▶ links, or the datapath
    filter   ── answers ──▶ FilterLink ── answered ──▶ FilterStage

It stands on three floors: `filter_roster` (which filters there are), `filter_watch` (flows and time), `filter_appeal`
(control providers and pages).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from ..core.filter_decision import FilterMisuse, FlowFilter
from ..core.filter_steps import (
    AppendString,
    AskComplete,
    AskControl,
    AskData,
    AskNewFlow,
    Drop,
    Hold,
    Open,
    Pass,
    Remediate,
    Report,
)
from ..core.flow_decision import Policy, Trouble
from ..core.packet_heads import address_bytes, address_text, protocol_name
from ..core.rule_matching import FlowFacts
from ..filter_verdicts import FilterVerdict, VerdictKind
from ..linux.reactor import Reactor
from ..rules import Direction, Protocol
from . import filter_wire
from .filter_appeal import FilterAppeal, hold_all
from .filter_link import FilterLink
from .filter_remediation import SHOW_MORE
from .filter_roster import CONTROL, DATA, PACKET
from .filter_wire import Answer, ForgottenFlow, forgotten_flow, verdict_of
from .filtered_flow import Access, FilteredFlow, FlowWatch
from .intercepted import TCP, UDP, FlowKey
from .wire import WireError

__all__ = ["CONTROL", "DATA", "PACKET", "FilterStage", "FilteredFlow"]

OUTBOUND, INBOUND = Direction.OUTBOUND, Direction.INBOUND
_RULE_PROTOCOL = {TCP: Protocol.TCP, UDP: Protocol.UDP}
_UPDATES = {
    filter_wire.UPDATE_ANY: Direction.ANY,
    filter_wire.UPDATE_IN: INBOUND,
    filter_wire.UPDATE_OUT: OUTBOUND,
}


class FilterStage(FilterAppeal):
    """All filters of a run, and the flows that they are asked about. `deadline` is what a filter has for an answer."""

    def __init__(self, reactor: Reactor, *, deadline: float, policy: Policy | None, log: Callable[..., None]) -> None:
        super().__init__(reactor, deadline=deadline, policy=policy, log=log)
        self.update_forgotten: Callable[[FlowKey, FilterVerdict, Direction], bool] = lambda key, verdict, way: False
        """The datapath's: a filter changes its verdict (allow, drop, data) about a flow that was allowed for good, and
        that the stage keeps no more. Returns whether there is such a flow. `key` is from who began it."""
        self._said_too_late: set[int] = set()

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
        if flow.host != watch.host or flow.key != watch.key:
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

    def _ask_new_flow(self, flow: FilteredFlow, decision: FlowFilter, step: AskNewFlow) -> None:
        link = self._links.get(step.slot)
        if link is None:
            self._trouble(flow, step.slot, Trouble.DEAD, "")
        elif not link.has_room:
            self._say_full(link)
            self._trouble(flow, step.slot, Trouble.QUEUE_FULL, "")
        else:
            link.show(filter_wire.NEW, flow)

    def _ask_data(self, flow: FilteredFlow, decision: FlowFilter, step: AskData) -> None:
        watch, link = self._flows[flow.id], self._links.get(step.slot)
        if link is None or flow.id not in link.flows:
            self._trouble(flow, step.slot, Trouble.DEAD, "")
        elif watch.access is Access.NONE and self._remediation.is_request(flow.url, step.slot):
            watch.access = Access.ASKED
            link.show(filter_wire.REMEDIATION, flow)
        elif watch.stand_in is not None and watch.stand_in.slot == step.slot:
            self._stand_in(watch, decision, step)
        else:
            link.data(flow, step.direction, step.offset, step.data)

    def _ask_complete(self, flow: FilteredFlow, decision: FlowFilter, step: AskComplete) -> None:
        watch, link = self._flows[flow.id], self._links.get(step.slot)
        if link is None or flow.id not in link.flows:
            self._trouble(flow, step.slot, Trouble.DEAD, "")
        elif watch.stand_in is not None and watch.stand_in.slot == step.slot:
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
        index, verdict = link.slot.index, verdict_of(answer)
        waits = self._waits_for_request(flow, verdict)
        steps = decision.answer_new_flow(index, hold_all(verdict) if waits else verdict, self._reactor.clock())
        self._wait_or_go(flow, index, verdict if waits else None, steps, "handle_new_flow")

    def _resumed(self, link: FilterLink, answer: Answer, flow: FilteredFlow, decision: FlowFilter) -> None:
        index, verdict = link.slot.index, verdict_of(answer)
        waits = self._waits_for_request(flow, verdict)
        instead = SHOW_MORE if decision.outcome else hold_all(verdict)
        steps = decision.resume(index, instead if waits else verdict, self._reactor.clock())
        self._wait_or_go(flow, index, verdict if waits else None, steps, "resume_flow")

    def _data_answered(self, link: FilterLink, answer: Answer, flow: FilteredFlow, decision: FlowFilter) -> None:
        direction = OUTBOUND if answer.op == filter_wire.DATA_OUT else INBOUND
        index, verdict = link.slot.index, verdict_of(answer)
        waits = direction is OUTBOUND and self._waits_for_request(flow, verdict)
        steps = decision.answer_data(index, direction, SHOW_MORE if waits else verdict, self._reactor.clock())
        self._wait_or_go(flow, index, verdict if waits else None, steps, "handle_outbound_data")

    def _complete_answered(self, link: FilterLink, answer: Answer, flow: FilteredFlow, decision: FlowFilter) -> None:
        direction = OUTBOUND if answer.op == filter_wire.COMPLETE_OUT else INBOUND
        now = self._reactor.clock()
        self._carry_out(flow, decision.answer_complete(link.slot.index, direction, verdict_of(answer), now))

    def _updated(self, link: FilterLink, answer: Answer, flow: FilteredFlow, decision: FlowFilter) -> None:
        now, direction = self._reactor.clock(), _UPDATES[answer.op]
        self._carry_out(flow, decision.update(link.slot.index, verdict_of(answer), direction, now))

    def _update_forgotten(self, link: FilterLink, answer: Answer) -> None:
        """A filter changes its mind about a flow that it let go: other filters may have it still, or the datapath."""
        verdict = verdict_of(answer)
        try:
            key, direction = _forgotten_key(forgotten_flow(verdict))
        except (WireError, ValueError) as error:
            link.end(f"it sent what is not a message: {error}")
            return
        verdict = verdict._replace(url_map_key="")
        watch = self._flows.get(answer.number)
        if watch is None or watch.flow.filter is None or watch.flow.key != key:
            if self.update_forgotten(key, verdict, direction):
                self._say_updated(link, key, verdict)
            elif verdict.kind is VerdictKind.DATA:
                self._say_too_late(link, key)
            return
        try:
            steps = watch.flow.filter.update(link.slot.index, verdict, direction, self._reactor.clock())
        except FilterMisuse:
            return
        self._carry_out(watch.flow, steps)

    def _say_too_late(self, link: FilterLink, key: FlowKey) -> None:
        """To be shown bytes again, a flow must have been kept. Once for each filter: it may try with every flow."""
        if link.slot.index not in self._said_too_late:
            self._said_too_late.add(link.slot.index)
            name = link.slot.name
            text = (
                f"filter {name}: update_flow: data: {_ends(key)} was allowed for good, so nothing of it can be shown"
                " any more; next step: allow flows that may have to be looked at later with .reported()"
            )
            self._log("filter", text, provider=name, verdict=VerdictKind.DATA.value, flow=_ends(key))

    def _say_updated(self, link: FilterLink, key: FlowKey, verdict: FilterVerdict) -> None:
        """The flow's own line has been written long ago."""
        name, kind, ends = link.slot.name, verdict.kind.value, _ends(key)
        text = f"filter {name}: update_flow: {kind}: {protocol_name(key[0])} {ends}"
        self._log("filter", text, provider=name, verdict=kind, flow=ends)

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

    _STEPS: ClassVar[dict[type, Callable[..., None]]] = {
        AskNewFlow: _ask_new_flow,
        AskData: _ask_data,
        AskComplete: _ask_complete,
        AskControl: FilterAppeal._ask_control,
        Open: _open,
        Pass: _pass,
        Hold: _hold,
        Drop: _drop,
        Remediate: FilterAppeal._remediate,
        AppendString: FilterAppeal._append_string,
        Report: FilterAppeal._report,
    }
    _ANSWERS: ClassVar[dict[int, Callable[..., None]]] = {
        filter_wire.NEW: _new_answered,
        filter_wire.DATA_OUT: _data_answered,
        filter_wire.DATA_IN: _data_answered,
        filter_wire.COMPLETE_OUT: _complete_answered,
        filter_wire.COMPLETE_IN: _complete_answered,
        filter_wire.REMEDIATION: FilterAppeal._access_answered,
        filter_wire.RESUME: _resumed,
        filter_wire.UPDATE_ANY: _updated,
        filter_wire.UPDATE_IN: _updated,
        filter_wire.UPDATE_OUT: _updated,
        filter_wire.FAIL: _failed,
    }
    _CONTROL_ANSWERS: ClassVar[dict[int, Callable[..., None]]] = {
        filter_wire.CONTROL: FilterAppeal._control_answered,
        filter_wire.CONTROL_REMEDIATION: FilterAppeal._control_answered,
        filter_wire.FAIL: _failed,
    }


def _facts(flow: FilteredFlow) -> FlowFacts:
    protocol, source, port, destination, remote_port = flow.key
    if flow.direction is INBOUND:
        source, port, destination, remote_port = destination, remote_port, source, port
    rule_protocol = _RULE_PROTOCOL.get(protocol, Protocol.ANY)
    facts = (rule_protocol, destination, remote_port, flow.host, flow.interface == "lo", flow.direction, source, port)
    return tuple.__new__(FlowFacts, facts)  # what FlowFacts(...) does, without its Python frame


def _ends(key: FlowKey) -> str:
    _, source, port, destination, remote_port = key
    return f"{address_text(source)}:{port} → {address_text(destination)}:{remote_port}"


def _forgotten_key(flow: ForgottenFlow) -> tuple[FlowKey, Direction]:
    """The key of a flow that the filter remembers, and the direction of its update. Raises ValueError."""
    local, remote = address_bytes(flow.local), address_bytes(flow.remote)
    if flow.direction == INBOUND:
        return (flow.protocol, remote, flow.remote_port, local, flow.local_port), Direction(flow.update)
    return (flow.protocol, local, flow.local_port, remote, flow.remote_port), Direction(flow.update)
