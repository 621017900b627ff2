"""Ends what a command has left running in its sandbox: without the engine such processes would have no network.

First SIGTERM, then, after `GRACE` seconds, SIGKILL. Outside the sandbox nothing is touched: a process belongs to it by
its network namespace, whatever its parent is.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from ..linux.reactor import Reactor
from .keeper import processes_inside

GRACE, KILL_WAIT, STEP = 1.0, 0.5, 0.01


class Leftovers:
    """Ends the processes of the namespace behind `link` (but `keeper`), then calls `done`, in bounded time."""

    def __init__(
        self, reactor: Reactor, link: str, keeper: int, report: Callable[..., None], done: Callable[[], None]
    ) -> None:
        self._reactor, self._link, self._keeper, self._report, self._done = reactor, link, keeper, report, done
        self._next_signals = [(signal.SIGTERM, GRACE), (signal.SIGKILL, KILL_WAIT)]
        self._deadline = 0.0

    def end(self) -> None:
        """Look, and send the next signal when its time has come; look again a little later."""
        left = processes_inside(self._link, (self._keeper,))
        now = self._reactor.clock()
        if not left or (now >= self._deadline and not self._next_signals):
            self._done()
            return
        if now >= self._deadline:
            number, wait = self._next_signals.pop(0)
            self._deadline = now + wait
            plural = "es" if len(left) != 1 else ""
            text = f"ending {len(left)} process{plural} that the command left in the sandbox ({number.name})"
            self._report("leftover", text, pids=left)
            signal_all(left, number)
        self._reactor.call_later(STEP, self.end)


def signal_all(pids: list[int], number: int) -> None:
    """Send a signal to each; those that have gone meanwhile are passed over."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            continue
