"""Time that a test moves: an event loop whose clock stands still until somebody advances it."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

MOST_TURNS = 10_000
"""Turns of the event loop without time passing, after which a provider is taken to be busy for ever."""


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
    """While the loop settles, looks at descriptors without waiting for them, and stops the loop where it would wait.

    How long it would wait says when the next timer is due. Otherwise (`run_until_complete`, which may wait for a
    thread) it waits as any selector does.
    """

    loop: asyncio.AbstractEventLoop
    settling = False
    turns = 0
    idle_for: float | None = None

    def select(self, timeout: float | None = None) -> list[Any]:
        if not self.settling:
            return super().select(timeout)
        events = super().select(0)
        self.turns += 1
        if self.turns > MOST_TURNS:
            raise AssertionError(f"the provider is still busy after {MOST_TURNS} turns of the event loop")
        if not events and timeout != 0:
            self.idle_for = timeout
            self.loop.stop()
        return events


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """An event loop on a `FakeClock`. Sockets are real, sleeping is not.

    `settle` runs all that can run without time passing. `advance` moves the clock from one timer to the next, so that
    a program that sleeps three times a second for an hour does so at once, and in order.
    """

    def __init__(self, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        self._looks = _NeverWaiting()
        super().__init__(self._looks)
        self._looks.loop = self

    def time(self) -> float:
        """The fake time in seconds."""
        return self.clock.now

    def settle(self) -> None:
        """Run until nothing is left to do at this time. Raises AssertionError if that never comes."""
        self._looks.turns, self._looks.settling = 0, True
        try:
            self.run_forever()
        finally:
            self._looks.settling = False

    def next_timer(self) -> float | None:
        """When something is due next, at a time to come; None: never."""
        self.settle()
        return None if self._looks.idle_for is None else self.clock.now + self._looks.idle_for

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass, with everything that is due on the way."""
        end = self.clock.now + seconds
        while (due := self.next_timer()) is not None and due <= end:
            self.clock.now = due
        self.clock.now = end
        self.settle()
