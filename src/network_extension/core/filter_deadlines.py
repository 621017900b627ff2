"""The times of a flow under filters: questions, pauses of UDP, and bytes that have come to rest.

Whoever holds a `FlowFilter` calls `tick` when `next_deadline` has come. Nothing else here knows that time passes.
"""

from __future__ import annotations

from .filter_inspection import FlowInspection
from .filter_steps import Step
from .filter_stream import FilteredStream, Side, SideState
from .flow_decision import Trouble


class FlowDeadlines(FlowInspection):
    """What becomes due of a flow's verdict machine."""

    __slots__ = ()

    def _has_a_say(self, position: int) -> bool:
        """Whether a filter has the flow before it, or holds bytes of it, or will."""
        if position >= self._position:
            return position == self._position
        if self._streams is None:
            return self._looks is not None and bool(self._looks.get(position))
        sides = [stream.sides[position] for stream in self._streams.values()]
        return any(side is not None and side.state is not SideState.FREE for side in sides)

    @property
    def next_deadline(self) -> float | None:
        """When `tick` has something to do; None: never."""
        if self.is_final:
            return None
        if self._places is None and self._streams is None:
            return self._asked_until
        times = [self._asked_until]
        for place in self._places.values() if self._places else ():
            times += (place.paused_until, place.control_deadline)
        for stream in self._streams.values() if self._streams else ():
            times += [side.deadline for _, side in self._timed(stream)]
            if stream.may_be_urged():
                times.append(stream.changed_at + self._limits.quiet)
        soonest = min((time for time in times if time is not None), default=float("inf"))
        return soonest if soonest < float("inf") else None

    def _timed(self, stream: FilteredStream) -> list[tuple[int, Side]]:
        """The sides whose time runs: not those of a filter that has paused, or needs rules."""
        sides = enumerate(stream.sides)
        return [
            (at, side) for at, side in sides if side is not None and side.deadline is not None and not self._rests(at)
        ]

    def tick(self, now: float) -> list[Step]:
        """Time has passed: pauses of UDP flows, questions, and bytes that came to rest."""
        steps: list[Step] = []
        while (deadline := self.next_deadline) is not None and deadline <= now:
            steps += self._tick_flow(now) or self._tick_streams(now)
        return steps

    def _tick_flow(self, now: float) -> list[Step]:
        """Times of the flow as a whole; no steps: nothing is due."""
        for position, place in (self._places or {}).items():
            if place.paused_until is not None and place.paused_until <= now:
                name, seconds = self._slots[position].name, self._limits.datagram_pause
                return self._drop([], False, name, f"paused for {seconds:g} s, which is all that UDP gets")
            if place.control_deadline is not None and place.control_deadline <= now:
                return self._slow(position, "the control provider", now)
        if self._asked_until is not None and self._asked_until <= now:
            return self._slow(self._position, "handle_new_flow", now)
        return []

    def _tick_streams(self, now: float) -> list[Step]:
        steps: list[Step] = []
        for stream in list(self._streams.values()) if self._streams else ():
            if not self.is_final and stream.may_be_urged() and stream.changed_at + self._limits.quiet <= now:
                stream.urged = True
                self._pump(stream, now, steps)
            for position, side in self._timed(stream):
                if not self.is_final and side.deadline is not None and side.deadline <= now:
                    steps += self._side_due(stream, position, side, now)
        return steps

    def _side_due(self, stream: FilteredStream, position: int, side: Side, now: float) -> list[Step]:
        """A filter did not answer, or waits for more than comes; what has come since it looked last is shown first."""
        if side.question is None and not stream.urged and stream.has_news(position):
            stream.urged, side.deadline = True, None
            return self._pump(stream, now, [])
        if not self._has_a_say(position):
            side.deadline = None
            return []
        if side.question is None:
            return self._slow(position, f"wants more {stream.direction.name.lower()} bytes than come", now)
        return self._slow(position, f"{stream.direction.name.lower()} data", now)

    def _slow(self, position: int, what: str, now: float) -> list[Step]:
        return self.trouble(self._slots[position].index, Trouble.SLOW, what, now)
