"""Reloads: no request is lost, old versions stay for those that ask for them, and what fails changes nothing."""

from __future__ import annotations

import asyncio
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from network_extension.errors import ConfigurationError
from network_extension.urlfilter.stores import StoreUnavailable

from .service_without_lookups import USE_CASE, Running, parsed_key, query_body, until, write_database


async def content_served(running: Running, config_id: bytes | None = None) -> bytes:
    answer = await running.ask("POST", "/queries", query_body(config_id or running.config_id, 1))
    assert answer.status == 200, answer.body
    return answer.answers[0][0]


def test_new_content_under_the_same_id_is_served_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = write_database(tmp_path / "db", "old")
        async with Running(path) as running:
            await running.upload()
            before = running.config_id
            assert await content_served(running) == b"old 0"
            write_database(tmp_path / "db", "new")
            await running.service.reload()
            assert running.config_id == before and await content_served(running) == b"new 0"

    asyncio.run(scenario())


def test_the_last_versions_stay_and_older_ones_are_gone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Running(write_database(tmp_path / "db", "v1", "keys 1")) as running:
            await running.upload()
            ids = [running.config_id]
            for number in (2, 3):
                write_database(tmp_path / "db", f"v{number}", f"keys {number}")
                await running.service.reload()
                ids.append(running.config_id)
            assert await content_served(running, ids[2]) == b"v3 0"
            assert await content_served(running, ids[1]) == b"v2 0"
            assert (await running.ask("POST", "/queries", query_body(ids[0], 1))).status == 410

    asyncio.run(scenario())


def test_no_request_is_lost_under_load(tmp_path: Path) -> None:
    """Eight clients ask without a pause while ten versions come, each with another configuration."""

    async def scenario() -> None:
        async with Running(write_database(tmp_path / "db", "v0", "keys 0")) as running:
            await running.upload()
            statuses: list[int] = []
            seen: set[bytes] = set()
            is_over = asyncio.Event()

            async def client() -> None:
                config_id = running.config_id
                while not is_over.is_set():
                    answer = await running.ask("POST", "/queries", query_body(config_id, 1, 2, 3))
                    statuses.append(answer.status)
                    seen.update(parts[0] for parts in answer.answers)
                    assert len({parts[0] for parts in answer.answers}) == 1, "half of an update"
                    config_id = running.config_id  # as the next /config tells

            async with asyncio.TaskGroup() as tasks:
                for _ in range(8):
                    tasks.create_task(client())
                for number in range(1, 11):
                    write_database(tmp_path / "db", f"v{number}", f"keys {number}")
                    await running.service.reload()
                    wanted = f"v{number} 0".encode()
                    await until(partial(seen.__contains__, wanted))
                is_over.set()
            assert set(statuses) == {200}

    asyncio.run(scenario())


def test_a_request_that_waits_gets_the_database_it_began_with(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Running(write_database(tmp_path / "db", "old")) as running:
            await running.upload()
            running.engine.gate.clear()
            async with asyncio.TaskGroup() as tasks:
                asked = tasks.create_task(content_served(running))
                await until(lambda: running.service.admission.pending)
                write_database(tmp_path / "db", "new")
                await running.service.reload()
                running.engine.gate.set()
            assert asked.result() == b"old 0" and await content_served(running) == b"new 0"

    asyncio.run(scenario())


BREAK = {
    "a shard that is broken": lambda db: (db / "urls-0.params.txtpb").write_text("broken"),
    "a shard that is away": lambda db: (db / "urls-1.bin").unlink(),
    "a configuration that is no JSON": lambda db: (db / "service-config.json").write_text("{"),
    "a configuration that is away": lambda db: (db / "service-config.json").unlink(),
}


@pytest.mark.parametrize("what", BREAK)
def test_what_fails_changes_nothing_and_is_said(tmp_path: Path, what: str) -> None:
    async def scenario() -> list[dict[str, Any]]:
        async with Running(write_database(tmp_path / "db", "old")) as running:
            await running.upload()
            BREAK[what](tmp_path / "db")
            await running.service.reload()
            assert await content_served(running) == b"old 0"
            write_database(tmp_path / "db", "new")
            await running.service.reload()
            assert await content_served(running) == b"new 0"
        return running.log

    (failed,) = [line for line in asyncio.run(scenario()) if line["event"] == "reload failed"]
    assert str(tmp_path) in failed["cause"] or USE_CASE in failed["cause"]
    assert "goes on as before" in failed["next_step"]


def test_a_defect_in_a_reload_does_not_end_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> list[dict[str, Any]]:
        async with Running(write_database(tmp_path / "db", "old")) as running:
            await running.upload()

            def fail(*_: object) -> Any:
                raise PermissionError(13, "Permission denied")

            monkeypatch.setattr(running.service._loader, "load", fail)
            await running.service.reload()
            assert await content_served(running) == b"old 0"
        return running.log

    (failed,) = [line for line in asyncio.run(scenario()) if line["event"] == "reload failed"]
    assert "PermissionError" in failed["cause"]


@pytest.mark.parametrize(
    "error", [StoreUnavailable("store x: gone; start it"), ConfigurationError("damaged"), RuntimeError("replaced")]
)
def test_housekeeping_that_fails_is_tried_again(tmp_path: Path, error: Exception) -> None:
    async def scenario() -> list[dict[str, Any]]:
        tries = 0

        async def fail() -> None:
            nonlocal tries
            tries += 1
            raise error

        async with Running(write_database(tmp_path / "db"), housekeeping_seconds=0.001) as running:
            running.service.also_keep.append(fail)
            async with asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(running.service.keep_house())
                await until(lambda: tries >= 3)
                keeping.cancel()
        return running.log

    assert [line for line in asyncio.run(scenario()) if line["event"] == "housekeeping failed"]


def test_users_of_a_new_configuration_count(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = write_database(tmp_path / "db")
        async with Running(path) as running:
            content = json.loads(path.read_text())
            content["users"] = [{"tier": "tier2", "tokens": ["AAAA"]}]
            path.write_text(json.dumps(content))
            await running.service.reload()
            bearer = {"authorization": "Bearer AAAA"}
            assert (await running.ask("GET", "/token-key-for-user-token", b"", bearer)).body == b"tier2"

    asyncio.run(scenario())


def test_files_that_are_the_same_are_not_opened_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Running(write_database(tmp_path / "db")) as running:
            await running.service.reload()
            assert running.engine.opened == ["urls"]

    asyncio.run(scenario())


def test_a_switch_of_current_is_noticed_without_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for a directory that only the newest configuration names."""

    async def scenario() -> None:
        path = write_database(tmp_path / "db")
        built = tmp_path / "built"
        built.mkdir()
        os.symlink("versions/1", built / "current")
        reloads = 0

        async with Running(path, watch_seconds=0.001) as running:
            monkeypatch.setattr(running.service._loader, "load", lambda *_: running.service.catalogue)
            content = json.loads(path.read_text())
            content["usecases"].append({"directory": str(built)})
            path.write_text(json.dumps(content))
            await running.service.reload()

            async def count() -> None:
                nonlocal reloads
                reloads += 1
                running.service._note_current(running.service.configuration)

            monkeypatch.setattr(running.service, "reload", count)
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(running.service.watch())
                os.symlink("versions/2", built / "next")
                os.replace(built / "next", built / "current")
                await until(lambda: reloads)
                watching.cancel()

    asyncio.run(scenario())


def test_a_key_stays_over_a_reload_whose_parameters_need_the_same_keys(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Running(write_database(tmp_path / "db", "v1", "keys 1")) as running:
            await running.upload()
            write_database(tmp_path / "db", "v2", "keys 2")
            await running.service.reload()
            answer = await running.ask("POST", "/queries", query_body(running.config_id, 1))
            assert answer.answers == [[b"v2 0", parsed_key(), b"1"]]

    asyncio.run(scenario())
