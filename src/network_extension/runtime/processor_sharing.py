"""Keeps the engine of `netext filter` and its providers on the processors that `core/processor_choice` chooses.

The supervisor does it: it may move processes of another user, and has a moment every other second. Where nothing is
together, nothing is moved; what somebody else has set for a process (taskset, cpusets) is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..core.processor_choice import Look, ProcessorChoice
from ..linux.processors import (
    allowed_processors,
    children,
    is_alone,
    process_time,
    processor_times,
    run_on,
)
from ..linux.reactor import Reactor

INTERVAL = 2.0
HOST_THREADS = 2
"""A provider's process has two threads of ours: the event loop's, and the one that talks with the supervisor."""


class ProcessorSharing:
    """Looks at `processes()`, the engine's pid and the providers' pids, from `start` on."""

    def __init__(self, reactor: Reactor, processes: Callable[[], tuple[int, list[int]]]) -> None:
        self._reactor, self._processes = reactor, processes
        self._allowed = allowed_processors()
        self._choice = ProcessorChoice(self._allowed)
        self._at = 0.0
        self._busy: dict[int, float] = {}
        self._own: dict[int, float] = {}
        self._before = self._allowed

    def start(self) -> None:
        """Choose for the first time, by what the processors have done since the machine started."""
        if len(self._allowed) > 1 and not self._busy:
            self._look()

    def _look(self) -> None:
        engine, providers = self._processes()
        now, busy = self._reactor.clock(), processor_times()
        own = {pid: process_time(pid) for pid in (engine, *providers) if pid}
        interval = now - self._at
        before = self._busy or dict.fromkeys(busy, 0.0)
        shares = {number: max(0.0, time - before.get(number, time)) / interval for number, time in busy.items()}
        taken = sum(max(0.0, time - self._own.get(pid, time)) for pid, time in own.items()) / interval
        self._at, self._busy, self._own = now, busy, own
        alone = all(is_alone(pid, HOST_THREADS) for pid in providers if pid)
        if busy:
            self._place(self._choice.look(Look(shares, taken, alone)), own)
        self._reactor.call_later(INTERVAL, self._look)

    def _place(self, chosen: frozenset[int], processes: Iterable[int]) -> None:
        before, self._before = self._before, chosen
        if chosen == self._allowed == before:
            return
        for pid in processes:
            run_on(pid, chosen, instead_of=(self._allowed, before))
            for child in children(pid):  # born while its parent was held
                run_on(child, chosen, instead_of=(before,))
