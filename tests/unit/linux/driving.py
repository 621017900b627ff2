"""Runs a real reactor until something is true."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from network_extension.linux.reactor import Reactor


class Driver:
    """A reactor of the test's own. A callback that raises fails the test."""

    def __init__(self) -> None:
        self.faults: list[Exception] = []
        self.reactor = Reactor(time.monotonic, self.faults.append)

    def until(self, condition: Callable[[], object], timeout: float = 5) -> None:
        """Dispatch events until `condition` holds; AssertionError after `timeout` seconds."""
        deadline, true = time.monotonic() + timeout, False

        def look() -> None:
            nonlocal true
            waiting = False  # if the condition raises, that ends the run too
            try:
                true = bool(condition())
                waiting = not true and not self.faults and time.monotonic() < deadline
            finally:
                if waiting:
                    self.reactor.call_later(0.002, look)
                else:
                    self.reactor.stop()

        self.reactor.call_soon(look)
        self.reactor.run()
        if self.faults:
            raise self.faults[0]
        assert true, f"did not come true in {timeout} s"

    def quiet(self, seconds: float = 0.05) -> None:
        """Dispatch what comes for a while."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end)


@contextmanager
def driving() -> Iterator[Driver]:
    """A driver whose reactor is closed at the end."""
    driver = Driver()
    try:
        yield driver
    finally:
        driver.reactor.close()
