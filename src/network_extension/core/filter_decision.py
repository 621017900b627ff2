"""One flow's way through the content filters, from its first packet to the last word about it (reference §3.1, §3.2).

    HELD ──ask──▶ filter 1 ──▶ filter 2 ──▶ … ──all let it begin──▶ OPEN ──every side free──▶ ALLOWED
                     │            │                                   │
                     └── pause: waits for resume ────────────────┐    │ data: core/filter_stream
                                                                 ▼    ▼
                                          drop, by anybody, at any time ──▶ DROPPED

Rule 1: the rules that a filter has put into force (FilterSettings) come before its code: the first that matches says
allow, drop, or ask. Loopback is allowed unless a rule for loopback matches.

Rule 2: filters are asked one after the other, firewalls before inspectors. The next one is asked when the one before
has let the flow begin; a pause of any holds it; a drop by any is final. All must allow.

Rule 3: a new-flow verdict decides both directions, a data verdict one. Bytes that a filter passes move at once, as far
as the others have passed them too.

Rule 4: a question has a deadline, a pause has not, except that a UDP flow is dropped after ten seconds of it. Trouble
is not an answer: starting, slow, raising, dead, stopping, queue full are the policy's business, by the table of
`core/flow_decision.ON_TROUBLE`. Open: this filter has nothing against the flow, now or later. Closed: it is dropped.

Rule 5: an answer that nobody asked for, a second pause, a resume of what is not paused is a `FilterMisuse`: whoever did
it is told, and the flow is as it was.

Every method takes `now` and returns the steps to be carried out, in order. There are no sockets and no clock here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..errors import NetworkExtensionError
from ..filter_verdicts import (
    FLOW_BYTES_MAX,
    FilterAction,
    FilterGrade,
    FilterReportEvent,
    FilterReportFrequency,
    FilterVerdict,
    VerdictKind,
)
from ..rules import Direction
from .filter_rule_matching import FilterRuleMatcher
from .filter_steps import (
    AppendString,
    AskComplete,
    AskControl,
    AskData,
    AskNewFlow,
    AskRemediation,
    Drop,
    Hold,
    Open,
    Pass,
    Remediate,
    Report,
    Step,
)
from .filter_stream import FilteredStream, Side, SideState
from .flow_decision import ON_TROUBLE, TROUBLE_OF_STATE, Action, Policy, ProviderState, Trouble
from .rule_matching import FlowFacts, is_loopback, plain_address

UDP = 17
MOST_ROUNDS = 4
"""How often a control provider may have the same question asked again."""
OUTBOUND, INBOUND = Direction.OUTBOUND, Direction.INBOUND
_BOTH = (OUTBOUND, INBOUND)
_ACTIONS = {
    VerdictKind.ALLOW: FilterAction.ALLOW,
    VerdictKind.DROP: FilterAction.DROP,
    VerdictKind.FILTER_DATA: FilterAction.FILTER_DATA,
    VerdictKind.REMEDIATE: FilterAction.REMEDIATE,
    VerdictKind.URL_APPEND_STRING: FilterAction.REMEDIATE,
}
_OPEN_FREE = Open(False, False)


class FilterMisuse(NetworkExtensionError):
    """A verdict at a time when none can be given; the text says what the flow's state is."""


class FilterLimits(NamedTuple):
    """Bounds of a flow under filters; times in seconds."""

    deadline: float = 10.0
    """For each question."""
    most_held: int = 65536
    """Bytes of a direction that are waited for before what is there is shown. A sender's window ends sooner."""
    quiet: float = 0.05
    """How long nothing may come before what is there is shown."""
    datagram_pause: float = 10.0
    """How long a UDP flow may be paused (Apple's figure)."""


DEFAULT_LIMITS = FilterLimits()


class FilterSlot:
    """One filter's place in the order, and what is known about it."""

    __slots__ = ("_policy", "ask", "grade", "index", "kind", "matcher", "name", "state")

    def __init__(
        self, index: int, name: str, grade: FilterGrade = FilterGrade.FIREWALL, policy: Policy | None = None
    ) -> None:
        self.index, self.name, self.grade, self._policy = index, name, grade, policy
        self.kind = "filter-data"
        self.state = ProviderState.STARTING
        self.matcher: FilterRuleMatcher | None = None
        """The rules in force; None: no rules, every flow is asked about."""
        self.ask = AskNewFlow(index)

    @property
    def policy(self) -> Policy:
        """The explicit policy; without one, open."""
        return self._policy or Policy.OPEN


class _Place:
    """What one flow remembers of one filter that said more than allow."""

    __slots__ = ("control_deadline", "frequency", "paused_until", "reported", "resumes", "rounds")

    def __init__(self) -> None:
        self.paused_until: float | None = None
        self.resumes = ""
        """While paused: "new flow", or the name of a direction."""
        self.reported = False
        self.frequency = FilterReportFrequency.NONE
        self.rounds = 0
        self.control_deadline: float | None = None
        """While the control provider is asked: until when it may think."""


class FlowFilter:
    """One flow under all filters of a datapath, which `slots` has in the order in which they are asked."""

    __slots__ = (
        "_asked_until",
        "_control_for",
        "_facts",
        "_is_datagram",
        "_limits",
        "_peeks",
        "_places",
        "_position",
        "_protocol",
        "_slots",
        "_streams",
        "by",
        "is_final",
        "outcome",
        "reason",
        "wants_reports",
    )

    def __init__(
        self,
        slots: Sequence[FilterSlot],
        facts: FlowFacts,
        *,
        is_datagram: bool,
        protocol: int,
        limits: FilterLimits | None = None,
    ) -> None:
        self._slots, self._facts, self._limits = slots, facts, limits or DEFAULT_LIMITS
        self._is_datagram, self._protocol = is_datagram, protocol
        self._position = -1
        self._asked_until: float | None = None
        self._places: dict[int, _Place] | None = None
        self._peeks: dict[int, FilterVerdict] | None = None
        """By place: what a filter wants to see once the flow has begun."""
        self._streams: dict[Direction, FilteredStream] | None = None
        self._control_for = ""
        self.by, self.reason, self.outcome = "", "", ""
        self.is_final = False
        self.wants_reports = False
        """Whether any filter asked for reports or statistics."""

    # The new flow

    def start(self, now: float) -> list[Step]:
        """The flow has begun: ask the first filter, or decide by rules."""
        return self._advance(now, [])

    def _advance(self, now: float, steps: list[Step]) -> list[Step]:
        slots = self._slots
        while True:
            self._position += 1
            if self._position >= len(slots):
                return self._begin(now, steps)
            slot = slots[self._position]
            action, rule = self._by_rules(slot)
            if action is FilterAction.ALLOW:
                self.by, self.reason = slot.name, rule
            elif action is FilterAction.DROP:
                return self._drop(steps, False, slot.name, rule)
            elif slot.state is ProviderState.RUNNING:
                self._asked_until = now + self._limits.deadline
                steps.append(slot.ask)
                return steps
            elif self._in_trouble(slot, TROUBLE_OF_STATE[slot.state], "", steps):
                return steps

    def _by_rules(self, slot: FilterSlot) -> tuple[FilterAction, str]:
        if slot.matcher is not None:
            return slot.matcher.decide(self._facts)
        facts = self._facts
        if facts.loopback or is_loopback(plain_address(facts.remote_address)):
            return FilterAction.ALLOW, "loopback needs a rule of its own"
        return FilterAction.FILTER_DATA, "default"

    def _begin(self, now: float, steps: list[Step]) -> list[Step]:
        """All filters have let it begin."""
        self._asked_until = None
        if self._peeks is None:
            self.is_final, self.outcome = True, "allowed"
            steps.append(_OPEN_FREE)
            return steps
        self._streams = {
            direction: FilteredStream(direction, self._sides(direction), self._is_datagram) for direction in _BOTH
        }
        held = {direction: not stream.is_free for direction, stream in self._streams.items()}
        steps.append(Open(held[INBOUND], held[OUTBOUND]))
        self.outcome = "filtered"
        return steps

    def _sides(self, direction: Direction) -> list[Side | None]:
        sides: list[Side | None] = []
        for place in range(len(self._slots)):
            verdict = self._peeks.get(place) if self._peeks else None
            if verdict is None:
                sides.append(None)
            elif direction is OUTBOUND:
                sides.append(Side(verdict.peek_outbound) if verdict.filter_outbound else None)
            else:
                sides.append(Side(verdict.peek_inbound) if verdict.filter_inbound else None)
        return sides

    def answer_new_flow(self, index: int, verdict: FilterVerdict, now: float) -> list[Step]:
        """A filter's verdict about the new flow. Raises FilterMisuse if it was not asked."""
        if self.is_final:
            return []
        slot = self._asked_slot(index)
        place = self._places.get(self._position) if self._places else None
        if place is not None and place.paused_until is not None:
            raise FilterMisuse(f"{slot.name}: the flow is paused; resume_flow ends that")
        return self._new_flow(slot, verdict, now)

    def _asked_slot(self, index: int) -> FilterSlot:
        position, slots = self._position, self._slots
        if self._streams is None and position < len(slots) and slots[position].index == index:
            return slots[position]
        raise FilterMisuse(f"filter {index} was not asked about this flow, which is {self.outcome or 'held'}")

    def _new_flow(self, slot: FilterSlot, verdict: FilterVerdict, now: float) -> list[Step]:
        steps: list[Step] = []
        kind = verdict.kind
        if kind is VerdictKind.PAUSE:
            self._asked_until = None
            self._pause(self._position, "new flow", now)
            return steps
        if kind is VerdictKind.NEED_RULES:
            self._asked_until = None
            return self._need_rules(self._position, "new flow", now)
        if verdict.should_report or verdict.statistics_report_frequency:
            self._note_reports(verdict, FilterReportEvent.NEW_FLOW, steps)
        if kind is VerdictKind.ALLOW:
            self.by, self.reason = slot.name, "handle_new_flow: allow"
            return self._advance(now, steps)
        if kind is VerdictKind.FILTER_DATA:
            self.by, self.reason = slot.name, "handle_new_flow: filter data"
            if verdict.filter_inbound or verdict.filter_outbound:
                self._peeks = self._peeks or {}
                self._peeks[self._position] = verdict
            return self._advance(now, steps)
        return self._end_by(slot, verdict, "handle_new_flow", steps)

    def _end_by(self, slot: FilterSlot, verdict: FilterVerdict, what: str, steps: list[Step]) -> list[Step]:
        """A verdict that ends the flow. Raises FilterMisuse for one that cannot be given here."""
        kind = verdict.kind
        if kind is VerdictKind.DROP:
            return self._drop(steps, verdict.silent, slot.name, f"{what}: drop")
        if kind is VerdictKind.REMEDIATE:
            step: Step = Remediate(slot.index, slot.name, verdict.url_map_key, verdict.button_text_map_key)
        elif kind is VerdictKind.URL_APPEND_STRING and what == "handle_new_flow":
            step = AppendString(slot.index, slot.name, verdict.url_map_key)
        else:
            raise FilterMisuse(f"{slot.name}: {kind.value} is no answer of {what}")
        self._end("remediated", slot.name, f"{what}: {kind.value}")
        steps.append(step)
        return steps

    # Pauses, resumes, control providers

    def _place(self, position: int) -> _Place:
        if self._places is None:
            self._places = {}
        place = self._places.get(position)
        if place is None:
            place = self._places[position] = _Place()
        return place

    def _pause(self, position: int, what: str, now: float) -> None:
        place = self._place(position)
        if place.paused_until is not None:
            raise FilterMisuse(f"{self._slots[position].name}: the flow is paused already")
        place.paused_until = now + self._limits.datagram_pause if self._protocol == UDP else float("inf")
        place.resumes = what

    def is_paused(self, index: int) -> bool:
        """Whether a filter has paused the flow."""
        if self.is_final or not self._places:
            return False
        place = self._places.get(self._position_of(index))
        return place is not None and place.paused_until is not None

    def resume(self, index: int, verdict: FilterVerdict, now: float) -> list[Step]:
        """End a pause with the verdict that the paused callback would have given. Raises FilterMisuse."""
        position = self._position_of(index)
        place = self._places.get(position) if self._places else None
        if self.is_final or place is None or place.paused_until is None:
            raise FilterMisuse(f"the flow is not paused: it is {self.outcome or 'held'}")
        what, slot = place.resumes, self._slots[position]
        if verdict.kind is VerdictKind.PAUSE:
            raise FilterMisuse("the flow is paused already; resume it with another verdict")
        if what == "new flow":
            if verdict.kind is VerdictKind.DATA:
                raise FilterMisuse("the flow was paused in handle_new_flow: resume it with a FilterNewFlowVerdict")
            place.paused_until = None
            return self._new_flow(slot, verdict, now)
        if verdict.kind in (VerdictKind.FILTER_DATA, VerdictKind.URL_APPEND_STRING):
            raise FilterMisuse("the flow was paused in a data callback: resume it with a FilterDataVerdict")
        place.paused_until = None
        return self._data(position, Direction[what], verdict, now)

    def _position_of(self, index: int) -> int:
        for position, slot in enumerate(self._slots):
            if slot.index == index:
                return position
        raise FilterMisuse(f"there is no filter {index}")

    def _need_rules(self, position: int, what: str, now: float) -> list[Step]:
        place, slot = self._place(position), self._slots[position]
        place.rounds += 1
        if place.rounds > MOST_ROUNDS:
            return self._drop([], False, slot.name, f"needed rules {MOST_ROUNDS} times over")
        place.resumes, place.control_deadline = what, now + self._limits.deadline
        return [AskControl(slot.index)]

    def control_answer(self, index: int, verdict: FilterVerdict, now: float) -> list[Step]:
        """The control provider's verdict in place of a filter's. Raises FilterMisuse if it was not asked."""
        position = self._position_of(index)
        place = self._places.get(position) if self._places else None
        if self.is_final:
            return []
        if place is None or place.control_deadline is None:
            raise FilterMisuse("the control provider was not asked about this flow")
        place.control_deadline = None
        what, slot = place.resumes, self._slots[position]
        if verdict.kind is VerdictKind.UPDATE_RULES:
            return self._ask_again(position, what, now)
        if verdict.kind is VerdictKind.DROP:
            return self._drop([], verdict.silent, slot.name, "control provider: drop")
        if what == "new flow":
            return self._new_flow(slot, verdict, now)
        return self._data(position, Direction[what], verdict, now)

    def _ask_again(self, position: int, what: str, now: float) -> list[Step]:
        """The rules have changed: the same question once more."""
        if what == "new flow":
            self._position = position - 1
            return self._advance(now, [])
        stream = self._stream(Direction[what])
        side = stream.sides[position]
        assert side is not None
        side.state, side.seen = SideState.WAITING, -1
        return self._pump(stream, now, [])

    def answer_remediation(self, index: int, verdict: FilterVerdict, now: float) -> list[Step]:
        """What `handle_remediation` said after `AskRemediation`: as its answer to the question before."""
        position = self._position_of(index)
        if self.is_final:
            return []
        if verdict.kind is VerdictKind.NEED_RULES:
            return self._need_rules(position, "new flow", now)
        return self.answer_new_flow(index, verdict, now)

    # Data

    def received(self, direction: Direction, data: bytes, now: float) -> list[Step]:
        """The next bytes of a direction (UDP: one datagram). Nothing happens where no filter looks."""
        if self.is_final or self._streams is None or not data:
            return []
        stream = self._streams[direction]
        if stream.is_free:
            return []
        stream.add(data, now)
        if len(stream.data) >= self._limits.most_held:
            stream.urged = True
        return self._pump(stream, now, [])

    def ended(self, direction: Direction, now: float) -> list[Step]:
        """No more bytes come in a direction."""
        if self.is_final or self._streams is None:
            return []
        stream = self._streams[direction]
        stream.ended = True
        return self._pump(stream, now, [])

    def _stream(self, direction: Direction) -> FilteredStream:
        if self._streams is None or direction not in self._streams:
            raise FilterMisuse(f"no bytes are filtered: the flow is {self.outcome or 'held'}")
        return self._streams[direction]

    def _pump(self, stream: FilteredStream, now: float, steps: list[Step]) -> list[Step]:
        """Show what is due, release what all have passed."""
        for position, side in enumerate(stream.sides):
            if side is None or side.state is not SideState.WAITING or self._is_held_up(position):
                continue
            data_due, end_due = stream.due(position)
            if data_due:
                data = stream.shown(position)
                side.state, side.deadline = SideState.ASKED, now + self._limits.deadline
                side.seen = side.passed + len(data)
                steps.append(AskData(self._slots[position].index, stream.direction, side.passed, data))
            elif end_due:
                side.state, side.deadline = SideState.ENDING, now + self._limits.deadline
                steps.append(AskComplete(self._slots[position].index, stream.direction))
            else:
                self._watch_if_stuck(stream, position, side, now)
        self._release(stream, steps)
        return steps

    def _is_held_up(self, position: int) -> bool:
        """Whether a filter has paused the flow, is asked about the other direction, or the control provider thinks in
        its place: a filter gets one question at a time, and none then."""
        if self._rests(position):
            return True
        for stream in self._streams.values() if self._streams else ():
            side = stream.sides[position]
            if side is not None and side.state in (SideState.ASKED, SideState.ENDING):
                return True
        return False

    def _rests(self, position: int) -> bool:
        """Whether a filter's time stands still: it has paused the flow, or the control provider is asked."""
        place = self._places.get(position) if self._places else None
        return place is not None and (place.paused_until is not None or place.control_deadline is not None)

    def _watch_if_stuck(self, stream: FilteredStream, position: int, side: Side, now: float) -> None:
        """It was shown everything and wants more, which may never come: its deadline runs."""
        waits = stream.visible(position) > side.passed
        if not waits:
            side.deadline = None
        elif side.deadline is None:
            side.deadline = now + self._limits.deadline

    def _release(self, stream: FilteredStream, steps: list[Step]) -> None:
        passed = stream.passed
        if passed > stream.released:
            stream.released = passed
            stream.trim()
            steps.append(Pass(stream.direction, passed))
            if passed >= FLOW_BYTES_MAX:
                self._allow_if_free()

    def _allow_if_free(self) -> None:
        if self._streams is not None and all(stream.released >= FLOW_BYTES_MAX for stream in self._streams.values()):
            self.is_final, self.outcome = True, "allowed"

    def answer_data(self, index: int, direction: Direction, verdict: FilterVerdict, now: float) -> list[Step]:
        """A filter's verdict about bytes. Raises FilterMisuse if it was not asked."""
        return self._answer_side(index, direction, SideState.ASKED, verdict, now)

    def answer_complete(self, index: int, direction: Direction, verdict: FilterVerdict, now: float) -> list[Step]:
        """A filter's last verdict about a direction: allow or drop; `data` counts as allow: nothing more comes."""
        return self._answer_side(index, direction, SideState.ENDING, verdict, now)

    def _answer_side(
        self, index: int, direction: Direction, state: SideState, verdict: FilterVerdict, now: float
    ) -> list[Step]:
        if self.is_final:
            return []
        position, stream = self._position_of(index), self._stream(direction)
        side = stream.sides[position]
        if side is None or side.state is not state:
            if side is not None and side.state is SideState.FREE:
                return []  # update_flow was quicker
            raise FilterMisuse(f"{self._slots[position].name} was not asked about {direction.name.lower()} bytes")
        return self._data(position, direction, verdict, now)

    def _data(self, position: int, direction: Direction, verdict: FilterVerdict, now: float) -> list[Step]:
        """A verdict about bytes, or about their end."""
        stream, slot, steps = self._stream(direction), self._slots[position], list[Step]()
        side, kind = stream.sides[position], verdict.kind
        assert side is not None
        ending = side.state in (SideState.ENDING, SideState.ENDING_PAUSED)
        side.deadline = None
        if kind is VerdictKind.PAUSE:
            self._pause(position, direction.name, now)
            side.state = SideState.ENDING_PAUSED if ending else SideState.PAUSED
            return steps
        if kind is VerdictKind.NEED_RULES:
            return self._need_rules(position, direction.name, now)
        if kind in _ACTIONS and (verdict.should_report or verdict.statistics_report_frequency):
            self._note_reports(verdict, FilterReportEvent.DATA_DECISION, steps, position)
        what = f"handle_{direction.name.lower()}_data{'_complete' if ending else ''}"
        if kind is VerdictKind.ALLOW or (ending and kind is VerdictKind.DATA):
            self.by, self.reason = slot.name, f"{what}: allow"
            side.free()
        elif kind is VerdictKind.DATA:
            side.state, side.peek = SideState.WAITING, verdict.peek_bytes
            side.passed = min(side.passed + verdict.pass_bytes, FLOW_BYTES_MAX)
            if verdict.pass_bytes:
                side.seen = -1
            if side.passed >= FLOW_BYTES_MAX:
                side.free()
        else:
            return self._end_by(slot, verdict, what, steps)
        return self._pump_all(now, steps)

    def _pump_all(self, now: float, steps: list[Step]) -> list[Step]:
        """An answer may release what waits in the other direction as well (a pause has ended)."""
        for stream in self._streams.values() if self._streams else ():
            if not self.is_final:
                self._pump(stream, now, steps)
        return steps

    def update(self, index: int, verdict: FilterVerdict, direction: Direction, now: float) -> list[Step]:
        """A change from outside of a callback: allow, drop, or pass and peek. Raises FilterMisuse."""
        position = self._position_of(index)
        slot = self._slots[position]
        if verdict.kind is VerdictKind.DROP:
            if self.outcome == "dropped":
                return []
            self.is_final = False
            return self._drop([], verdict.silent, slot.name, "update_flow: drop")
        if verdict.kind not in (VerdictKind.ALLOW, VerdictKind.DATA):
            raise FilterMisuse(f"update_flow: {verdict.kind.value} cannot be given; allow, drop and data can")
        if self._streams is None and not self.is_final:
            raise FilterMisuse("update_flow: the flow has not begun yet; end its pause with resume_flow")
        if self.outcome in ("dropped", "remediated"):
            raise FilterMisuse(f"update_flow: the flow has been {self.outcome}")
        steps: list[Step] = []
        for one in _BOTH if direction is Direction.ANY else (direction,):
            self._update_side(position, one, verdict, steps, now)
        self.by, self.reason = slot.name, f"update_flow: {verdict.kind.value}"
        return self._pump_all(now, steps)

    def _update_side(
        self, position: int, direction: Direction, verdict: FilterVerdict, steps: list[Step], now: float
    ) -> None:
        if self._streams is None:
            nobody: list[Side | None] = [None] * len(self._slots)
            self._streams = {one: FilteredStream(one, list(nobody), self._is_datagram) for one in _BOTH}
        stream = self._streams[direction]
        side, place = stream.sides[position], self._places.get(position) if self._places else None
        if place is not None and place.resumes == direction.name:
            place.paused_until = place.control_deadline = None
        if verdict.kind is VerdictKind.ALLOW:
            if side is not None:
                side.free()
            return
        if side is None or side.state is SideState.FREE:
            was_free = stream.is_free
            side = stream.sides[position] = Side(verdict.peek_bytes, stream.total)
            if was_free:
                self.is_final, self.outcome, stream.released = False, "filtered", stream.total
                steps.append(Hold(direction))
        else:
            side.state, side.peek = SideState.WAITING, verdict.peek_bytes
        side.seen = -1
        side.passed = min(side.passed + verdict.pass_bytes, FLOW_BYTES_MAX)
        if side.passed >= FLOW_BYTES_MAX:
            side.free()

    # Trouble, time, and the end

    def trouble(self, index: int, trouble: Trouble, detail: str, now: float) -> list[Step]:
        """A filter gives no answer: its policy decides, if it has a say in this flow any more."""
        if self.is_final:
            return []
        position = self._position_of(index)
        slot, steps = self._slots[position], list[Step]()
        if self._streams is None:
            if position != self._position:
                if (
                    self._peeks is not None
                    and position in self._peeks
                    and not self._in_trouble(slot, trouble, detail, steps)
                ):
                    del self._peeks[position]
                    self._peeks = self._peeks or None
                return steps
            if self._in_trouble(slot, trouble, detail, steps):
                return steps
            self._forget_pause(position)
            return self._advance(now, steps)
        mine = [side for stream in self._streams.values() if (side := stream.sides[position]) is not None]
        if all(side.state is SideState.FREE for side in mine) or self._in_trouble(slot, trouble, detail, steps):
            return steps
        self._forget_pause(position)
        for side in mine:
            side.free()
        return self._pump_all(now, steps)

    def _forget_pause(self, position: int) -> None:
        if self._places and (place := self._places.get(position)) is not None:
            place.paused_until = place.control_deadline = None

    def _in_trouble(self, slot: FilterSlot, trouble: Trouble, detail: str, steps: list[Step]) -> bool:
        """Whether the policy ends the flow."""
        words = f"{slot.name} {trouble.value}{f' ({detail})' if detail else ''}; policy {slot.policy.value}"
        if ON_TROUBLE[trouble, slot.policy] is Action.REFUSE:
            self._drop(steps, False, "policy", words)
            return True
        self.by, self.reason = "policy", words
        return False

    @property
    def next_deadline(self) -> float | None:
        """When `tick` has something to do; None: never."""
        if self.is_final:
            return None
        times = [self._asked_until]
        if self._places:
            for place in self._places.values():
                times += [place.paused_until, place.control_deadline]
        if self._streams:
            for stream in self._streams.values():
                times += [
                    side.deadline
                    for position, side in enumerate(stream.sides)
                    if side is not None and not self._rests(position)
                ]
                if self._may_be_urged(stream):
                    times.append(stream.changed_at + self._limits.quiet)
        return min((time for time in times if time is not None and time != float("inf")), default=None)

    @staticmethod
    def _may_be_urged(stream: FilteredStream) -> bool:
        if stream.urged or stream.is_datagram:
            return False
        for position, side in enumerate(stream.sides):
            if side is not None and side.state is SideState.WAITING:
                visible = stream.visible(position)
                if visible > side.passed and visible > side.seen:
                    return True
        return False

    def tick(self, now: float) -> list[Step]:
        """Time has passed: pauses of UDP flows, questions, and bytes that came to rest."""
        if self.is_final:
            return []
        if self._places:
            for position, place in self._places.items():
                if place.paused_until is not None and place.paused_until <= now:
                    name, seconds = self._slots[position].name, self._limits.datagram_pause
                    return self._drop([], False, name, f"paused for {seconds:g} s, which is all that UDP gets")
                if place.control_deadline is not None and place.control_deadline <= now:
                    return self._slow(position, "the control provider", now)
        if self._asked_until is not None and self._asked_until <= now:
            return self._slow(self._position, "handle_new_flow", now)
        steps: list[Step] = []
        for stream in self._streams.values() if self._streams else ():
            self._tick_stream(stream, now, steps)
        return steps

    def _tick_stream(self, stream: FilteredStream, now: float, steps: list[Step]) -> None:
        if self.is_final:
            return
        if self._may_be_urged(stream) and stream.changed_at + self._limits.quiet <= now:
            stream.urged = True
            self._pump(stream, now, steps)
        for position, side in enumerate(stream.sides):
            if side is None or side.deadline is None or side.deadline > now or self._rests(position):
                continue
            if not self.is_final:
                steps += self._slow(position, f"{stream.direction.name.lower()} data", now)

    def _slow(self, position: int, what: str, now: float) -> list[Step]:
        return self.trouble(self._slots[position].index, Trouble.SLOW, what, now)

    def closed(self, now: float) -> list[Step]:
        """The flow is over: who asked for reports is told."""
        steps: list[Step] = []
        if self._places:
            action = FilterAction.DROP if self.outcome == "dropped" else FilterAction.ALLOW
            if self.outcome == "remediated":
                action = FilterAction.REMEDIATE
            for position, place in self._places.items():
                if place.reported:
                    steps.append(Report(self._slots[position].index, action, FilterReportEvent.FLOW_CLOSED))
                    place.reported = False
        if not self.is_final:
            self._end("gone", self.by, self.reason or "the program gave up")
        return steps

    def _note_reports(
        self, verdict: FilterVerdict, event: FilterReportEvent, steps: list[Step], position: int | None = None
    ) -> None:
        """Remember who wants to hear of this flow."""
        place = self._place(self._position if position is None else position)
        self.wants_reports = True
        if verdict.statistics_report_frequency:
            place.frequency = verdict.statistics_report_frequency
        if verdict.should_report:
            place.reported = True
            index = self._slots[self._position if position is None else position].index
            steps.append(Report(index, _ACTIONS.get(verdict.kind, FilterAction.INVALID), event))

    @property
    def statistics(self) -> list[tuple[int, FilterReportFrequency]]:
        """Which filters want byte counts from time to time, and how often."""
        if not self._places:
            return []
        return [(self._slots[at].index, place.frequency) for at, place in self._places.items() if place.frequency]

    def _drop(self, steps: list[Step], silent: bool, by: str, reason: str) -> list[Step]:
        self._end("dropped", by, reason)
        steps.append(Drop(silent, by, reason))
        return steps

    def _end(self, outcome: str, by: str, reason: str) -> None:
        self.is_final, self.outcome, self.by, self.reason = True, outcome, by, reason
        self._asked_until = None
        self._streams = None


__all__ = [
    "AppendString",
    "AskComplete",
    "AskControl",
    "AskData",
    "AskNewFlow",
    "AskRemediation",
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
