"""The embedded store: one SQLite file in write-ahead mode, readable by its owner only.

What was acknowledged is on disk (synchronous=FULL): neither kill -9 nor a power failure loses it. Several processes may
share the file on one machine; for several machines there is `RedisStore`.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from ...errors import ConfigurationError
from .sqlite_writer import Change, Writer
from .store import KeyRecord, StoreUnavailable

Result = TypeVar("Result")

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS evaluation_keys (
    owner BLOB PRIMARY KEY, timestamp INTEGER NOT NULL, digest BLOB NOT NULL, until REAL NOT NULL, key BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS evaluation_keys_until ON evaluation_keys (until);
CREATE TABLE IF NOT EXISTS spent_nonces (nonce BLOB PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS spent_nonces_until ON spent_nonces (until);
"""
_EXPIRE_KEYS = """
DELETE FROM evaluation_keys WHERE owner IN (SELECT owner FROM evaluation_keys WHERE until < ? LIMIT ?)
"""
_EXPIRE_NONCES = """
DELETE FROM spent_nonces WHERE nonce IN (SELECT nonce FROM spent_nonces WHERE until < ? LIMIT ?)
"""
_DROP_OLDEST = "DELETE FROM evaluation_keys WHERE owner IN (SELECT owner FROM evaluation_keys ORDER BY until LIMIT ?)"
_DROPPED_AT_ONCE = 16
LEFT_FREE = 0.05, 512 << 20
"""Of the disk, and in bytes, at most: what evaluation keys leave to others, and to spent tokens."""
TAKEN_ANYHOW = 1 << 30
"""Bytes of a file that may be there whatever else fills the disk: some 1,300 keys."""
_LOCK_WAIT_MS = 5000
"""How long to wait for another process that writes to the same file."""
_KEYS_AT_ONCE, _NONCES_AT_ONCE = 64, 10_000
"""Rows that one transaction of `expire` deletes: others must not wait for long."""


class SQLiteStore:
    """See `Store`. Opening and closing block shortly; nothing else does.

    Evaluation keys take 0.3 to 0.8 MB each, and a client may make one up at any time. So they have a bound: the file's
    size (`key_space`, in bytes), or what leaves a twentieth of the disk free. At the bound the oldest go: their clients
    are told that the key is not found, and send it again.
    """

    def __init__(self, path: Path, key_space: int = 0) -> None:
        self._path, self._key_space = path, key_space
        self._dropped = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Private keys are in it. SQLite gives its -wal and -shm files the same mode.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            connection = self._connect()
            try:
                self._prepare(connection)
                self._reading = self._connect()
            except BaseException:
                connection.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(
                f"store {path}: {error}; choose a file in a directory that can be written, or move this one away"
            ) from error
        self._writer = Writer(connection)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="netext store reader")

    def __repr__(self) -> str:
        return f"<SQLiteStore {self._path}>"

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=_LOCK_WAIT_MS / 1000, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, SCHEMA_VERSION):
            raise ConfigurationError(
                f"store {self._path}: made by a newer release (layout {version}, this one knows {SCHEMA_VERSION});"
                " run that release, or move the file away: clients then fetch new tokens and send their keys again"
            )
        connection.executescript(f"{_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION};")

    async def document(self, name: str) -> bytes | None:
        """See `Store`."""
        row = await self._read("SELECT value FROM documents WHERE name = ?", name)
        value: bytes | None = row[0] if row else None
        return value

    async def replace_document(self, name: str, old: bytes | None, new: bytes) -> bool:
        """See `Store`."""

        def replace(connection: sqlite3.Connection) -> bool:
            if old is None:
                cursor = connection.execute("INSERT OR IGNORE INTO documents VALUES (?, ?)", (name, new))
            else:
                cursor = connection.execute(
                    "UPDATE documents SET value = ? WHERE name = ? AND value = ?", (new, name, old)
                )
            return cursor.rowcount == 1

        return await self._write(replace)

    async def put_key(self, owner: bytes, record: KeyRecord, key: bytes, until: float) -> None:
        """See `Store`."""
        row = (owner, record.timestamp, record.digest, until, key)

        def put(writing: sqlite3.Connection) -> None:
            if self._is_short(writing, len(key)):
                self._dropped += writing.execute(_DROP_OLDEST, (_DROPPED_AT_ONCE,)).rowcount
            writing.execute("REPLACE INTO evaluation_keys VALUES (?, ?, ?, ?, ?)", row)

        await self._write(put)

    def _is_short(self, connection: sqlite3.Connection, more: int) -> bool:
        """Whether older keys have to go before one of so many bytes comes. What was deleted is used again first."""
        size, pages, free = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count")
        )
        used = int((pages - free) * size + more)
        if self._key_space or used <= TAKEN_ANYHOW:
            return used > (self._key_space or TAKEN_ANYHOW)
        disk = os.statvfs(self._path.parent)
        share, most = LEFT_FREE
        left = min(int(disk.f_blocks * disk.f_frsize * share), most)
        return bool(disk.f_bavail * disk.f_frsize + free * size - more < left)

    async def key_record(self, owner: bytes) -> KeyRecord | None:
        """See `Store`."""
        row = await self._read("SELECT timestamp, digest FROM evaluation_keys WHERE owner = ?", owner)
        return None if row is None else KeyRecord(row[0], row[1])

    async def key(self, owner: bytes) -> tuple[KeyRecord, bytes] | None:
        """See `Store`."""
        row = await self._read("SELECT timestamp, digest, key FROM evaluation_keys WHERE owner = ?", owner)
        return None if row is None else (KeyRecord(row[0], row[1]), row[2])

    async def spend(self, nonce: bytes, until: float) -> bool:
        """See `Store`."""
        row = (nonce, until)
        return await self._write(
            lambda writing: writing.execute("INSERT OR IGNORE INTO spent_nonces VALUES (?, ?)", row).rowcount == 1
        )

    async def expire(self, now: float) -> int:
        """See `Store`."""
        statements = ((_EXPIRE_KEYS, _KEYS_AT_ONCE), (_EXPIRE_NONCES, _NONCES_AT_ONCE))
        total = 0
        for statement, at_once in statements:
            count = at_once
            while count == at_once:
                count = await self._write(_deletion(statement, now, at_once))
                total += count
        return total

    async def check(self) -> None:
        """See `Store`."""
        await self._read("SELECT name FROM documents LIMIT 1")

    async def warnings(self) -> list[str]:
        """See `Store`."""
        dropped, self._dropped = self._dropped, 0
        if not dropped:
            return []
        lost = f"{dropped} evaluation keys were dropped for want of room, and their clients have to send them again"
        return [f"store {self._path}: {lost}; give it more (--key-space), or a larger disk"]

    async def close(self) -> None:
        """See `Store`."""
        await asyncio.to_thread(self._writer.close)
        await asyncio.to_thread(self._reader.shutdown)
        self._reading.close()

    async def _read(self, statement: str, *values: object) -> tuple[Any, ...] | None:
        def read() -> tuple[Any, ...] | None:
            row: tuple[Any, ...] | None = self._reading.execute(statement, values).fetchone()
            return row

        return await self._outcome(lambda: asyncio.wrap_future(self._reader.submit(read)))

    async def _write(self, change: Change[Result]) -> Result:
        return await self._outcome(lambda: asyncio.wrap_future(self._writer.submit(change)))

    async def _outcome(self, start: Callable[[], asyncio.Future[Result]]) -> Result:
        try:
            return await start()
        except sqlite3.Error as error:
            raise StoreUnavailable(
                f"store {self._path}: {error}; see that its disk has room and can be written"
            ) from error


def _deletion(statement: str, now: float, at_once: int) -> Change[int]:
    return lambda connection: connection.execute(statement, (now, at_once)).rowcount
