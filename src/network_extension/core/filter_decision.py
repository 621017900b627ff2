"""One flow's way through the content filters, from its first packet to the last word about it (reference §3.1, §3.2).

    HELD ──ask──▶ filter 1 ──▶ filter 2 ──▶ … ──all let it begin──▶ OPEN ──every side free──▶ ALLOWED
                     │            │                                   │
                     └── pause: waits for resume ────────────────┐    │ bytes: filter_inspection, filter_stream
                                                                 ▼    ▼
                                          drop, by anybody, at any time ──▶ DROPPED

Which verdict answers which question, and what it does, is the table of `core/filter_answers`; the states of one filter
and one direction are the table of `core/filter_stream`; what is left, the order of things, is here.

Rule 1: the rules that a filter has put into force (FilterSettings) come before its code, and hold even while its
process does not run: the first that matches says allow, drop, or ask. Loopback is allowed unless a rule for loopback
matches.

Rule 2: filters are asked one after the other, firewalls before inspectors. The next one is asked when the one before
has let the flow begin; a pause of any holds it; a drop by any is final. All must allow.

Rule 3: a new-flow verdict decides both directions, a data verdict one. Bytes that a filter passes move at once, as far
as the others have passed them too.

Rule 4: a question has a deadline, a pause has not, except that a UDP flow is dropped after ten seconds of it. Trouble
is not an answer: starting, slow, raising, nonsense, dead, stopping, queue full are the policy's business, by the table
`core/flow_decision.ON_TROUBLE`. Open: this filter has nothing against the flow, now or later. Closed: it is dropped.
A pause is no shelter: who dies while the flow is paused is in trouble.

Rule 5: an answer that nobody asked for, a second pause, a resume of what is not paused is a `FilterMisuse`: whoever did
it is told, and the flow is as it was. An answer that comes too late, because `update_flow` or the policy was quicker,
is nothing at all.

Rule 6: block pages and redirects need a plain HTTP request. Whether there is one is the datapath's knowledge: here such
a verdict is a step and the flow's end.

Every method takes `now` and returns the steps to be carried out, in order. There are no sockets and no clock here.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..filter_verdicts import FilterAction, FilterReportEvent, FilterVerdict, VerdictKind
from ..rules import Direction
from .filter_answers import ANSWERS, Effect, Question
from .filter_deadlines import FlowDeadlines
from .filter_inspection import BOTH
from .filter_slot import DEFAULT_LIMITS, FilterLimits, FilterMisuse, FilterSlot
from .filter_steps import (
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
    Step,
)
from .filter_stream import FilteredStream, Side, SideEvent
from .flow_decision import TROUBLE_OF_STATE, ProviderState, Trouble
from .rule_matching import FlowFacts, is_loopback, plain_address

OUTBOUND, INBOUND = Direction.OUTBOUND, Direction.INBOUND
_OPEN_FREE = Open(False, False)
_PAUSED_TWICE = "the flow is paused already; resume it with another verdict"


class FlowFilter(FlowDeadlines):
    """One flow under all filters of a datapath, which `slots` has in the order in which they are asked."""

    __slots__ = ()

    def __init__(
        self,
        slots: Sequence[FilterSlot],
        facts: FlowFacts,
        *,
        is_datagram: bool,
        protocol: int,
        limits: FilterLimits | None = None,
    ) -> None:
        super().__init__(slots, facts, is_datagram, protocol, limits or DEFAULT_LIMITS)

    # The new flow

    def start(self, now: float) -> list[Step]:
        """The flow has begun: ask the first filter, or decide by rules."""
        return self._advance(now, [])

    def _advance(self, now: float, steps: list[Step]) -> list[Step]:
        """On to the next filter; past the last one the flow begins."""
        slots, position = self._slots, self._position + 1
        while position < len(slots):
            self._position, slot = position, slots[position]
            action, rule = self._by_rules(slot)
            if action is FilterAction.FILTER_DATA:
                if slot.state is ProviderState.RUNNING:
                    self._asked_until = now + self._limits.deadline
                    steps.append(slot.ask)
                    return steps
                if self._in_trouble(slot, TROUBLE_OF_STATE[slot.state], "", steps):
                    return steps
            elif action is FilterAction.DROP:
                return self._drop(steps, False, slot.name, rule)
            else:
                self.by, self.reason = slot.name, rule
            position += 1
        self._position = position
        return self._begin(steps)

    def _by_rules(self, slot: FilterSlot) -> tuple[FilterAction, str]:
        if slot.matcher is not None:
            return slot.matcher.decide(self._facts)
        facts = self._facts
        if facts.loopback or is_loopback(plain_address(facts.remote_address)):
            return FilterAction.ALLOW, "loopback, which no rule names"
        return FilterAction.FILTER_DATA, "default action"

    def _begin(self, steps: list[Step]) -> list[Step]:
        """All filters have let it begin."""
        looks = self._looks
        if looks is None or not any(looks.values()):
            self.is_final, self.outcome = True, "allowed"
            steps.append(_OPEN_FREE)
            return steps
        places = range(len(self._slots))
        streams = self._streams = {
            one: FilteredStream(one, [looks.get(place, {}).get(one) for place in places], self._is_datagram)
            for one in BOTH
        }
        hold_inbound, hold_outbound = not streams[INBOUND].is_free, not streams[OUTBOUND].is_free
        self.is_final, self.outcome = not (hold_inbound or hold_outbound), "filtered"
        if self.is_final:
            self.outcome = "allowed"
        steps.append(Open(hold_inbound, hold_outbound))
        return steps

    def answer_new_flow(self, index: int, verdict: FilterVerdict, now: float) -> list[Step]:
        """A filter's verdict about the new flow. Raises FilterMisuse if it was not asked."""
        if self.is_final:
            return []
        if self._asked_until is None or self._slots[self._position].index != index:
            raise FilterMisuse(f"filter {index} was not asked about the new flow, which is {self.standing}")
        self._asked_until = None
        return self._new_flow(verdict, now)

    def _new_flow(self, verdict: FilterVerdict, now: float) -> list[Step]:
        """The verdict of the filter whose turn it is: the left column of `filter_answers`."""
        position, kind, steps = self._position, verdict.kind, list[Step]()
        slot = self._slots[position]
        if kind is VerdictKind.ALLOW:  # by far the most frequent
            effect: Effect | None = Effect.NEXT
        else:
            effect = ANSWERS[Question.NEW_FLOW].get(kind)
        if effect is None:
            detail = f"{kind.value} is no answer of handle_new_flow"
            return self.trouble(slot.index, Trouble.RAISED, detail, now)
        if effect is Effect.CONTROL:
            return self._need_rules(position, Question.NEW_FLOW, None, now)
        if verdict.should_report or verdict.statistics_report_frequency:
            self._note_reports(position, verdict, FilterReportEvent.NEW_FLOW, steps)
        if effect is Effect.PAUSE:
            self._pause(position, Question.NEW_FLOW, None, now)
            return steps
        if effect is Effect.END:
            return self._end_by(slot, verdict, "handle_new_flow", steps)
        self.by = slot.name
        if effect is Effect.LOOK:
            self.reason = "handle_new_flow: filter data"
            self._look(position, verdict)
        else:
            self.reason = "handle_new_flow: allow"
        return self._advance(now, steps)

    def _look(self, position: int, verdict: FilterVerdict) -> None:
        sides = {}
        if verdict.filter_inbound:
            sides[INBOUND] = Side(verdict.peek_inbound)
        if verdict.filter_outbound:
            sides[OUTBOUND] = Side(verdict.peek_outbound)
        if self._looks is None:
            self._looks = {}
        self._looks[position] = sides

    # Pauses end, control providers answer

    def resume(self, index: int, verdict: FilterVerdict, now: float) -> list[Step]:
        """End a pause with the verdict that the paused callback would have given. Raises FilterMisuse."""
        position = self._position_of(index)
        place = self._places.get(position) if self._places else None
        if self.is_final or place is None or place.paused_until is None:
            raise FilterMisuse(f"{self._slots[position].name}: the flow is not paused: it is {self.standing}")
        if verdict.kind is VerdictKind.PAUSE:
            raise FilterMisuse(_PAUSED_TWICE)
        question, direction = place.question, place.direction
        if verdict.kind not in ANSWERS[question]:
            wanted = "FilterNewFlowVerdict" if direction is None else "FilterDataVerdict"
            raise FilterMisuse(f"the flow is {self.standing}: resume it with a {wanted}")
        self._end_rest(position, place)
        if direction is None:
            return self._new_flow(verdict, now)
        self._side(position, direction).move(SideEvent.RESUMED)
        return self._data(position, direction, question, verdict, now)

    def control_answer(self, index: int, verdict: FilterVerdict, now: float) -> list[Step]:
        """The control provider's verdict in place of a filter's. Raises FilterMisuse if it was not asked.

        What is neither allow, drop nor new rules is a drop: nobody has said that the flow may go on.
        """
        position = self._position_of(index)
        place = self._places.get(position) if self._places else None
        if self.is_final:
            return []
        if place is None or place.control_deadline is None:
            raise FilterMisuse(f"the control provider was not asked about this flow, which is {self.standing}")
        self._end_rest(position, place)
        question, direction, kind = place.question, place.direction, verdict.kind
        if kind is VerdictKind.UPDATE_RULES:
            return self._ask_again(position, direction, now)
        if kind is not VerdictKind.ALLOW:
            return self._drop([], verdict.silent, self._slots[position].name, f"control provider: {kind.value}")
        if direction is None:
            return self._new_flow(verdict, now)
        return self._data(position, direction, question, verdict, now)

    def _ask_again(self, position: int, direction: Direction | None, now: float) -> list[Step]:
        """The rules have changed: the same question once more."""
        if direction is None:
            self._position = position - 1
            return self._advance(now, [])
        side = self._side(position, direction)
        side.move(SideEvent.AGAIN)
        side.seen = -1
        return self._pump_all(now, [])

    # Trouble

    def trouble(self, index: int, trouble: Trouble, detail: str, now: float) -> list[Step]:
        """A filter gives no answer: its policy decides, if it has a say in this flow any more."""
        if self.is_final:
            return []
        position, steps = self._position_of(index), list[Step]()
        if not self._has_a_say(position) or self._in_trouble(self._slots[position], trouble, detail, steps):
            return steps
        if (place := self._places.get(position) if self._places else None) is not None:
            place.go_on()
        if position == self._position:
            self._asked_until = None
            return self._advance(now, steps)
        if self._looks is not None:
            self._looks.pop(position, None)
        for stream in self._streams.values() if self._streams else ():
            if (side := stream.sides[position]) is not None:
                side.free()
                side.deadline = None
        return self._pump_all(now, steps)


__all__ = [
    "AppendString",
    "AskComplete",
    "AskControl",
    "AskData",
    "AskNewFlow",
    "Drop",
    "FilterLimits",
    "FilterMisuse",
    "FilterSlot",
    "FlowFilter",
    "Hold",
    "Open",
    "Pass",
    "Remediate",
    "Report",
    "Step",
]
