"""S13: an Oblivious HTTP gateway is needed and nothing can test it: one command has it, another asks by way of it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from network_extension.cli.main import main
from tests.urlfilter_processes import Server, build, serving

pytestmark = pytest.mark.scenario


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(build(tmp_path_factory.mktemp("gateway"))) as server:
        yield server


def check(capsys: pytest.CaptureFixture[str], server: Server, *words: str) -> tuple[int, dict[str, object]]:
    url = f"http://127.0.0.1:{server.port}"
    token = str(server.database / "service" / "user-token")
    status = main(
        ["urlfilter", "check", "https://blocked.example/", "--server", url, "--token-file", token, "--json", *words]
    )
    return status, json.loads(capsys.readouterr().out)


def test_a_gateway_that_works(capsys: pytest.CaptureFixture[str], server: Server) -> None:
    status, said = check(capsys, server, "--ohttp-gateway", f"http://127.0.0.1:{server.port}")
    assert (status, said["verdict"]) == (20, "deny")


def test_one_that_does_not_is_the_step_at_fault(capsys: pytest.CaptureFixture[str], server: Server) -> None:
    """The same check without the gateway succeeds, so the gateway it is."""
    words = ("--ohttp-gateway", f"http://127.0.0.1:{server.port}/nowhere", "--patience", "0")
    status, said = check(capsys, server, *words)
    assert status == 21 and "oblivious HTTP" in str(said["error"]) and said["fault"] == "config"
    assert check(capsys, server)[0] == 20
