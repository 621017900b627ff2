"""S13: the whole chain, each part by its command: client, relay, a gateway on its own, and the service behind it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from network_extension.cli.main import main
from tests.urlfilter_processes import Command, Server, build, serving

pytestmark = pytest.mark.scenario


def check(capsys: pytest.CaptureFixture[str], server: Server, *words: str) -> tuple[int, dict[str, object]]:
    url, token = f"http://127.0.0.1:{server.port}", str(server.database / "service" / "user-token")
    asked = ["urlfilter", "check", "https://blocked.example/", "--server", url, "--token-file", token]
    status = main([*asked, "--patience", "0", "--json", *words])
    return status, json.loads(capsys.readouterr().out)


def test_a_lookup_through_relay_and_gateway(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ["--store", str(tmp_path / "keys")]
    with serving(build(tmp_path), "--no-gateway") as server:
        with Command("gateway", "--target", f"http://127.0.0.1:{server.port}", *store) as gateway:
            with Command("relay", "--gateway", gateway.told["gateway"]) as relay:
                way = ["--ohttp-gateway", gateway.told["gateway"], "--ohttp-relay", relay.told["relay"]]
                status, said = check(capsys, server, *way)
                assert (status, said["verdict"]) == (20, "deny")
            status, said = check(capsys, server, *way)  # the relay has gone: the check says so
            assert status == 21 and "error" in said
        with Command("gateway", "--target", "http://other.example", *store) as closed:
            status, said = check(capsys, server, "--ohttp-gateway", closed.told["gateway"])
            assert status == 21  # it leads elsewhere only: no open proxy
