"""When to look at which flow again: one timer for all flows of a stage.

Every question to a filter has a deadline, which nearly never comes: its flow is decided and forgotten long before. So
an entry is left in the heap when its flow goes, and swept out when such entries are many.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping

from ..linux.reactor import Reactor, Timer
from .filtered_flow import NEVER

_SWEEP = 4096


class FlowTimes:
    """Calls `look(flow id, when it was due)` when its time comes; flows that are not in `living` are passed over."""

    def __init__(self, reactor: Reactor, living: Mapping[int, object], look: Callable[[int, float], None]) -> None:
        self._reactor, self._living, self._look = reactor, living, look
        self._times: list[tuple[float, int]] = []
        self._timer: Timer | None = None
        self._timer_at = NEVER

    def __len__(self) -> int:
        return len(self._times)

    def add(self, due: float, number: int) -> None:
        """Look at a flow then. Nothing takes this back: the look must see for itself whether it is wanted still."""
        times, living = self._times, self._living
        if len(times) > _SWEEP and len(times) > 4 * len(living):
            times[:] = [entry for entry in times if entry[1] in living]
            heapq.heapify(times)
        heapq.heappush(times, (due, number))
        if due < self._timer_at:
            self._wait_until(due)

    def _wait_until(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._reactor.call_later(max(0.0, due - self._reactor.clock()), self._time)

    def _time(self) -> None:
        now, times = self._reactor.clock(), self._times
        self._timer, self._timer_at = None, NEVER
        while times and (times[0][0] <= now or times[0][1] not in self._living):
            due, number = heapq.heappop(times)
            if number in self._living:
                self._look(number, due)
        if times and times[0][0] < self._timer_at:
            self._wait_until(times[0][0])
