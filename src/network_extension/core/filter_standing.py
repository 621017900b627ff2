"""Where a flow stands with its filters: who has paused it, who wants reports of it, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence

from ..filter_verdicts import FilterAction, FilterReportEvent, FilterReportFrequency, FilterVerdict, VerdictKind
from ..rules import Direction
from .filter_answers import Question, callback
from .filter_slot import FilterLimits, FilterMisuse, FilterSlot
from .filter_steps import AppendString, AskControl, Drop, Remediate, Report, Step
from .filter_stream import FilteredStream, Side
from .flow_decision import ON_TROUBLE, Action, Trouble
from .rule_matching import FlowFacts

UDP = 17
MOST_ROUNDS = 4
"""How often a control provider may have the same question asked again."""
_ACTIONS = {
    VerdictKind.ALLOW: FilterAction.ALLOW,
    VerdictKind.DROP: FilterAction.DROP,
    VerdictKind.FILTER_DATA: FilterAction.FILTER_DATA,
    VerdictKind.REMEDIATE: FilterAction.REMEDIATE,
    VerdictKind.URL_APPEND_STRING: FilterAction.REMEDIATE,
}
_AT_THE_END = {"dropped": FilterAction.DROP, "remediated": FilterAction.REMEDIATE}
_NEVER = float("inf")


class Place:
    """What one flow remembers of one filter that said more than allow."""

    __slots__ = ("control_deadline", "direction", "frequency", "paused_until", "question", "reported", "rounds")

    def __init__(self) -> None:
        self.paused_until: float | None = None
        self.control_deadline: float | None = None
        """While the control provider is asked: until when it may think."""
        self.question = Question.NEW_FLOW
        self.direction: Direction | None = None
        """What the filter paused at, or needed rules for."""
        self.reported = False
        self.frequency = FilterReportFrequency.NONE
        self.rounds = 0

    @property
    def rests(self) -> bool:
        """Whether the filter's time stands still: it has paused the flow, or the control provider is asked."""
        return self.paused_until is not None or self.control_deadline is not None

    def go_on(self) -> None:
        """The pause, or the control provider's time, is over."""
        self.paused_until = self.control_deadline = None


class FlowStanding:
    """What is known of one flow under filters. Only what is asked for by a filter is allocated."""

    __slots__ = (
        "_asked_until",
        "_facts",
        "_is_datagram",
        "_limits",
        "_looks",
        "_places",
        "_position",
        "_protocol",
        "_slots",
        "_streams",
        "by",
        "is_closed",
        "is_final",
        "outcome",
        "reason",
        "wants_reports",
    )

    def __init__(
        self, slots: Sequence[FilterSlot], facts: FlowFacts, is_datagram: bool, protocol: int, limits: FilterLimits
    ) -> None:
        self._slots, self._facts, self._limits = slots, facts, limits
        self._is_datagram, self._protocol = is_datagram, protocol
        self._position = -1
        """The filter that has the new flow before it; behind the last one when the flow has begun."""
        self._asked_until: float | None = None
        """While it is asked about the new flow: the deadline."""
        self._places: dict[int, Place] | None = None
        self._looks: dict[int, dict[Direction, Side]] | None = None
        """By place: what a filter wants to see once the flow has begun."""
        self._streams: dict[Direction, FilteredStream] | None = None
        self.by = self.reason = self.outcome = ""
        """`outcome`: "" while held, "filtered", "allowed", "dropped", "remediated", "gone"."""
        self.is_final = self.is_closed = self.wants_reports = False
        """`wants_reports`: any filter asked for reports or statistics."""

    @property
    def standing(self) -> str:
        """The flow's state in words, for errors."""
        if self.is_closed:
            return "closed"
        if self.outcome not in ("", "filtered"):
            return self.outcome
        for position, place in (self._places or {}).items():
            if place.paused_until is not None:
                return f"paused by {self._slots[position].name} in {callback(place.question, place.direction)}"
            if place.control_deadline is not None:
                return "before the control provider"
        if self._streams is not None:
            return "open, its bytes filtered"
        return "held" if self._asked_until is None else f"before {self._slots[self._position].name}"

    # Pauses and control providers

    def _place(self, position: int) -> Place:
        if self._places is None:
            self._places = {}
        place = self._places.get(position)
        if place is None:
            place = self._places[position] = Place()
        return place

    def _position_of(self, index: int) -> int:
        for position, slot in enumerate(self._slots):
            if slot.index == index:
                return position
        raise FilterMisuse(f"there is no filter {index}")

    def is_paused(self, index: int) -> bool:
        """Whether a filter has paused the flow."""
        if self.is_final or not self._places:
            return False
        place = self._places.get(self._position_of(index))
        return place is not None and place.paused_until is not None

    @property
    def _anybody_pauses(self) -> bool:
        return self._places is not None and any(place.paused_until is not None for place in self._places.values())

    def _rests(self, position: int) -> bool:
        place = self._places.get(position) if self._places else None
        return place is not None and place.rests

    def _pause(self, position: int, question: Question, direction: Direction | None, now: float) -> None:
        place = self._place(position)
        place.paused_until = now + self._limits.datagram_pause if self._protocol == UDP else _NEVER
        place.question, place.direction = question, direction

    def _need_rules(self, position: int, question: Question, direction: Direction | None, now: float) -> list[Step]:
        place, slot = self._place(position), self._slots[position]
        place.rounds += 1
        if place.rounds > MOST_ROUNDS:
            return self._drop([], False, slot.name, f"needed rules {MOST_ROUNDS} times over")
        place.question, place.direction = question, direction
        place.control_deadline = now + self._limits.deadline
        return [AskControl(slot.index)]

    # Reports

    def _note_reports(self, position: int, verdict: FilterVerdict, event: FilterReportEvent, steps: list[Step]) -> None:
        """Remember who wants to hear of this flow. A verdict that decides nothing yet is not reported itself."""
        if not (verdict.should_report or verdict.statistics_report_frequency):
            return
        place = self._place(position)
        self.wants_reports = True
        if verdict.statistics_report_frequency:
            place.frequency = verdict.statistics_report_frequency
        if verdict.should_report:
            place.reported = True
            if (action := _ACTIONS.get(verdict.kind)) is not None:
                steps.append(Report(self._slots[position].index, action, event))

    @property
    def statistics(self) -> list[tuple[int, FilterReportFrequency]]:
        """Which filters want byte counts from time to time, and how often."""
        if not self._places:
            return []
        return [(self._slots[at].index, place.frequency) for at, place in self._places.items() if place.frequency]

    def closed(self, now: float) -> list[Step]:
        """The flow is over: who asked for reports is told."""
        steps: list[Step] = []
        if self.is_closed:
            return steps
        action = _AT_THE_END.get(self.outcome, FilterAction.ALLOW)
        for position, place in (self._places or {}).items():
            if place.reported:
                steps.append(Report(self._slots[position].index, action, FilterReportEvent.FLOW_CLOSED))
        if not self.is_final:
            self._end("gone", self.by, self.reason or "the program gave up")
        self.is_closed, self._places = True, None
        return steps

    # The end

    def _in_trouble(self, slot: FilterSlot, trouble: Trouble, detail: str, steps: list[Step]) -> bool:
        """Whether the policy ends the flow."""
        words = f"{slot.name} {trouble.value}{f' ({detail})' if detail else ''}; policy {slot.policy.value}"
        if ON_TROUBLE[trouble, slot.policy] is Action.REFUSE:
            self._drop(steps, False, "policy", words)
            return True
        self.by, self.reason = "policy", words
        return False

    def _end_by(self, slot: FilterSlot, verdict: FilterVerdict, what: str, steps: list[Step]) -> list[Step]:
        """A verdict that ends the flow."""
        kind = verdict.kind
        if kind is VerdictKind.DROP:
            return self._drop(steps, verdict.silent, slot.name, f"{what}: drop")
        if kind is VerdictKind.REMEDIATE:
            step: Step = Remediate(slot.index, slot.name, verdict.url_map_key, verdict.button_text_map_key)
        else:
            step = AppendString(slot.index, slot.name, verdict.url_map_key)
        self._end("remediated", slot.name, f"{what}: {kind.value}")
        steps.append(step)
        return steps

    def _drop(self, steps: list[Step], silent: bool, by: str, reason: str) -> list[Step]:
        self._end("dropped", by, reason)
        steps.append(Drop(silent, by, reason))
        return steps

    def _end(self, outcome: str, by: str, reason: str) -> None:
        self.is_final, self.outcome, self.by, self.reason = True, outcome, by, reason
        self._asked_until = None
        self._streams = self._looks = None
