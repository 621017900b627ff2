"""A TCP flow whose bytes filters want to see: a gate for each direction, in front of the relay's fast ways.

    source ── recv ──▶ StreamGate ── take ──▶ sink          while a filter looks
    source ── splice ────────────────────────▶ sink          before, after, and in the direction that nobody looks at

The engine has acknowledged what a gate keeps, so it keeps little (`MOST_KEPT`
bytes of a direction), and reads no more until some of that may go; then the TCP windows stop the sender, as a slow
receiver's would.

A direction that all filters have let go for good costs nothing any more: the gate leaves the relay with the last byte.
`FilterStage` may ask for it again (`update_flow`): the bytes that are in the relay's pipe at that moment still go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..filter_verdicts import FLOW_BYTES_MAX
from ..rules import Direction

if TYPE_CHECKING:
    from ..linux.splice import Relay
    from .filter_stage import FilterStage
    from .filtered_flow import FilteredFlow

MOST_KEPT = 65536


class StreamGate:
    """One direction of a flow (a `Gate` of linux/splice). Offsets count what the filters were given."""

    __slots__ = ("_direction", "_flow", "_given", "_kept", "_passed", "_stage")

    def __init__(self, stage: FilterStage, flow: FilteredFlow, direction: Direction, held: bool) -> None:
        self._stage, self._flow, self._direction = stage, flow, direction
        self._kept = bytearray()
        self._given = 0
        self._passed = 0 if held else FLOW_BYTES_MAX

    @property
    def is_open(self) -> bool:
        """Whether all has gone through and nothing more will be held."""
        return not self._kept and self._is_passed

    @property
    def _is_passed(self) -> bool:
        return self._passed >= FLOW_BYTES_MAX or self._flow.filter is None

    @property
    def room(self) -> int:
        """Bytes that can be taken now."""
        return max(0, MOST_KEPT - len(self._kept))

    @property
    def keeps(self) -> int:
        """Bytes that wait."""
        return len(self._kept)

    def give(self, data: bytes) -> None:
        """Show bytes to the filters."""
        self._kept += data
        self._given += len(data)
        self._stage.received(self._flow, self._direction, data)

    def end(self) -> None:
        """Tell the filters that this was all; the end goes on when they have answered."""
        self._stage.ended(self._flow, self._direction)

    def take(self) -> bytes:
        """Bytes that all filters have passed."""
        kept = self._kept
        count = len(kept) if self._is_passed else min(len(kept), self._passed - (self._given - len(kept)))
        if count <= 0:
            return b""
        data = bytes(kept[:count])
        del kept[:count]
        return data

    def let(self, up_to: int) -> None:
        """Bytes [0, up_to) may go."""
        self._passed = max(self._passed, up_to)

    def shut(self) -> None:
        """Hold what comes from now on."""
        self._passed = self._given


class InspectedStream:
    """Both gates of a flow, and the relay in which they stand once the flow is open."""

    __slots__ = ("_inbound", "_outbound", "_relay")

    def __init__(self, stage: FilterStage, flow: FilteredFlow, hold_inbound: bool, hold_outbound: bool) -> None:
        self._inbound = StreamGate(stage, flow, Direction.INBOUND, hold_inbound)
        self._outbound = StreamGate(stage, flow, Direction.OUTBOUND, hold_outbound)
        self._relay: Relay | None = None

    def join(self, relay: Relay) -> None:
        """The flow is open: hold what is to be held."""
        self._relay = relay
        for gate in (self._outbound, self._inbound):
            if not gate.is_open:
                relay.hold(gate is self._outbound, gate)

    def let(self, direction: Direction, up_to: int) -> None:
        """Bytes [0, up_to) of a direction may go."""
        self._gate(direction).let(up_to)
        if self._relay is not None:
            self._relay.proceed()

    def hold(self, direction: Direction) -> None:
        """A direction that went freely is shown from now on."""
        gate = self._gate(direction)
        gate.shut()
        if self._relay is not None:
            self._relay.hold(gate is self._outbound, gate)
            self._relay.proceed()

    def _gate(self, direction: Direction) -> StreamGate:
        return self._outbound if direction is Direction.OUTBOUND else self._inbound
