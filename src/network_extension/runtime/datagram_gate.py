"""Units that filters look at one by one, datagrams and echo messages: kept in order until all filters passed them.

Units arrive in the middle of batches, and what filters say to one may end the flow: they are shown after the batch.

A unit goes when its last byte has been passed; its boundaries stay. What comes while `MOST_KEPT` bytes or `MOST_UNITS`
units wait is lost, as in any full socket buffer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..filter_verdicts import FLOW_BYTES_MAX
from ..rules import Direction

if TYPE_CHECKING:
    from .filter_stage import FilterStage
    from .filtered_flow import FilteredFlow

MOST_KEPT, MOST_UNITS = 65536, 256


class DatagramGate:
    """One direction of a flow of datagrams. `send(unit)` takes what may go, in order."""

    __slots__ = (
        "_arrived",
        "_direction",
        "_flow",
        "_given",
        "_is_discarded",
        "_kept",
        "_kept_bytes",
        "_passed",
        "_prefix",
        "_soon",
        "_stage",
        "lost",
        "send",
    )

    def __init__(
        self,
        soon: Callable[[Callable[[], None]], None],
        stage: FilterStage,
        flow: FilteredFlow,
        direction: Direction,
        held: bool,
        send: Callable[[bytes], None],
        prefix: bytes = b"",
    ) -> None:
        """`soon` is the reactor's call_soon; `prefix` is shown to the filters before each unit, and not sent."""
        self._soon, self._stage, self._flow, self._direction = soon, stage, flow, direction
        self.send, self._prefix = send, prefix
        self._arrived: deque[bytes] = deque()
        self._kept: deque[tuple[int, bytes]] = deque()
        self._kept_bytes = self._given = self.lost = 0
        self._is_discarded = False
        self._passed = 0 if held else FLOW_BYTES_MAX

    @property
    def is_open(self) -> bool:
        """Whether nothing waits, and nothing will."""
        return not self._kept and not self._arrived and self._is_passed

    @property
    def keeps(self) -> int:
        """How many units wait."""
        return len(self._kept) + len(self._arrived)

    @property
    def _is_passed(self) -> bool:
        return self._passed >= FLOW_BYTES_MAX or self._flow.filter is None

    def arrive(self, datagram: bytes) -> None:
        """The next unit."""
        if self._is_discarded:
            return
        full = self.keeps >= MOST_UNITS or self._kept_bytes + len(datagram) > max(MOST_KEPT, len(datagram))
        if full:
            self.lost += 1
            return
        self._kept_bytes += len(datagram)
        self._arrived.append(datagram)
        if len(self._arrived) == 1:
            self._soon(self._show)

    def _show(self) -> None:
        while self._arrived:
            unit = self._arrived.popleft()
            data = self._prefix + unit
            self._given += len(data)
            self._kept.append((self._given, unit))
            if not self._is_passed:
                self._stage.received(self._flow, self._direction, data)
            self._release()  # one without content, or one that was passed before it came

    def let(self, up_to: int) -> None:
        """Bytes [0, up_to) may go."""
        self._passed = max(self._passed, up_to)
        self._release()

    def shut(self) -> None:
        """Keep what comes from now on."""
        self._passed = self._given

    def discard(self) -> None:
        """What waits, and what comes, is not wanted any more."""
        self._is_discarded = True
        self._kept.clear()
        self._arrived.clear()

    def _release(self) -> None:
        kept = self._kept
        while kept and (kept[0][0] <= self._passed or self._is_passed):
            unit = kept.popleft()[1]
            self._kept_bytes -= len(unit)
            self.send(unit)


class DatagramGates:
    """Both gates of a conversation. Whoever carries the datagrams sets where each gate sends."""

    __slots__ = ("inbound", "outbound")

    def __init__(
        self,
        soon: Callable[[Callable[[], None]], None],
        stage: FilterStage,
        flow: FilteredFlow,
        hold_inbound: bool,
        hold_outbound: bool,
    ) -> None:
        self.inbound = DatagramGate(soon, stage, flow, Direction.INBOUND, hold_inbound, _lose)
        self.outbound = DatagramGate(soon, stage, flow, Direction.OUTBOUND, hold_outbound, _lose)

    def of(self, direction: Direction) -> DatagramGate:
        """The gate of a direction."""
        return self.outbound if direction is Direction.OUTBOUND else self.inbound

    def discard(self) -> None:
        """What waits, and what comes, is not wanted any more."""
        self.inbound.discard()
        self.outbound.discard()


def _lose(unit: bytes) -> None:
    """Nobody carries it (any more)."""
