"""Shards processed on a dask.distributed cluster: `netext urlfilter build --scheduler ADDRESS`.

The rows of a shard go to a worker, its two files come back: no disk is shared. A worker that dies costs its shard's
time; the scheduler gives the shard to another one. What came back is on the disk of who asked, so that a build which is
itself killed asks only for the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

from ..errors import NetworkExtensionError
from .database_build_shard import ShardFiles, ShardTask, process_remotely

_RETRIES = 3
_CONNECT_SECONDS = 30
_AHEAD = 2
"""Shards that are sent for each worker: one to work on, one to have at hand."""


class ClusterError(NetworkExtensionError):
    """The cluster cannot be reached, or did not process a shard; the message names the scheduler."""


class ClusterRunner:
    """A cluster's workers as `build`'s `remote`. Use as a context. Raises ClusterError.

    Workers need this package with the extra `urlfilter`, of the same version.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        try:
            import distributed
        except ModuleNotFoundError as error:
            raise ClusterError(
                f"a cluster needs {error.name}, which is not installed: pip install 'network-extension[cluster]'"
            ) from error
        try:
            package: Any = distributed  # half of it has no types
            self._client: Any = package.Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:  # a TimeoutError is an OSError
            raise ClusterError(
                f"no scheduler answers at {address}: {error}; is the address tcp://HOST:8786?"
            ) from error

    def __enter__(self) -> ClusterRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster; the workers go on without us."""
        self._client.close()

    def __call__(self, tasks: Iterable[ShardTask]) -> Iterator[ShardFiles]:
        """Process shards, as many at a time as there are workers for; they come back in any order."""
        import distributed

        package: Any = distributed
        waiting = iter(tasks)
        running = package.as_completed(loop=self._client.loop)
        for task in _first(waiting, self._room()):
            running.add(self._submit(task))
        for future in running:
            yield self._result(future)
            future.release()
            for task in _first(waiting, 1):
                running.add(self._submit(task))

    def _room(self) -> int:
        return max(len(self._client.scheduler_info(n_workers=-1)["workers"]), 1) * _AHEAD

    def _submit(self, task: ShardTask) -> Any:
        # A key of its own for each attempt of a build: results of an earlier one may be gone with their worker.
        return self._client.submit(process_remotely, task, retries=_RETRIES, pure=False)

    def _result(self, future: Any) -> ShardFiles:
        from distributed.scheduler import KilledWorker

        try:
            files: ShardFiles = future.result()
        except KilledWorker as error:
            raise ClusterError(
                f"cluster {self._address}: workers died of a shard again and again; give them more memory, or build"
                " smaller shards (--query-ms, --shard-mb)"
            ) from error
        return files


def _first(tasks: Iterator[ShardTask], count: int) -> Iterator[ShardTask]:
    for _, task in zip(range(count), tasks, strict=False):
        yield task
