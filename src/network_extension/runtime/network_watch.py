"""Tells providers of changes of the network path and of sleep, in a process that supervises them."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..core.resolv_conf import name_servers
from ..linux.path_monitor import PathMonitor, SleepDetector, read_path
from ..linux.reactor import READ, Reactor
from ..path import Path, PathStatus
from .provider_supervisor import ProviderSupervisor
from .system_files import resolv_conf
from .wire import MessageType

SLEEP_INTERVAL = 1.0
PATH_SETTLES = 0.05


class NetworkWatch:
    """Watches the present network namespace, as long as the process lives."""

    def __init__(self, reactor: Reactor, providers: ProviderSupervisor, report: Callable[..., None]) -> None:
        self._reactor, self._providers, self._report = reactor, providers, report
        self._path, self._pending = Path(), False
        self._monitor = PathMonitor()
        self._sleep = SleepDetector(SLEEP_INTERVAL, *_clocks())
        reactor.register(self._monitor.fileno(), READ, self._changed)
        reactor.call_later(SLEEP_INTERVAL, self._look_for_sleep)
        self._tell_path()

    def _changed(self, events: int) -> None:
        """Changes come in bursts: look once they have settled."""
        if self._monitor.drain() and not self._pending:
            self._pending = True
            self._reactor.call_later(PATH_SETTLES, self._tell_path)

    def _tell_path(self) -> None:
        self._pending = False
        path = read_path(tuple(name_servers(resolv_conf())))
        if path == self._path:
            return
        before, self._path = self._path, path
        self._providers.set_path(path.to_dict())
        if before.status is not PathStatus.INVALID:
            text = f"network path: {path.status.name.lower()} by {', '.join(path.interfaces) or 'no interface'}"
            self._report("path", text, path=path.to_dict())

    def _look_for_sleep(self) -> None:
        if gap := self._sleep.look(*_clocks()):
            text = f"woke after about {gap:.0f} s of sleep; providers were told"
            self._report("wake", text, seconds=round(gap, 1))
            # Without a power manager to announce it, sleep is known only afterwards: both calls come then, in order.
            self._providers.tell_all(MessageType.SLEEP)
            self._providers.tell_all(MessageType.WAKE)
            self._providers.forgive()
            self._tell_path()
        self._reactor.call_later(SLEEP_INTERVAL, self._look_for_sleep)


def _clocks() -> tuple[float, float]:
    """CLOCK_BOOTTIME and CLOCK_MONOTONIC."""
    return time.clock_gettime(time.CLOCK_BOOTTIME), time.monotonic()
