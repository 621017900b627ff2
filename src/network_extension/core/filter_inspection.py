"""The bytes of a flow before its filters: shown, answered, released (reference §3.1, points 3 to 8).

Each direction is a `FilteredStream`. Rules that hold beyond it:

- a filter gets one question at a time, about one direction; its pause holds both;
- while anybody pauses, nothing that is held moves; what had been passed, or was never held, goes on;
- an answer counts from the bytes that it was shown, and what has been passed stays so: `update_flow` may come between;
- a direction that is let go by all is finally decided when both are.
"""

from __future__ import annotations

from ..errors import NetworkExtensionError
from ..filter_verdicts import FLOW_BYTES_MAX, FilterReportEvent, FilterVerdict, VerdictKind
from ..rules import Direction
from .filter_answers import ANSWERS, Effect, Question, callback
from .filter_slot import FilterMisuse
from .filter_standing import FlowStanding, Place
from .filter_steps import AskComplete, AskData, Hold, Pass, Step
from .filter_stream import FilteredStream, Side, SideEvent, SideState
from .flow_decision import Trouble

BOTH = (Direction.OUTBOUND, Direction.INBOUND)
_CLOSED_OUTCOMES = ("dropped", "remediated", "gone")


class FlowInspection(FlowStanding):
    """The data half of a flow's verdict machine."""

    __slots__ = ()

    def trouble(self, index: int, trouble: Trouble, detail: str, now: float) -> list[Step]:
        """A filter gives no answer: its policy decides."""
        raise NotImplementedError

    # Bytes come

    def given(self, direction: Direction) -> int:
        """Bytes of a direction that this machine has been given: where the count of `Pass` stands at a `Hold`."""
        return self._streams[direction].total if self._streams is not None else 0

    def received(self, direction: Direction, data: bytes, now: float) -> list[Step]:
        """The next bytes of a direction (UDP: one datagram). They are only counted where no filter looks."""
        if self._streams is None or not data:
            return []
        stream, steps = self._streams[direction], list[Step]()
        ahead = stream.total < stream.released
        stream.add(data, now)
        if self.is_final or stream.released >= FLOW_BYTES_MAX:
            return steps
        if ahead:  # they were passed before they came
            steps.append(Pass(direction, stream.released))
            stream.trim()
        if len(stream.data) >= self._limits.most_held:
            stream.urged = True
        return self._pump(stream, now, steps)

    def ended(self, direction: Direction, now: float) -> list[Step]:
        """No more bytes come in a direction."""
        if self._streams is None:
            return []
        stream = self._streams[direction]
        stream.ended = True
        return [] if self.is_final else self._pump(stream, now, [])

    def _pump(self, stream: FilteredStream, now: float, steps: list[Step]) -> list[Step]:
        """Release what all have passed, then show what is due: whoever answers at once finds it done."""
        self._release(stream, steps)
        for position, side in enumerate(stream.sides):
            if side is None or side.state is not SideState.WAITING or self._is_busy(position):
                continue
            question = stream.due(position)
            if question is None:
                self._watch_if_stuck(stream, position, side, now)
                continue
            side.ask(question, now + self._limits.deadline)
            index = self._slots[position].index
            if question is Question.DATA:
                data = stream.shown(position)
                steps.append(AskData(index, stream.direction, side.shown_from, data))
            else:
                steps.append(AskComplete(index, stream.direction))
        return steps

    def _pump_all(self, now: float, steps: list[Step]) -> list[Step]:
        """An answer may let the other direction go on as well."""
        for stream in self._streams.values() if self._streams else ():
            if not self.is_final:
                self._pump(stream, now, steps)
        return steps

    def _is_busy(self, position: int) -> bool:
        """Whether a filter is to be left alone: it has a question before it, has paused, or needs rules."""
        if self._rests(position):
            return True
        for stream in self._streams.values() if self._streams else ():
            side = stream.sides[position]
            if side is not None and side.question is not None:
                return True
        return False

    def _watch_if_stuck(self, stream: FilteredStream, position: int, side: Side, now: float) -> None:
        """It has been shown everything and wants more, which may never come: its deadline runs."""
        if stream.visible(position) <= side.passed:
            side.deadline = None
        elif side.deadline is None:
            side.deadline = now + self._limits.deadline

    def _release(self, stream: FilteredStream, steps: list[Step]) -> None:
        passed = stream.passed
        if passed <= stream.released or self._anybody_pauses:
            return
        stream.released = passed
        stream.trim()
        steps.append(Pass(stream.direction, passed))
        if self._streams is not None and all(one.released >= FLOW_BYTES_MAX for one in self._streams.values()):
            self.is_final, self.outcome = True, "allowed"

    # Answers

    def answer_data(self, index: int, direction: Direction, verdict: FilterVerdict, now: float) -> list[Step]:
        """A filter's verdict about bytes. Raises FilterMisuse if it was not asked."""
        return self._answer_side(index, direction, Question.DATA, verdict, now)

    def answer_complete(self, index: int, direction: Direction, verdict: FilterVerdict, now: float) -> list[Step]:
        """A filter's last verdict about a direction. Raises FilterMisuse if it was not asked."""
        return self._answer_side(index, direction, Question.COMPLETE, verdict, now)

    def _answer_side(
        self, index: int, direction: Direction, question: Question, verdict: FilterVerdict, now: float
    ) -> list[Step]:
        if self.is_closed or self.outcome in _CLOSED_OUTCOMES:
            return []
        position, stream = self._position_of(index), self._stream(direction)
        side = stream.sides[position]
        if side is None or side.question is not question:
            what = callback(question, direction)
            raise FilterMisuse(f"{self._slots[position].name} was not asked by {what}: the flow is {self.standing}")
        side.question = side.deadline = None
        if side.state not in (SideState.ASKED, SideState.ENDING):  # update_flow, or policy, was quicker
            return [] if self.is_final else self._pump_all(now, [])
        return self._data(position, direction, question, verdict, now)

    def _stream(self, direction: Direction) -> FilteredStream:
        if self._streams is None or direction not in self._streams:
            raise FilterMisuse(f"no bytes are filtered: the flow is {self.standing}")
        return self._streams[direction]

    def _side(self, position: int, direction: Direction) -> Side:
        side = self._stream(direction).sides[position]
        if side is None:
            raise NetworkExtensionError(f"a fault of the verdict machine: {self._slots[position].name} has no side")
        return side

    def _data(
        self, position: int, direction: Direction, question: Question, verdict: FilterVerdict, now: float
    ) -> list[Step]:
        """A verdict about bytes, or about their end: the two right columns of `filter_answers`."""
        side, slot, steps = self._side(position, direction), self._slots[position], list[Step]()
        what, effect = callback(question, direction), ANSWERS[question].get(verdict.kind)
        if effect is None:
            return self.trouble(slot.index, Trouble.RAISED, f"{verdict.kind.value} is no answer of {what}", now)
        if effect is Effect.CONTROL:
            return self._pump_all(now, self._need_rules(position, question, direction, now))
        self._note_reports(position, verdict, FilterReportEvent.DATA_DECISION, steps)
        if effect is Effect.END:
            return self._end_by(slot, verdict, what, steps)
        if effect is Effect.PAUSE:
            side.move(SideEvent.PAUSED)
            self._pause(position, question, direction, now)
            return steps
        if effect is Effect.FREE:
            side.free()
        else:
            side.move(SideEvent.ADVANCED)
            side.advance(verdict.pass_bytes, verdict.peek_bytes, side.shown_from)
        if side.state is SideState.FREE:
            self.by, self.reason = slot.name, f"{what}: allow"
        return self._pump_all(now, steps)

    # Updates

    def update(self, index: int, verdict: FilterVerdict, direction: Direction, now: float) -> list[Step]:
        """A change from outside of a callback: allow, drop, or pass and peek. Raises FilterMisuse."""
        position, kind, steps = self._position_of(index), verdict.kind, list[Step]()
        slot = self._slots[position]
        if kind not in (VerdictKind.ALLOW, VerdictKind.DATA, VerdictKind.DROP):
            raise FilterMisuse(f"update_flow: {kind.value} cannot be given; allow, drop and data can")
        if self.is_closed or self.outcome in _CLOSED_OUTCOMES:
            if kind is VerdictKind.DROP:
                return []
            raise FilterMisuse(f"update_flow: the flow is {self.standing}")
        if kind is not VerdictKind.DROP and position >= self._position:
            raise FilterMisuse(f"update_flow: the flow has not begun yet; it is {self.standing}")
        self._note_reports(position, verdict, FilterReportEvent.DATA_DECISION, steps)
        if kind is VerdictKind.DROP:
            return self._drop(steps, verdict.silent, slot.name, "update_flow: drop")
        self.by, self.reason = slot.name, f"update_flow: {kind.value}"
        for one in BOTH if direction is Direction.ANY else (direction,):
            if self.outcome:
                self._update_side(position, one, verdict, steps, now)
            else:
                self._update_look(position, one, verdict)
        return self._pump_all(now, steps)

    def _update_look(self, position: int, direction: Direction, verdict: FilterVerdict) -> None:
        """The flow is still before another filter: change what this one will see of it."""
        looks = self._looks = self._looks or {}
        sides = looks.setdefault(position, {})
        if verdict.kind is VerdictKind.ALLOW:
            sides.pop(direction, None)
        else:
            side = sides.setdefault(direction, Side(0))
            side.advance(verdict.pass_bytes, verdict.peek_bytes, side.passed)

    def _update_side(
        self, position: int, direction: Direction, verdict: FilterVerdict, steps: list[Step], now: float
    ) -> None:
        if self._streams is None:
            self._streams = {one: FilteredStream(one, [None] * len(self._slots), self._is_datagram) for one in BOTH}
        stream = self._streams[direction]
        side, place = stream.sides[position], self._places.get(position) if self._places else None
        if place is not None and place.rests and place.direction is direction:
            self._end_rest(position, place)
            if side is not None and side.question is None and side.state in (SideState.ASKED, SideState.ENDING):
                side.move(SideEvent.AGAIN)  # the control provider's answer is not waited for any more
        if verdict.kind is VerdictKind.ALLOW:
            if side is not None:
                side.free()
        elif side is None or side.state is SideState.FREE:
            self._hold_again(stream, position, verdict, steps)
            self._expect_answers(position, now)
        else:
            side.move(SideEvent.UPDATED)
            side.advance(verdict.pass_bytes, verdict.peek_bytes, side.passed)
            side.seen = -1

    def _hold_again(self, stream: FilteredStream, position: int, verdict: FilterVerdict, steps: list[Step]) -> None:
        """A filter that had nothing to say about a direction has, from the next byte on."""
        if verdict.pass_bytes >= FLOW_BYTES_MAX:
            return
        was_free, side = stream.is_free, stream.sides[position]
        if side is None:
            side = stream.sides[position] = Side(verdict.peek_bytes)
        else:
            side.move(SideEvent.UPDATED)
        side.passed, side.seen = stream.total, -1
        side.advance(verdict.pass_bytes, verdict.peek_bytes, stream.total)
        if was_free and stream.released >= FLOW_BYTES_MAX:
            self.is_final, self.outcome = False, "filtered"
            stream.hold_again()
            steps.append(Hold(stream.direction))

    def _expect_answers(self, position: int, now: float) -> None:
        """What the filter has not answered yet keeps it from being asked: not for ever."""
        for stream in self._streams.values() if self._streams else ():
            side = stream.sides[position]
            if side is not None and side.question is not None and side.deadline is None:
                side.deadline = now + self._limits.deadline

    def _end_rest(self, position: int, place: Place) -> None:
        """A pause is over, or the control provider's time: deadlines run again, from the beginning."""
        place.go_on()
        for stream in self._streams.values() if self._streams else ():
            side = stream.sides[position]
            if side is not None and side.question is None:
                side.deadline = None
