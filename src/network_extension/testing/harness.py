"""What all harnesses share: a provider in memory on a `FakeTimeLoop`, started, stopped, and what it logs."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType, TracebackType
from typing import Any, Self

from ..provider import Provider
from .clock import FakeClock, FakeTimeLoop
from .transcript import Transcript


class Harness(ABC):
    """A context manager: it starts its providers, and stops them at the end."""

    def __init__(
        self, providers: Sequence[Provider], configuration: Mapping[str, Any] | None, clock: FakeClock | None
    ) -> None:
        self.loop = FakeTimeLoop(clock)
        self.clock = self.loop.clock
        self.transcript = Transcript()
        self.log_lines: list[str] = []
        """What the providers logged, `level: text`."""
        self._closing = ExitStack()
        """Lets go, at the end, of what the loop does not know of."""
        for index, provider in enumerate(providers):
            provider._stage = self._stage_of(index)
            provider._configuration = MappingProxyType(dict(configuration or {}))

    def _stage_of(self, index: int) -> Any:
        """What the provider at `index` takes for its runtime."""
        return self

    @abstractmethod
    def _start(self) -> Iterator[Awaitable[None]]:
        """What the providers do at the start, one after the other."""

    @abstractmethod
    def _stop(self) -> Iterator[Awaitable[None]]:
        """What the providers do at the end."""

    def __enter__(self) -> Self:
        try:
            for work in self._start():
                self.run(work)
        except BaseException:
            self.loop.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for work in self._stop():
                self.run(work)
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.settle()
        finally:
            self._closing.close()
            self.loop.close()

    def run(self, work: Awaitable[Any]) -> Any:
        """Run a coroutine of a provider to its end; time passes if it sleeps."""
        task = self.loop.create_task(awaited(work))
        while not task.done() and (due := self.loop.next_timer()) is not None:
            self.advance(max(0.0, due - self.clock.now))
        assert task.done(), "the provider waits for something that never comes"
        return task.result()

    def advance(self, seconds: float) -> None:
        """Let time pass, with everything that is due on the way."""
        self.loop.advance(seconds)

    # The stage, as a provider sees it

    def cancel(self, error: BaseException | None) -> None:
        """A provider ends itself."""
        self.transcript.decided(f"cancel {error!r}")

    def log(self, level: str, text: str) -> None:
        """A line for the log."""
        self.log_lines.append(f"{level}: {text}")


async def awaited(work: Awaitable[Any]) -> Any:
    """Any awaitable as a coroutine, of which a task can be made."""
    return await work
