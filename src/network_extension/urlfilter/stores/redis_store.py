"""The shared store: one Redis, any number of instances of the service.

Redis expires keys and nonces by itself. What it has acknowledged survives its own end only with `appendonly yes`, and a
`maxmemory-policy` other than noeviction makes it forget nonces, so that tokens can be spent twice: `warnings` says so.

A command is sent again once when its connection breaks, because connections that were idle while Redis restarted are
all broken. So each command gives the same answer when the first one had arrived after all: a nonce is marked with a
number of this attempt, and a document that is already `new` was written by us (it holds fresh keys, no two are alike).
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from math import ceil
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from ...errors import ConfigurationError
from .store import KeyRecord, StoreUnavailable

Result = TypeVar("Result")

PREFIX = b"netext:urlfilter:"
TIMEOUT = 2.0
"""Seconds for Redis to connect and to answer. A request fails with 503 then, and the next one tries anew."""

_REPLACE = """
local now = redis.call('GET', KEYS[1])
if now == ARGV[2] then return 1 end
if (ARGV[3] == '' and now) or (ARGV[3] ~= '' and now ~= ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""
"""KEYS[1]: the document; ARGV: old, new, and '' when it must not be there yet."""


class RedisStore:
    """See `Store`. `url` is redis://, rediss:// or unix:// as redis-py reads it; its password is never shown."""

    def __init__(self, url: str) -> None:
        try:
            self._client = redis.asyncio.Redis.from_url(
                url,
                socket_timeout=TIMEOUT,
                socket_connect_timeout=TIMEOUT,
                retry=Retry(NoBackoff(), 1),
                retry_on_error=[redis.exceptions.ConnectionError, redis.exceptions.TimeoutError],
            )
        except ValueError as error:
            raise ConfigurationError(f"store {_without_password(url)}: {error}") from error
        self._name = _without_password(url)
        self._replace = self._client.register_script(_REPLACE)

    def __repr__(self) -> str:
        return f"<RedisStore {self._name}>"

    async def document(self, name: str) -> bytes | None:
        """See `Store`."""
        return cast("bytes | None", await self._ask(lambda: self._client.get(_document(name))))

    async def replace_document(self, name: str, old: bytes | None, new: bytes) -> bool:
        """See `Store`."""
        arguments = [old or b"", new, b"" if old is None else b"old"]
        return bool(await self._ask(lambda: self._replace(keys=[_document(name)], args=arguments)))

    async def put_key(self, owner: bytes, record: KeyRecord, key: bytes, until: float) -> None:
        """See `Store`."""
        fields = ("timestamp", record.timestamp, "digest", record.digest, "key", key)

        async def put() -> None:
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.execute_command("HSET", _key(owner), *fields)
                pipe.execute_command("EXPIREAT", _key(owner), ceil(until))
                await pipe.execute()

        await self._ask(put)

    async def key_record(self, owner: bytes) -> KeyRecord | None:
        """See `Store`."""
        timestamp, digest = await self._fields(owner, "timestamp", "digest")
        return None if timestamp is None or digest is None else KeyRecord(int(timestamp), digest)

    async def key(self, owner: bytes) -> tuple[KeyRecord, bytes] | None:
        """See `Store`."""
        timestamp, digest, key = await self._fields(owner, "timestamp", "digest", "key")
        if timestamp is None or digest is None or key is None:
            return None
        return KeyRecord(int(timestamp), digest), key

    async def _fields(self, owner: bytes, *names: str) -> list[bytes | None]:
        return cast(
            "list[bytes | None]",
            await self._ask(lambda: cast("Awaitable[Any]", self._client.hmget(_key(owner), list(names)))),
        )

    async def spend(self, nonce: bytes, until: float) -> bool:
        """See `Store`."""
        attempt = os.urandom(8)
        before = await self._ask(
            lambda: self._client.set(PREFIX + b"nonce:" + nonce, attempt, nx=True, get=True, exat=ceil(until))
        )
        return before is None or before == attempt

    async def expire(self, now: float) -> int:
        """Redis expires by itself: 0."""
        return 0

    async def check(self) -> None:
        """See `Store`."""
        await self._ask(lambda: cast("Awaitable[Any]", self._client.ping()))

    async def warnings(self) -> list[str]:
        """What of Redis's settings endangers tokens and keys, with the setting that mends it."""
        found: list[str] = []
        try:
            settings = await self._client.config_get("appendonly", "maxmemory-policy")
        except RedisError:
            return found  # not allowed to ask, as with most hosted ones; `check` tells of one that is gone
        if settings.get("appendonly") == "no":
            found.append("Redis forgets keys and spent tokens when it ends: set appendonly yes")
        if settings.get("maxmemory-policy", "noeviction") != "noeviction":
            found.append("Redis may drop spent tokens when memory is short: set maxmemory-policy noeviction")
        return found

    async def close(self) -> None:
        """See `Store`."""
        await self._client.aclose()

    async def _ask(self, command: Callable[[], Awaitable[Result]]) -> Result:
        try:
            return await command()
        except (RedisError, OSError) as error:
            cause = str(error).strip() or type(error).__name__
            raise StoreUnavailable(
                f"store {self._name}: {cause}; start Redis, or see its log: no restart is needed here"
            ) from error


def _document(name: str) -> bytes:
    return PREFIX + b"document:" + name.encode()


def _key(owner: bytes) -> bytes:
    return PREFIX + b"key:" + owner


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
