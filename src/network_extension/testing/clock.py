"""Time that a test moves: an event loop whose clock stands still until somebody advances it."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any


class FakeClock:
    """Seconds that pass only when `advance` is called. Call it to read it, as `time.monotonic`."""

    def __init__(self, start: float = 1000.0) -> None:
        self.now = start

    def __call__(self) -> float:
        """The present time in seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass. Raises ValueError for less than nothing."""
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds} s")
        self.now += seconds


class _NeverWaiting(selectors.DefaultSelector):
    """Looks at descriptors without waiting for them: time does not pass by itself."""

    def select(self, timeout: float | None = None) -> list[Any]:
        return super().select(0)


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """An event loop on a `FakeClock`. Sockets are real, sleeping is not.

    `settle` runs all that can run without time passing. `advance` moves the clock from one timer to the next, so that
    a program that sleeps three times a second for an hour does so at once, and in order.
    """

    def __init__(self, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        super().__init__(_NeverWaiting())

    def time(self) -> float:
        """The fake time in seconds."""
        return self.clock.now

    def settle(self, turns: int = 10_000) -> None:
        """Run until nothing is left to do at this time. Raises AssertionError if that never comes."""
        for _ in range(turns):
            self._turn()
            if not self._has_work():
                return
        raise AssertionError(f"the provider is still busy after {turns} turns of the event loop without time passing")

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass, with everything that is due on the way."""
        end = self.clock.now + seconds
        self.settle()
        while (due := self._next_timer()) is not None and due <= end:
            self.clock.now = max(self.clock.now, due)
            self.settle()
        self.clock.now = end
        self.settle()

    def _turn(self) -> None:
        self.call_soon(self.stop)
        self.run_forever()

    def _has_work(self) -> bool:
        # What a handle is due at counts in steps of the loop's resolution.
        due = self._next_timer()
        return bool(self._ready) or (due is not None and due <= self.clock.now) or bool(self._selector.select(0))  # type: ignore[attr-defined]

    def _next_timer(self) -> float | None:
        due = [handle.when() for handle in self._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]
        return min(due, default=None)
