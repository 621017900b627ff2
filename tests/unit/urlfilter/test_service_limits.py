"""More than the service can do: it says so at once, keeps its bounds, and is as before when the rush is over."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message

from network_extension.cli.urlfilter_serve import main as serve_command
from network_extension.urlfilter.service import endpoints
from network_extension.urlfilter.service.admission import Admission
from network_extension.urlfilter.service.bodies import BodyReader
from network_extension.urlfilter.service.refusals import Refusal
from network_extension.urlfilter.stores import open_store
from network_extension.urlfilter.stores.sqlite_store import SQLiteStore

from .redis_server import RedisServer
from .service_without_lookups import (
    HEADERS,
    USER_TOKEN,
    Answer,
    Running,
    ask,
    key_body,
    parsed_key,
    query_body,
    until,
    write_database,
)


@asynccontextmanager
async def running_at(tmp_path: Path, **options: Any) -> AsyncIterator[Running]:
    async with Running(write_database(tmp_path / "db"), **options) as running:
        await running.upload()
        yield running


def test_beyond_the_queue_there_is_a_503_that_costs_no_token(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_at(tmp_path, workers=1, queue_limit=3) as running:
            running.engine.gate.clear()
            body = query_body(running.config_id, 1)
            async with asyncio.TaskGroup() as tasks:
                waiting = [tasks.create_task(running.ask("POST", "/queries", body)) for _ in range(4)]
                await until(lambda: running.service.admission.pending == 4)
                refused = await running.ask("POST", "/queries", body, authorization="good once")
                assert refused.status == 503 and 1 <= int(refused.headers["retry-after"]) <= 60
                running.engine.gate.set()
            assert [task.result().status for task in waiting] == [200] * 4
            assert running.service.admission.pending == 0
            again = await running.ask("POST", "/queries", body, authorization="good once")
            assert again.status == 200, "the token was not spent by the 503"

    asyncio.run(scenario())


def test_the_lookups_of_a_client_that_is_gone_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "LOOK_FOR_CLIENT", 0.01)

    async def scenario() -> None:
        async with running_at(tmp_path, workers=1) as running:
            running.engine.gate.clear()
            body, leaves = query_body(running.config_id, 1, 2, 3), asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                stays = tasks.create_task(running.ask("POST", "/queries", query_body(running.config_id, 4)))
                await until(lambda: running.service.admission.pending == 1)
                goes = tasks.create_task(ask(running.app, "POST", "/queries", body, HEADERS, leaves))
                await until(lambda: running.service.admission.pending == 4)
                leaves.set()
                await until(lambda: running.service.admission.pending == 1)
                running.engine.gate.set()
            assert (stays.result().status, goes.result().status) == (200, 499)
            refused = [line for line in running.log if line["event"] == "refused"]
            assert [(line["status"], line["cause"]) for line in refused] == [(499, "The client is gone")]

    asyncio.run(scenario())


def test_a_body_with_more_lookups_than_are_ever_admitted_is_no_503(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_at(tmp_path, workers=1, queue_limit=3) as running:
            body = query_body(running.config_id, *range(1, 6))
            refused = await running.ask("POST", "/queries", body)
            assert refused.status == 400 and "5 requests in one body; 4" in refused.message
            assert (await running.ask("POST", "/queries", query_body(running.config_id, 1, 2, 3, 4))).status == 200

    asyncio.run(scenario())


def test_a_long_body_does_not_hold_up_a_short_one() -> None:
    """Lookup by lookup, both get their turn."""

    async def scenario() -> list[str]:
        admission = Admission(1, 100, 10.0, lambda: 0.0)
        order: list[str] = []
        long = [lambda _: order.append("long") for _ in range(40)]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(admission.run(long))
            tasks.create_task(admission.run([lambda _: order.append("short")]))
        admission.close()
        return order

    assert asyncio.run(scenario()).index("short") <= 2


def test_what_waited_too_long_is_not_computed_any_more() -> None:
    async def scenario() -> None:
        times = iter([0.0, 0.0, 50.0])
        admission = Admission(1, 10, 20.0, lambda: next(times, 50.0))
        computed: list[int] = []
        with pytest.raises(Refusal) as refused:
            await admission.run([lambda _: computed.append(1), lambda _: computed.append(2)])
        assert refused.value.status == 503 and "longer than 20 s" in refused.value.cause and computed == [1]
        assert admission.pending == 0
        admission.close()

    asyncio.run(scenario())


def test_a_lookup_alone_has_all_cores() -> None:
    async def scenario() -> None:
        admission = Admission(4, 10, 20.0, lambda: 0.0)
        assert await admission.run([lambda threads: threads]) == [4]
        admission.close()

    asyncio.run(scenario())


def request_of(pieces: Iterator[bytes], **headers: str) -> Request:
    """A request whose body comes in these pieces, and then no more for ever."""

    async def receive() -> Message:
        for piece in pieces:
            return {"type": "http.request", "body": piece, "more_body": True}
        await asyncio.Event().wait()
        raise AssertionError

    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": given}, receive)


def refused_body(reader: BodyReader, request: Request) -> Refusal:
    async def read() -> None:
        await reader.read(request)

    with pytest.raises(Refusal) as refused:
        asyncio.run(read())
    assert reader._room == 4000, "all memory was given back"
    return refused.value


def test_a_body_that_is_too_large_is_not_read_to_its_end() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            taken.append(1)
            yield bytes(300)

    taken: list[int] = []
    reader = BodyReader(most=1000, all_together=4000, seconds=10)
    assert refused_body(reader, request_of(endless())).status == 413
    assert len(taken) == 4
    assert refused_body(reader, request_of(endless(), content_length="1001")).status == 413
    assert len(taken) == 4, "its length was announced"


def test_a_body_that_does_not_come_is_408() -> None:
    reader = BodyReader(most=1000, all_together=4000, seconds=0.01)
    assert refused_body(reader, request_of(iter([b"a"]))).status == 408


def test_all_bodies_together_have_a_bound() -> None:
    reader = BodyReader(most=10_000, all_together=4000, seconds=10)
    refused = refused_body(reader, request_of(iter([bytes(3000), bytes(3000)])))
    assert refused.status == 503 and refused.retry_after


def test_a_served_body_gives_its_memory_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_at(tmp_path, all_bodies_bytes=200_000) as running:
            for _ in range(5):
                assert (await running.ask("POST", "/key", key_body(bytes(150_000)))).status == 200
                assert (await running.ask("POST", "/config", bytes(150_000))).status == 400

    asyncio.run(scenario())


def test_a_password_does_not_belong_on_a_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        serve_command(["db", "--store", "redis://user:hunter2@127.0.0.1/0"])
    said = capsys.readouterr().err
    assert ended.value.code == 64 and "NETEXT_URLFILTER_STORE" in said and "hunter2" not in said


def test_a_user_token_gets_so_many_tokens(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_at(tmp_path, tokens_per_hour=2) as running:
            bearer = {"authorization": f"Bearer {USER_TOKEN}"}
            issued = [await running.ask("POST", "/issue", b"request", bearer) for _ in range(3)]
            assert [answer.status for answer in issued] == [200, 200, 429]
            assert 1 <= int(issued[-1].headers["retry-after"]) <= 1801
            await running.service.reload()
            assert (await running.ask("POST", "/issue", b"request", bearer)).status == 429, "a reload forgives nothing"

    asyncio.run(scenario())


def test_what_the_store_warns_of_is_in_the_log_once(tmp_path: Path) -> None:
    class Worried(SQLiteStore):
        async def warnings(self) -> list[str]:
            return ["this store is about to forget; give it more"]

    async def scenario() -> None:
        store = Worried(tmp_path / "warning.sqlite3")
        async with Running(write_database(tmp_path / "db"), store, housekeeping_seconds=0.01) as running:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await running.service.keep_house()
            said = [line for line in running.log if line["event"] == "warning"]
            assert [(line["cause"], line["next_step"]) for line in said] == [
                ("this store is about to forget", "give it more")
            ]

    asyncio.run(scenario())


def test_limits_are_whole_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("--queue", "-1"), ("--key-space", "1.5"), ("--tokens-per-hour", "many")):
        with pytest.raises(SystemExit) as ended:
            serve_command(["db", *words])
        assert ended.value.code == 64 and "a whole number is wanted" in capsys.readouterr().err


class TestKeysInMemory:
    def test_they_have_a_bound_in_bytes(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with running_at(tmp_path, key_cache_bytes=3000) as running:
                for number in range(10):
                    await running.upload(f"user {number}")
                    assert running.service.keys.cached_bytes <= 3000
                body = query_body(running.config_id, 1)
                for number in range(10):  # those that had to go are read from the store
                    answer = await running.ask("POST", "/queries", body, user_identifier=f"user {number}")
                    assert answer.status == 200
                assert running.service.keys.misses >= 7

        asyncio.run(scenario())

    def test_another_instances_newer_key_counts(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with running_at(tmp_path) as one, Running(tmp_path / "db" / "service-config.json") as other:
                body = query_body(one.config_id, 1)
                assert (await one.ask("POST", "/queries", body)).answers[0][1] == parsed_key(b"my key")
                assert (await other.ask("POST", "/key", key_body(b"newer"))).status == 200
                assert (await one.ask("POST", "/queries", body)).answers[0][1] == parsed_key(b"newer")

        asyncio.run(scenario())


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="redis") as directory:
        server = RedisServer(Path(directory))
        server.start()
        yield server
        server.stop()


def test_while_redis_is_away_there_is_503_and_afterwards_none(tmp_path: Path, redis: RedisServer) -> None:
    async def scenario() -> list[dict[str, Any]]:
        async with running_at(tmp_path, store=open_store(redis.url)) as running:
            body = query_body(running.config_id, 1)

            async def ask_all() -> list[Answer]:
                return [
                    await running.ask("POST", "/queries", body),
                    await running.ask("POST", "/key", key_body()),
                    await running.ask("GET", "/health", b"", {}),
                ]

            assert [answer.status for answer in await ask_all()] == [200, 200, 200]
            await asyncio.to_thread(redis.stop)
            away = await ask_all()
            assert [answer.status for answer in away] == [503, 503, 503]
            assert all(int(answer.headers["retry-after"]) >= 1 for answer in away)
            await asyncio.to_thread(redis.start)
            assert [answer.status for answer in await ask_all()] == [200, 200, 200]
        return running.log

    refused = [line for line in asyncio.run(scenario()) if line["event"] == "refused"]
    assert len(refused) == 3 and all("start Redis" in line["next_step"] for line in refused)
