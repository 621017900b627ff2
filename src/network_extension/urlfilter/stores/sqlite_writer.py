"""One thread that writes to SQLite, many changes in one transaction.

A commit waits for the disk (synchronous=FULL), a change does not: so whatever has come while the last commit was under
way is committed together. One thread also means that no two connections of this process wait for each other's lock.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")
Change = Callable[[sqlite3.Connection], Result]
"""What is to be done inside a transaction, and gives a result."""

MOST_IN_ONE = 256
"""Changes in one transaction. More would make the first one wait for the last one's work."""

_Item = tuple[Change[object], "Future[object]"]


class Writer:
    """Owns `connection` (in autocommit mode, made with check_same_thread=False) until `close`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._items: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="netext store writer", daemon=True)
        self._thread.start()

    def submit(self, change: Change[Result]) -> Future[Result]:
        """The change's result, once it is on disk. The future raises sqlite3.Error if it could not be written, and
        then nothing of this change is left.
        """
        future: Future[Result] = Future()
        with self._lock:
            if self._is_closed:
                future.set_exception(sqlite3.ProgrammingError("the store is closed"))
            else:
                self._items.put((change, future))  # type: ignore[arg-type]  # Future is invariant; results go through
        return future

    def close(self) -> None:
        """Write what was submitted, and close the connection. Waits for both."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._items.put(None)
        self._thread.join()

    def _run(self) -> None:
        is_open = True
        while is_open:
            batch, is_open = self._next_batch()
            running = [item for item in batch if item[1].set_running_or_notify_cancel()]
            if running and not self._commit(running) and len(running) > 1:
                # One of them is at fault (too large for a full disk): the others are not to fail with it.
                for item in running:
                    self._commit([item])
        self._connection.close()

    def _next_batch(self) -> tuple[list[_Item], bool]:
        """All that has come by now, at least one; and whether more may come."""
        batch: list[_Item] = []
        item = self._items.get()
        while item is not None:
            batch.append(item)
            if len(batch) == MOST_IN_ONE or self._items.empty():
                return batch, True
            item = self._items.get()
        return batch, False

    def _commit(self, items: list[_Item]) -> bool:
        """All in one transaction, or none; a single one that failed is told so."""
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            results = [change(connection) for change, _ in items]
            connection.execute("COMMIT")
        except Exception as error:
            # Whatever a change raises is for whoever submitted it; the thread has to live on.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if len(items) == 1:
                items[0][1].set_exception(error)
            return False
        for (_, future), result in zip(items, results, strict=True):
            future.set_result(result)
        return True
