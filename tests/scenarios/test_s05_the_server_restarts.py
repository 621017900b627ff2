"""S5: the service restarts between any two steps of a lookup, with or without what it knew; the client never notices.

Apple's example service forgets its keys with a restart, and every device shows error 9 until somebody connects anew.
Here the process is killed before each request in turn, and the lookup under way ends with the right answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from network_extension.urlfilter.filter_provider import read_token
from network_extension.urlfilter.lookup_client import LookupClient
from network_extension.urlfilter.token_issuance import IssuerAccount
from network_extension.urlfilter.verdicts import StepLog
from network_extension.urlfilter.web_exchange import DirectTransport, WebAnswer, WebRequest
from tests.urlfilter_processes import USE_CASE, Server, build, serving

pytestmark = pytest.mark.scenario
STEPS = ("/token-key-for-user-token", "/issue", "/config", "/key", "/queries")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(build(tmp_path_factory.mktemp("restarts"))) as server:
        yield server


class RestartingTransport(DirectTransport):
    """Restarts the service before the first request to a path."""

    def __init__(self, server: Server, path: str, *, loses_state: bool) -> None:
        super().__init__()
        self._server, self._path, self._loses_state = server, path, loses_state
        self.restarts = 0

    async def exchange(self, request: WebRequest) -> WebAnswer:
        if request.url.endswith(self._path) and not self.restarts:
            self.restarts += 1
            await asyncio.to_thread(self._restart)
        return await super().exchange(request)

    def _restart(self) -> None:
        self._server.stop(9)
        if self._loses_state:
            for file in Path(self._server.database / "service").glob("state.sqlite*"):
                file.unlink()
        self._server.start()


@pytest.mark.parametrize("loses_state", [False, True], ids=["with its state", "without its state"])
@pytest.mark.parametrize("path", STEPS)
def test_a_restart_before_each_step(server: Server, path: str, loses_state: bool) -> None:
    async def work() -> list[bytes | None]:
        transport = RestartingTransport(server, path, loses_state=loses_state)
        url = f"http://127.0.0.1:{server.port}"
        token = read_token(str(server.database / "service" / "user-token"))
        client = LookupClient(url, USE_CASE, transport, IssuerAccount(url, token, transport))
        try:
            values = await client.lookup(["blocked.example", "allowed.example"], StepLog(lambda: 0.0))
        finally:
            await transport.close()
        assert transport.restarts == 1
        return list(values.values())

    assert asyncio.run(work()) == [b"1", None]
