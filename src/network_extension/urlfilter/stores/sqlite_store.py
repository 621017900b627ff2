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
_LOCK_WAIT_MS = 5000
"""How long to wait for another process that writes to the same file."""
_KEYS_AT_ONCE, _NONCES_AT_ONCE = 64, 10_000
"""Rows that one transaction of `expire` deletes: others must not wait for long."""


class SQLiteStore:
    """See `Store`. Opening and closing block shortly; nothing else does."""

    def __init__(self, path: Path) -> None:
        self._path = path
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
        await self._write(lambda writing: writing.execute("REPLACE INTO evaluation_keys VALUES (?, ?, ?, ?, ?)", row))

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
