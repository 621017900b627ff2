"""The engine's event loop: epoll, timers and nothing else.

asyncio would do, at two prices: importing it takes longer than all of the start-up of `netext run` may, and its
dispatch costs more per event than relaying a request. Providers, where authors write code, do run on asyncio.

Descriptors are registered with the events and the mode (level or EPOLLET) that suit them, and a callback that takes the
event mask. Callbacks that raise are reported to `on_error` and do not stop the others: one flow's fault stays its own.
"""

from __future__ import annotations

import heapq
import select
from collections import deque
from collections.abc import Callable

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
URGENT, ERROR, HANGUP, PEER_CLOSED = select.EPOLLPRI, select.EPOLLERR, select.EPOLLHUP, select.EPOLLRDHUP
EDGE = select.EPOLLET

Clock = Callable[[], float]
Handler = Callable[[int], None]


class Timer:
    """A scheduled call that can be cancelled."""

    __slots__ = ("at", "callback")

    def __init__(self, at: float, callback: Callable[[], None]) -> None:
        self.at = at
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Never call it; the entry leaves the heap when its time comes."""
        self.callback = None

    def __lt__(self, other: Timer) -> bool:
        return self.at < other.at


class Reactor:
    """An epoll loop with timers. `clock` is a monotonic clock in seconds."""

    def __init__(self, clock: Clock, on_error: Callable[[Exception], None]) -> None:
        self.clock, self._on_error = clock, on_error
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._timers: list[Timer] = []
        self._soon: deque[Callable[[], None]] = deque()
        self._after_batch: list[Callable[[], None]] = []
        self._gone: set[int] = set()
        """Unregistered in this batch: a new socket may have the number, and the old one's events are not its."""
        self._running = False

    def register(self, descriptor: int, events: int, handler: Handler) -> None:
        """Call `handler(events)` when one of `events` holds for `descriptor`."""
        self._epoll.register(descriptor, events)
        self._handlers[descriptor] = handler

    def modify(self, descriptor: int, events: int) -> None:
        """Wait for other events on a registered descriptor."""
        self._epoll.modify(descriptor, events)

    def replace(self, descriptor: int, events: int, handler: Handler) -> None:
        """Wait for other events on a registered descriptor, with another handler."""
        self._epoll.modify(descriptor, events)
        self._handlers[descriptor] = handler

    def unregister(self, descriptor: int) -> None:
        """Forget a descriptor; harmless when it is not registered or closed already."""
        if self._handlers.pop(descriptor, None) is not None:
            self._gone.add(descriptor)
            try:
                self._epoll.unregister(descriptor)
            except OSError:
                pass

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call back once, `delay` seconds from now."""
        timer = Timer(self.clock() + delay, callback)
        heapq.heappush(self._timers, timer)
        return timer

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call back once, after the events at hand."""
        self._soon.append(callback)

    def after_each_batch(self, callback: Callable[[], None]) -> None:
        """Call back after every batch of events, before waiting again: the place to flush what was collected."""
        self._after_batch.append(callback)

    def stop(self) -> None:
        """Let `run` return after the present batch."""
        self._running = False

    def run(self) -> None:
        """Dispatch until `stop`."""
        self._running = True
        poll, handlers, soon, gone = self._epoll.poll, self._handlers, self._soon, self._gone
        while self._running:
            gone.clear()
            for descriptor, events in poll(0 if soon else self._wait(), 512):
                handler = handlers.get(descriptor)
                if handler is not None and descriptor not in gone:
                    try:
                        handler(events)
                    except Exception as error:
                        self._on_error(error)
            for _ in range(len(soon)):
                self.guard(soon.popleft())
            if self._timers:
                self._fire_timers()
            for callback in self._after_batch:
                self.guard(callback)

    def close(self) -> None:
        """Close the epoll descriptor."""
        self._epoll.close()

    def guard(self, callback: Callable[[], None]) -> None:
        """Call back now; an exception goes to `on_error`, and the caller goes on with the rest of its batch."""
        try:
            callback()
        except Exception as error:
            self._on_error(error)

    def _wait(self) -> float:
        """Seconds until the next timer; -1 waits for events alone."""
        timers = self._timers
        while timers and timers[0].callback is None:
            heapq.heappop(timers)
        return max(0.0, timers[0].at - self.clock()) if timers else -1

    def _fire_timers(self) -> None:
        now, timers = self.clock(), self._timers
        while timers and (timers[0].callback is None or timers[0].at <= now):
            callback = heapq.heappop(timers).callback
            if callback is not None:
                self.guard(callback)
