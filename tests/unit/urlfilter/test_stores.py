"""Both stores keep what they have acknowledged: over kill -9, for exactly one spender, and say so when they cannot."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from network_extension.errors import ConfigurationError
from network_extension.urlfilter.stores import KeyRecord, Store, StoreUnavailable, open_store, sqlite_store
from network_extension.urlfilter.stores.redis_store import RedisStore

from .redis_server import RedisServer

FAR = 4_000_000_000.0
"""In 2096."""
RECORD = KeyRecord(1_700_000_000, b"digest of 16 B..")
Opener = Callable[[], Store]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """Runs, and ends with the test."""
    with tempfile.TemporaryDirectory(prefix="redis") as directory:
        server = RedisServer(Path(directory))
        server.start()
        yield server
        server.stop()


@pytest.fixture(params=["sqlite", "redis"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The place of a store, for each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "state" / "store.sqlite3")
    url: str = request.getfixturevalue("redis").url
    return url


@asynccontextmanager
async def opened(where: str) -> AsyncIterator[Store]:
    store = open_store(where)
    try:
        yield store
    finally:
        await store.close()


def test_everything_is_there_after_a_restart(where: str) -> None:
    async def scenario() -> None:
        async with opened(where) as store:
            assert await store.document("issuer") is None
            assert await store.key_record(b"owner") is None and await store.key(b"owner") is None
            assert await store.replace_document("issuer", None, b"keys")
            await store.put_key(b"owner", RECORD, bytes(700_000), FAR)
            assert await store.spend(b"nonce", FAR)
        async with opened(where) as store:
            await store.check()
            assert await store.document("issuer") == b"keys"
            assert await store.key_record(b"owner") == RECORD
            assert await store.key(b"owner") == (RECORD, bytes(700_000))
            assert not await store.spend(b"nonce", FAR)

    asyncio.run(scenario())


def test_a_key_replaces_the_owners_last_one(where: str) -> None:
    async def scenario() -> None:
        async with opened(where) as store:
            await store.put_key(b"owner", RECORD, b"old", FAR)
            newer = KeyRecord(RECORD.timestamp, b"another digest..")
            await store.put_key(b"owner", newer, b"new", FAR)
            assert await store.key(b"owner") == (newer, b"new")

    asyncio.run(scenario())


def test_of_two_instances_that_write_a_document_one_wins(where: str) -> None:
    async def scenario() -> None:
        async with opened(where) as one, opened(where) as other:
            won = await asyncio.gather(
                one.replace_document("keys", None, b"one's"), other.replace_document("keys", None, b"other's")
            )
            assert sorted(won) == [False, True]
            kept = await one.document("keys")
            assert kept == (b"one's" if won[0] else b"other's") == await other.document("keys")
            assert not await one.replace_document("keys", b"never written", b"next")
            assert await other.replace_document("keys", kept, b"next")
            assert await one.document("keys") == b"next"

    asyncio.run(scenario())


def test_a_nonce_is_spent_once_however_many_ask_at_once(where: str) -> None:
    async def scenario() -> None:
        async with opened(where) as one, opened(where) as other:
            answers = await asyncio.gather(
                *(store.spend(bytes([number]), FAR) for number in range(20) for store in (one, other, one))
            )
            assert [sum(answers[3 * number : 3 * number + 3]) for number in range(20)] == [1] * 20

    asyncio.run(scenario())


def test_what_has_expired_is_forgotten_and_nothing_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(str(tmp_path / "store")) as store:
            await asyncio.gather(
                *(store.put_key(bytes([number]), RECORD, b"key", 1000.0 + number) for number in range(150)),
                *(store.spend(bytes([number]), 1000.0 + number) for number in range(150)),
            )
            assert await store.expire(1100.0) == 200
            assert await store.key_record(bytes([99])) is None
            assert await store.key_record(bytes([100])) == RECORD
            assert await store.spend(bytes([99]), FAR) and not await store.spend(bytes([100]), FAR)

    asyncio.run(scenario())


WRITE_UNTIL_KILLED = """
import asyncio, sys
from network_extension.urlfilter.stores import KeyRecord, open_store

async def write():
    store = open_store(sys.argv[1])
    for number in range(1_000_000):
        name = number.to_bytes(4, "big")
        await asyncio.gather(
            store.put_key(name, KeyRecord(number, name * 4), name * 20_000, 4e9), store.spend(name, 4e9)
        )
        print(number, flush=True)

asyncio.run(write())
"""


def test_kill_9_loses_nothing_that_was_acknowledged(where: str) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITE_UNTIL_KILLED, where], stdout=subprocess.PIPE) as writing:
        assert writing.stdout is not None
        acknowledged = -1
        while acknowledged < 25:
            acknowledged = int(writing.stdout.readline())
        writing.send_signal(signal.SIGKILL)
        rest = writing.stdout.read().split()
        acknowledged = int(rest[-1]) if rest else acknowledged

    async def look() -> None:
        async with opened(where) as store:
            for number in range(acknowledged + 1):
                name = number.to_bytes(4, "big")
                assert await store.key(name) == (KeyRecord(number, name * 4), name * 20_000)
                assert not await store.spend(name, FAR)

    asyncio.run(look())


def test_a_full_disk_is_said_and_spares_the_others(tmp_path: Path) -> None:
    path = tmp_path / "store"

    async def scenario() -> None:
        async with opened(str(path)) as store:
            await store.put_key(b"before", RECORD, bytes(1000), FAR)
            # The writer's own connection is the one that must see the limit.
            await asyncio.wrap_future(store._writer.submit(lambda c: c.execute("PRAGMA max_page_count = 40")))  # type: ignore[attr-defined]
            too_large, small = await asyncio.gather(
                store.put_key(b"large", RECORD, bytes(700_000), FAR), store.spend(b"nonce", FAR), return_exceptions=True
            )
            assert isinstance(too_large, StoreUnavailable) and "full" in str(too_large) and "room" in str(too_large)
            assert small is True
            assert await store.key(b"large") is None
            assert await store.key_record(b"before") == RECORD

    asyncio.run(scenario())


def held(path: Path) -> set[int]:
    """The owners whose keys are there."""

    async def look() -> set[int]:
        async with opened(str(path)) as store:
            return {number for number in range(100) if await store.key_record(bytes([number]))}

    return asyncio.run(look())


def fill(path: Path, keys: int, key_space: int) -> list[str]:
    """Put keys of 100 kB; what the store says of it."""

    async def scenario() -> list[str]:
        store = open_store(str(path), key_space)
        try:
            assert await store.spend(b"nonce", FAR)
            for number in range(keys):
                await store.put_key(bytes([number]), RECORD, bytes(100_000), FAR + number)
            assert not await store.spend(b"nonce", FAR), "tokens stay spent"
            said = await store.warnings()
            assert await store.warnings() == [], "once"
            return said
        finally:
            await store.close()

    return asyncio.run(scenario())


def test_beyond_its_space_the_oldest_keys_go(tmp_path: Path) -> None:
    path = tmp_path / "store"
    (text,) = fill(path, 90, 4_000_000)
    assert "evaluation keys were dropped" in text and "--key-space" in text
    found = held(path)
    assert found == set(range(min(found), 90)) and 20 <= len(found) <= 40
    assert path.stat().st_size < 5_000_000


def test_keys_leave_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fill(tmp_path / "roomy", 50, 0) == []
    monkeypatch.setattr(sqlite_store, "TAKEN_ANYHOW", 2_000_000)
    monkeypatch.setattr(sqlite_store, "LEFT_FREE", (1.0, 1 << 60))  # as if the disk were full
    assert fill(tmp_path / "tight", 50, 0)
    assert held(tmp_path / "tight") >= {47, 48, 49}
    assert len(held(tmp_path / "roomy")) == 50


def test_a_closed_store_says_so_and_closing_waits_for_what_was_begun(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = open_store(str(tmp_path / "store"))
        *spent, _ = await asyncio.gather(*(store.spend(bytes([number]), FAR) for number in range(50)), store.close())
        assert spent == [True] * 50
        with pytest.raises(StoreUnavailable, match="closed"):
            await store.spend(b"late", FAR)

    asyncio.run(scenario())


def test_the_file_is_its_owners_only(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(str(tmp_path / "store")) as store:
            await store.replace_document("issuer", None, b"private")
            modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in os.scandir(tmp_path)}
            assert modes == dict.fromkeys(("store", "store-wal", "store-shm"), 0o600)

    asyncio.run(scenario())


@pytest.mark.parametrize("content", [b"no database at all, but 40 bytes of text.", os.urandom(8192)])
def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "store"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="not a database"):
        open_store(str(path))
    assert path.read_bytes() == content


def test_a_newer_layout_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "store")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ConfigurationError, match="newer release"):
        open_store(str(tmp_path / "store"))


def test_redis_going_away_is_said_and_its_return_needs_no_restart(redis: RedisServer) -> None:
    async def scenario() -> None:
        async with opened(redis.url) as store:
            assert await store.spend(b"nonce", FAR)
            await asyncio.to_thread(redis.stop)
            for call in (store.check(), store.document("keys"), store.key(b"owner"), store.spend(b"other", FAR)):
                with pytest.raises(StoreUnavailable, match="start Redis"):
                    await call
            await asyncio.to_thread(redis.start)
            assert await store.spend(b"other", FAR) and not await store.spend(b"nonce", FAR)

    asyncio.run(scenario())


def test_redis_settings_that_lose_tokens_are_named(redis: RedisServer) -> None:
    async def scenario() -> None:
        store = RedisStore(redis.url)
        assert await store.warnings() == []
        await store._client.config_set("appendonly", "no")
        await store._client.config_set("maxmemory-policy", "allkeys-lru")
        assert [warning.rpartition(": ")[2] for warning in await store.warnings()] == [
            "set appendonly yes",
            "set maxmemory-policy noeviction",
        ]
        await store.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("where", ["postgres://somewhere", "http://127.0.0.1"])
def test_other_stores_are_named(where: str) -> None:
    with pytest.raises(ConfigurationError, match="no such store; give a file, redis:"):
        open_store(where)


def test_a_password_is_never_shown() -> None:
    async def scenario() -> None:
        async with opened("redis://user:hunter2@127.0.0.1:1/0") as store:
            with pytest.raises(StoreUnavailable) as refused:
                await store.check()
            assert "hunter2" not in f"{store!r} {refused.value}" and "127.0.0.1:1" in str(refused.value)

    asyncio.run(scenario())
