"""The client against the real service, with real keys, tokens and queries: directly, obliviously, and over restarts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from network_extension.cli.main import main
from network_extension.urlfilter.client import Status, URLFilter, Verdict
from network_extension.urlfilter.filter_provider import read_token
from network_extension.urlfilter.filter_session import FilterSession
from network_extension.urlfilter.url_filter_configuration import URLFilterConfiguration
from tests.urlfilter_processes import Server, build, serving

BLOCKED, ALLOWED = "https://www.blocked.example/path?query", "https://allowed.example/"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(build(tmp_path_factory.mktemp("client"))) as server:
        yield server


def configuration(server: Server, **settings: Any) -> URLFilterConfiguration:
    token = read_token(str(server.database / "service" / "user-token"))
    return URLFilterConfiguration(f"http://127.0.0.1:{server.port}", pir_authentication_token=token, **settings)


async def verdicts(session: FilterSession, *urls: str) -> list[Verdict]:
    found = []
    for url in urls:
        report = await session.verdict_for(url)
        assert report.error is None, report
        found.append(report.verdict)
    return found


@pytest.mark.parametrize("is_oblivious", [False, True], ids=["directly", "by Oblivious HTTP"])
def test_what_the_list_has_is_blocked_and_nothing_else(server: Server, is_oblivious: bool) -> None:
    async def work() -> list[Verdict]:
        gateway = f"http://127.0.0.1:{server.port}" if is_oblivious else None
        session = FilterSession(configuration(server, oblivious_gateway_url=gateway))
        try:
            await session.start()
            return await verdicts(session, BLOCKED, ALLOWED, "http://site.example/bad/path", "http://site.example/bad")
        finally:
            await session.stop()

    assert asyncio.run(work()) == [Verdict.DENY, Verdict.ALLOW, Verdict.DENY, Verdict.ALLOW]


def test_the_manager_starts_and_stops_the_filter(server: Server, tmp_path: Path) -> None:
    async def work() -> None:
        filters = URLFilter(directory=tmp_path)
        await filters.load_from_preferences()
        filters.set_configuration(
            f"http://127.0.0.1:{server.port}", None, configuration(server).pir_authentication_token
        )
        await filters.save_to_preferences()
        try:
            assert (filters.status, filters.last_disconnect_error) == (Status.RUNNING, None)
            assert await filters.verdict_for(BLOCKED) is Verdict.DENY
        finally:
            await filters.close()
        assert filters.status is Status.STOPPED and await filters.verdict_for(BLOCKED) is Verdict.UNKNOWN

    asyncio.run(work())


def check(capsys: pytest.CaptureFixture[str], server: Server, url: str, *words: str) -> tuple[int, str]:
    token = str(server.database / "service" / "user-token")
    options = ("--server", f"http://127.0.0.1:{server.port}", "--token-file", token)
    status = main(["urlfilter", "check", url, *options, *words])
    return status, capsys.readouterr().out


class TestCheck:
    def test_blocked(self, capsys: pytest.CaptureFixture[str], server: Server) -> None:
        status, said = check(capsys, server, BLOCKED)
        assert status == 20 and "blocked: blocked.example is on the list" in said
        names = [line.split()[0] for line in said.splitlines()[1:]]
        assert names == ["fetch", "forms", "prefilter", "issuer", "token", "config", "key", "key", "query", "verdict"]

    def test_allowed(self, capsys: pytest.CaptureFixture[str], server: Server) -> None:
        status, said = check(capsys, server, ALLOWED, "--json")
        assert status == 0 and json.loads(said)["verdict"] == "allow" and json.loads(said)["findings"] == []
