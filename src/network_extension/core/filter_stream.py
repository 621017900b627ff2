"""One direction of a flow whose bytes filters want to see: what is held, what each filter has passed, what is due.

Every filter has a place in a row. It is shown the bytes that the ones before it have passed, from the byte after the
last one that it passed itself. What all have passed is released. For each filter and direction (`Side`):

      ┌──────────── bytes, the end, or time ───────────┐
      │                                                ▼
    WAITING ──────────────▶ ASKED ──allow──▶ FREE    ENDING ──allow──▶ FREE      (drop: the whole flow ends)
      ▲                       │ │
      └───── pass, peek ──────┘ └─pause──▶ PAUSED ──resume──▶ as the answer

When is a side shown what is there? As soon as it has `peek` bytes; at once if it asked for as much as there is, or if
the flow carries datagrams, whose boundaries are what a sender meant. With fewer bytes: at the end of the stream, when
`most_held` bytes are held, and when nothing came for `quiet` seconds. The last two are not whims: held bytes are not
acknowledged, so a sender stops when its window is used up (ten segments at first, RFC 6928), and whoever waits for more
than that waits for ever.

The same bytes are not shown twice unless some of them were passed, or more have come. A filter that passes nothing and
wants more than can come is *stuck*; its deadline decides then, by its policy.
"""

from __future__ import annotations

from enum import Enum

from ..filter_verdicts import FLOW_BYTES_MAX
from ..rules import Direction


class SideState(Enum):
    """Where one filter is with one direction."""

    FREE = "free"
    WAITING = "waiting"
    ASKED = "asked"
    PAUSED = "paused"
    ENDING = "ending"
    ENDING_PAUSED = "ending, paused"


class Side:
    """One filter's view of one direction."""

    __slots__ = ("deadline", "passed", "peek", "seen", "state")

    def __init__(self, peek: int, passed: int = 0) -> None:
        self.state = SideState.WAITING
        self.passed = passed
        """Bytes from the start that it has passed; may lie ahead of what has come."""
        self.peek = peek
        self.seen = -1
        """How many bytes from the start it had been shown when it answered last; -1: show whatever is there."""
        self.deadline: float | None = None

    def free(self) -> None:
        """It has nothing more to say about this direction."""
        self.state, self.passed, self.deadline = SideState.FREE, FLOW_BYTES_MAX, None


class FilteredStream:
    """The bytes of one direction that have come and are not released, and the sides of all filters on it."""

    __slots__ = ("base", "changed_at", "data", "direction", "ended", "is_datagram", "released", "sides", "urged")

    def __init__(self, direction: Direction, sides: list[Side | None], is_datagram: bool) -> None:
        self.direction, self.sides, self.is_datagram = direction, sides, is_datagram
        """A side is None for a filter that never wanted this direction."""
        self.data = bytearray()
        self.base = 0
        """The offset of the first byte in `data`."""
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
        return min((side.passed for side in self.sides if side is not None), default=FLOW_BYTES_MAX)

    def visible(self, place: int) -> int:
        """Bytes from the start that the filter at `place` may see: what the ones before it have passed."""
        most = self.total
        for side in self.sides[:place]:
            if side is not None and side.passed < most:
                most = side.passed
        return most

    def add(self, data: bytes, now: float) -> None:
        """The next bytes of the stream."""
        self.data += data
        self.changed_at = now
        if not self.is_datagram:
            self.urged = False

    def due(self, place: int) -> tuple[bool, bool]:
        """For a waiting side: are bytes to be shown to it, or the end?"""
        side = self.sides[place]
        if side is None or side.state is not SideState.WAITING:
            return False, False
        visible, total = self.visible(place), self.total
        at_end = self.ended and visible == total
        fresh = visible > side.seen
        if visible > side.passed and fresh:
            there = visible - side.passed
            return at_end or self.is_datagram or self.urged or there >= max(1, _least(side.peek)), False
        return False, at_end

    def shown(self, place: int) -> bytes:
        """What the filter at `place` is shown now."""
        side = self.sides[place]
        assert side is not None
        visible = self.visible(place)
        # As many as it asked for; all there is where it asked for more, for datagrams, and for "as much as there is".
        count = visible - side.passed
        if not self.is_datagram and side.peek and side.peek < count:
            count = side.peek
        start = side.passed - self.base
        return bytes(self.data[start : start + count])

    def trim(self) -> None:
        """Forget what no filter needs to see any more."""
        drop = min(self.passed, self.total) - self.base
        if drop > 0:
            del self.data[:drop]
            self.base += drop


def _least(peek: int) -> int:
    """How many bytes have to be there before they are shown."""
    return 1 if peek >= FLOW_BYTES_MAX else peek
