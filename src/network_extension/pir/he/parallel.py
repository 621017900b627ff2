"""A few threads for the kernels of one query."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import TracebackType


class Workers:
    """Runs a kernel over ranges of its work, in `count` threads of its own; with one, in the caller's.

    Made for each query: threads start in 50 us, and nothing is left over, neither for a fork nor for the end of the
    process. Kernels run without the GIL.
    """

    __slots__ = ("_executor", "count")

    def __init__(self, count: int) -> None:
        self.count = max(count, 1)
        self._executor = ThreadPoolExecutor(self.count - 1, "pir-query") if self.count > 1 else None

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._executor is not None:
            self._executor.shutdown()

    def run(self, kernel: Callable[[int, int], None], size: int) -> None:
        """`kernel(first, last)` over 0 … `size`, in as many equal ranges as threads; raises what it raises."""
        bounds = [size * part // self.count for part in range(self.count + 1)]
        ranges = [(first, last) for first, last in pairwise(bounds) if first < last]
        if self._executor is None or len(ranges) < 2:
            kernel(0, size)
            return
        others = [self._executor.submit(kernel, first, last) for first, last in ranges[1:]]
        kernel(*ranges[0])
        for other in others:
            other.result()
