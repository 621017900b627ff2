"""One direction of a flow whose bytes filters want to see: what is held, what each filter has passed, what is due.

Every filter has a place in a row. It is shown the bytes that the ones before it have passed, from the byte after the
last one that it passed itself. What all have passed is released. For each filter and direction (`Side`, table `NEXT`):

      ┌────── peek bytes are there, or the end, or time: data ──────▶ ASKED ────────pause──▶ PAUSED
      │ ◀──────────────── data(pass, peek) ────────────────────────── │ ◀──resume, as the answer──┘
    WAITING                                                           allow
      │                                                               ▼
      └────── the end, and nothing new to show: complete ──▶ ENDING ──▶ FREE ──update_flow(data)──▶ WAITING

    (a drop, from wherever, ends the whole flow)

When is a side shown what is there? As soon as it has `peek` bytes; at once if it asked for as much as there is, after
`peek` 0, or if the flow carries datagrams, whose boundaries are what a sender meant. With fewer bytes: at the end of
the stream, when `most_held` bytes are held, and when nothing came for `quiet` seconds. The last two are not whims: held
bytes are not acknowledged, so a sender stops when its window is used up (ten segments at first, RFC 6928), and whoever
waits for more than that waits for ever.

A pass may be larger than what is there: it counts for what comes. A pass of all there will ever be is an allow,
whatever peek goes with it. The same bytes are not shown twice unless some before them were passed, or more have come.
A filter that passes nothing and wants more than can come is stuck; its deadline decides then, by its policy.

Datagrams are shown one at a time, whole, or as many as it takes for `peek` bytes.
"""

from __future__ import annotations

from enum import Enum

from ..filter_verdicts import FLOW_BYTES_MAX
from ..rules import Direction
from .filter_answers import Question


class SideState(Enum):
    """Where one filter is with one direction."""

    FREE = "free"
    WAITING = "waiting"
    ASKED = "asked"
    PAUSED = "paused"
    ENDING = "ending"
    ENDING_PAUSED = "ending, paused"


class SideEvent(Enum):
    """What can happen to it."""

    SHOWN = "bytes are shown to the filter"
    TOLD = "the filter is told of the end"
    ADVANCED = "it answered with data(pass, peek)"
    AGAIN = "the same question is put once more: its rules have changed"
    PAUSED = "it paused the flow"
    RESUMED = "it ended its pause"
    UPDATED = "update_flow with data(pass, peek)"
    ALLOWED = "it let the rest go"


NEXT: dict[tuple[SideState, SideEvent], SideState] = {
    (SideState.WAITING, SideEvent.SHOWN): SideState.ASKED,
    (SideState.WAITING, SideEvent.TOLD): SideState.ENDING,
    (SideState.WAITING, SideEvent.UPDATED): SideState.WAITING,
    (SideState.ASKED, SideEvent.ADVANCED): SideState.WAITING,
    (SideState.ASKED, SideEvent.AGAIN): SideState.WAITING,
    (SideState.ASKED, SideEvent.PAUSED): SideState.PAUSED,
    (SideState.ASKED, SideEvent.UPDATED): SideState.ASKED,  # the answer that is on its way counts, too
    (SideState.PAUSED, SideEvent.RESUMED): SideState.ASKED,  # the answer that the pause put off follows at once
    (SideState.PAUSED, SideEvent.UPDATED): SideState.WAITING,
    (SideState.ENDING, SideEvent.AGAIN): SideState.WAITING,
    (SideState.ENDING, SideEvent.PAUSED): SideState.ENDING_PAUSED,
    (SideState.ENDING, SideEvent.UPDATED): SideState.ENDING,
    (SideState.ENDING_PAUSED, SideEvent.RESUMED): SideState.ENDING,
    (SideState.ENDING_PAUSED, SideEvent.UPDATED): SideState.WAITING,
    (SideState.FREE, SideEvent.UPDATED): SideState.WAITING,
    **{(state, SideEvent.ALLOWED): SideState.FREE for state in SideState},
}
"""All that may happen; what is not here is a fault of the machine."""


class Side:
    """One filter's view of one direction."""

    __slots__ = ("deadline", "passed", "peek", "question", "seen", "shown_from", "state")

    def __init__(self, peek: int) -> None:
        self.state = SideState.WAITING
        self.passed = 0
        """Bytes from the start that it has passed; may lie ahead of what has come."""
        self.peek = peek
        self.seen = -1
        """How many bytes from the start it had been shown when it answered last; -1: show whatever is there."""
        self.shown_from = 0
        """Where the bytes begin that it was shown last: what its answer counts from."""
        self.question: Question | None = None
        """What it was asked and has not answered, even if `update_flow` made the answer needless meanwhile."""
        self.deadline: float | None = None

    def move(self, event: SideEvent) -> None:
        """The only way to another state."""
        self.state = NEXT[self.state, event]

    def ask(self, question: Question, deadline: float) -> None:
        """A question goes out."""
        self.move(SideEvent.SHOWN if question is Question.DATA else SideEvent.TOLD)
        self.question, self.deadline = question, deadline

    def advance(self, pass_bytes: int, peek: int, start: int) -> None:
        """Pass that many bytes from `start`, never fewer than have been passed already."""
        before, self.peek = self.passed, peek
        self.passed = min(max(self.passed, start + pass_bytes), FLOW_BYTES_MAX)
        if self.passed > before:
            self.seen = -1
        if self.passed >= FLOW_BYTES_MAX:
            self.free()

    def free(self) -> None:
        """It has nothing more to say about this direction. An answer that is due keeps its deadline."""
        self.move(SideEvent.ALLOWED)
        self.passed = FLOW_BYTES_MAX
        if self.question is None:
            self.deadline = None


class FilteredStream:
    """The bytes of one direction that have come and are not released, and the sides of all filters on it."""

    __slots__ = ("_ends", "base", "changed_at", "data", "direction", "ended", "released", "sides", "urged")

    def __init__(self, direction: Direction, sides: list[Side | None], is_datagram: bool) -> None:
        self.direction, self.sides = direction, sides
        """A side is None for a filter that never wanted this direction."""
        self.data = bytearray()
        self.base = 0
        """The offset of the first byte in `data`."""
        self._ends: list[int] | None = [] if is_datagram else None
        """Where the datagrams in `data` end."""
        self.released = FLOW_BYTES_MAX if self.is_free else 0
        self.ended = False
        self.urged = False
        """Show what is there although it is less than was asked for."""
        self.changed_at = 0.0
        """When bytes came last."""

    @property
    def total(self) -> int:
        """Bytes that have come so far."""
        return self.base + len(self.data)

    @property
    def is_free(self) -> bool:
        """Whether no filter holds anything back here, now or later."""
        return self.passed >= FLOW_BYTES_MAX

    @property
    def passed(self) -> int:
        """Bytes that every filter has passed."""
        least = FLOW_BYTES_MAX
        for side in self.sides:
            if side is not None and side.passed < least:
                least = side.passed
        return least

    def visible(self, place: int) -> int:
        """Bytes from the start that the filter at `place` may see: what the ones before it have passed."""
        most = total = self.total
        for side in self.sides[:place]:
            if side is not None and side.passed < most:
                most = side.passed
        if self._ends is not None and most < total:  # of a datagram, all or nothing
            return max((end for end in self._ends if end <= most), default=self.base)
        return most

    def add(self, data: bytes, now: float) -> None:
        """The next bytes of the stream; of a free one only their number is kept."""
        if self.is_free:
            self.base += len(data)
            return
        self.data += data
        self.changed_at = now
        if self._ends is None:
            self.urged = False
        else:
            self._ends.append(self.total)

    def has_news(self, place: int) -> bool:
        """Whether there are bytes that the filter at `place` has neither passed nor been shown when it answered."""
        side = self.sides[place]
        return side is not None and self.visible(place) > max(side.passed, side.seen)

    def due(self, place: int) -> Question | None:
        """For a waiting side: are bytes to be shown to it, or the end?"""
        side = self.sides[place]
        if side is None or side.state is not SideState.WAITING or side.question is not None:
            return None
        visible = self.visible(place)
        at_end = self.ended and visible == self.total
        if visible > max(side.passed, side.seen):
            enough = visible >= self._wanted(side) or self._ends is not None or self.urged or at_end
            return Question.DATA if enough else None
        return Question.COMPLETE if at_end else None

    @staticmethod
    def _wanted(side: Side) -> int:
        """How many bytes from the start it waits for: something new in any case."""
        least = max(side.passed, side.seen) + 1
        return least if side.peek >= FLOW_BYTES_MAX else max(least, side.passed + side.peek)

    def may_be_urged(self) -> bool:
        """Whether a side waits for more than has come."""
        if self.urged or self._ends is not None:
            return False
        return any(
            side is not None and side.state is SideState.WAITING and self.has_news(place)
            for place, side in enumerate(self.sides)
        )

    def shown(self, place: int) -> bytes:
        """What the filter at `place` is shown now: as much as it asked for; all there is where it named no number."""
        side = self.sides[place]
        assert side is not None
        end, wanted = self.visible(place), self._wanted(side)
        if self._ends is not None and side.peek < FLOW_BYTES_MAX:
            end = min((one for one in self._ends if wanted <= one <= end), default=end)
        elif 0 < side.peek < FLOW_BYTES_MAX:
            end = min(end, wanted)
        side.shown_from, side.seen = side.passed, end
        with memoryview(self.data) as view:
            return bytes(view[side.passed - self.base : end - self.base])

    def hold_again(self) -> None:
        """A direction that was free is held from the next byte on."""
        self.released, self.urged = self.total, False

    def trim(self) -> None:
        """Forget what no filter needs to see any more."""
        drop = min(self.passed, self.total) - self.base
        if drop > 0:
            del self.data[:drop]
            self.base += drop
            if self._ends is not None:
                self._ends = [end for end in self._ends if end > self.base]
