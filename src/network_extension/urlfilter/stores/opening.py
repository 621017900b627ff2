"""From what a user writes (`--store redis://…`) to a store."""

from __future__ import annotations

from pathlib import Path

from ...errors import ConfigurationError
from .store import Store

_REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


def open_store(where: str, key_space: int = 0) -> Store:
    """The store at `where`: the path of an SQLite file, which is made when absent, or redis://, rediss:// (TLS) or
    unix:// as redis-py reads them. Redis is first asked when it is first needed.

    `key_space`: bytes that an SQLite file may have, 0 for what its disk allows; Redis has `maxmemory`.

    Raises `ConfigurationError` for what is neither, or is a file that cannot be opened.
    """
    if where.startswith(_REDIS_SCHEMES):
        from .redis_store import RedisStore

        return RedisStore(where)
    scheme, mark, _ = where.partition("://")
    if mark:
        raise ConfigurationError(
            f"store {scheme}://…: no such store; give a file, redis://host:6379/0, rediss://… or unix:///socket?db=0"
        )
    from .sqlite_store import SQLiteStore

    return SQLiteStore(Path(where), key_space)
