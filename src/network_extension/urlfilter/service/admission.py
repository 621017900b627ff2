"""Which lookups are computed now, which wait, and which are sent away.

A lookup takes a core for 0.1 s and more, so a service that takes in more than it can compute only makes everybody wait
until nobody does any longer. Therefore: as many at a time as there are cores, a bounded number that waits, and a 503
with the time after which it is worth to come again for the rest.

One request may hold many lookups. It gets as many cores as there are while nobody else waits, and shares them with the
others lookup by lookup, so that a request with fifty does not hold up those with one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from typing import Generic, TypeVar

from .refusals import Refusal, busy

Result = TypeVar("Result")
Job = Callable[[int], Result]
"""Runs in a thread, releases the GIL, and may itself use as many threads as it is told."""

FIRST_GUESS = 0.15
"""Seconds for one lookup, until the first ones are measured."""
_WEIGHT = 0.1
LONGEST_RETRY = 60


class Admission:
    """`workers` lookups at a time, `queue_limit` that wait, none of them longer than `patience` seconds."""

    def __init__(self, workers: int, queue_limit: int, patience: float, clock: Callable[[], float]) -> None:
        self.workers = workers
        self.limit = workers + queue_limit
        self._patience = patience
        self._clock = clock
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="netext lookup")
        self._seconds_each = FIRST_GUESS
        self.pending = 0
        """Lookups that wait or run."""

    def check_room(self) -> None:
        """Nothing if one more lookup is admitted now. Raises `Refusal` 503 otherwise."""
        if self.pending >= self.limit:
            raise self._overload(f"{self.pending} lookups are waiting or running, that is the limit")

    async def run(self, jobs: Sequence[Job[Result]]) -> list[Result]:
        """The results, in the order of the jobs. If one raises, so does this, and those that wait are dropped.

        Raises `Refusal`: 400 for more jobs than are ever admitted, 503 when there is no room now, or it took too long.
        """
        if len(jobs) > self.limit:
            raise Refusal(400, f"{len(jobs)} requests in one body; {self.limit} are served at most")
        if self.pending + len(jobs) > self.limit:
            raise self._overload(f"{self.pending} lookups are waiting or running, {self.limit} is the limit")
        self.pending += len(jobs)
        batch = _Batch(jobs, self._clock() + self._patience)
        try:
            async with asyncio.TaskGroup() as lanes:
                for _ in range(min(self.workers, len(jobs))):
                    lanes.create_task(self._work_off(batch))
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            self.pending -= batch.unfinished
        return [batch.results[index] for index in range(len(jobs))]

    async def _work_off(self, batch: _Batch[Result]) -> None:
        """One lane: next job, until none is left or another lane has failed."""
        loop = asyncio.get_running_loop()
        for index, job in batch.waiting:
            try:
                batch.results[index] = await loop.run_in_executor(self._executor, self._timed, job, batch)
            except BaseException:
                batch.has_failed = True
                raise
            batch.unfinished -= 1
            self.pending -= 1

    def _timed(self, job: Job[Result], batch: _Batch[Result]) -> Result:
        """In the thread. A core that nobody else wants makes this one job faster."""
        began = self._clock()
        if batch.has_failed or began > batch.deadline:
            raise self._overload(f"waited longer than {self._patience:g} s")
        threads = max(1, self.workers // max(1, self.pending))
        result = job(threads)
        self._seconds_each += _WEIGHT * ((self._clock() - began) * threads - self._seconds_each)
        return result

    def _overload(self, cause: str) -> Refusal:
        wait = ceil(self.pending * self._seconds_each / self.workers)
        return busy("The service is busy", cause=cause, retry_after=min(max(wait, 1), LONGEST_RETRY))

    def close(self) -> None:
        """Drop what waits; wait for what runs."""
        self._executor.shutdown(wait=True, cancel_futures=True)


class _Batch(Generic[Result]):
    """The jobs of one request."""

    __slots__ = ("deadline", "has_failed", "results", "unfinished", "waiting")

    def __init__(self, jobs: Sequence[Job[Result]], deadline: float) -> None:
        self.waiting: Iterator[tuple[int, Job[Result]]] = iter(enumerate(jobs))
        self.results: dict[int, Result] = {}
        self.unfinished = len(jobs)
        self.deadline = deadline
        self.has_failed = False
