"""The whole back end from a list to an answer: `netext urlfilter build` and `serve` as a user runs them, asked by the
private lookup's own client over HTTP, with tokens, directly and through Oblivious HTTP, and over restarts.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from network_extension.pir.client import ClientKeys, KeywordClient, Query
from network_extension.pir.proto import api_pb2
from network_extension.urlfilter import oblivious_http as oh
from network_extension.urlfilter import privacy_pass as pp
from network_extension.urlfilter.bloom import read_prefilter
from tests.urlfilter_processes import LIST, USE_CASE, Answer, Server, build, serving

AGENT = "com.apple.ciphermld/1.0 iOS/26.4"


class Device:
    """What an iPhone does, step by step, so that a test may come between."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.user_token = (server.database / "service" / "user-token").read_text().strip()
        self.name = str(uuid.uuid4()).upper()
        self.tokens: list[pp.Token] = []
        self.client: KeywordClient | None = None
        self.keys: ClientKeys | None = None
        self.configuration = b""

    def fetch_tokens(self, count: int) -> None:
        bearer = f"Bearer {self.user_token}"
        key = self.server.ask("GET", "/token-key-for-user-token", Authorization=bearer)
        assert key.status == 200 and len(key.body) == 342
        for _ in range(count):
            claim = pp.TokenClaim.begin(key.body, "localhost", os.urandom)
            answer = self.server.ask("POST", "/issue", claim.request.to_bytes(), Authorization=bearer)
            assert answer.status == 200 and answer.headers["content-type"] == "application/private-token-response"
            self.tokens.append(claim.finish(answer.body))

    def headers(self) -> dict[str, str]:
        return {"Authorization": pp.authorization(self.tokens.pop()), "User-Identifier": self.name, "User-Agent": AGENT}

    def post(self, path: str, body: bytes) -> Answer:
        return self.server.ask("POST", path, body, **self.headers())

    def configure(self) -> None:
        request = api_pb2.ConfigRequest(usecases=[USE_CASE])
        answer = self.post("/config", request.SerializeToString())
        assert answer.status == 200
        config = api_pb2.ConfigResponse.FromString(answer.body).configs[USE_CASE]
        self.client, self.configuration = KeywordClient(config.pir_config), config.config_id

    def upload(self) -> None:
        assert self.client is not None
        self.keys = self.client.new_keys(os.urandom)
        metadata = api_pb2.EvaluationKeyMetadata(timestamp=1, identifier=self.keys.identifier)
        key = api_pb2.EvaluationKey(metadata=metadata, evaluation_key=self.keys.evaluation_key)
        assert self.post("/key", api_pb2.EvaluationKeys(keys=[key]).SerializeToString()).status == 200

    def queries(self, keyword: str) -> tuple[bytes, Query]:
        assert self.client is not None and self.keys is not None
        query = self.client.query(keyword.encode(), self.keys, os.urandom)
        request = api_pb2.Request(
            usecase=USE_CASE,
            pir_request=api_pb2.PIRRequest(
                shard_index=query.shard_index,
                query=query.message,
                evaluation_key_metadata=api_pb2.EvaluationKeyMetadata(identifier=self.keys.identifier),
                configuration_hash=self.configuration,
            ),
        )
        return api_pb2.Requests(requests=[request]).SerializeToString(), query

    def value(self, query: Query, body: bytes) -> bytes | None:
        assert self.client is not None and self.keys is not None
        response = api_pb2.Responses.FromString(body).responses[0].pir_response
        return self.client.value(query, self.keys, response)

    def lookup(self, keyword: str) -> bytes | None:
        body, query = self.queries(keyword)
        answer = self.post("/queries", body)
        assert answer.status == 200
        return self.value(query, answer.body)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("urlfilter"))


@pytest.fixture(scope="module")
def server(database: Path) -> Iterator[Server]:
    with serving(database) as server:
        yield server


@pytest.fixture(scope="module")
def device(server: Server) -> Device:
    made = Device(server)
    made.fetch_tokens(3)
    made.configure()
    made.upload()
    return made


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("blocked.example", b"1"), ("ads.example", b"1"), ("site.example/bad/path", b"1"), ("fine.example", None)],
)
def test_a_lookup(device: Device, keyword: str, value: bytes | None) -> None:
    device.fetch_tokens(1)
    assert device.lookup(keyword) == value
    prefilter = read_prefilter(device.server.ask("GET", "/prefilter").body)
    assert (keyword in prefilter) == (value is not None)


def test_a_restart_between_every_two_steps_loses_nothing(database: Path) -> None:
    """Scenario S5: kill -9, and the client goes on as if nothing had been."""
    server = Server(database)
    try:
        device = Device(server)
        steps: list[Callable[[], None]] = [lambda: device.fetch_tokens(4), device.configure, device.upload]
        for step in steps:
            step()
            server.restart()
        assert device.lookup("blocked.example") == b"1"
        server.restart(signal.SIGTERM)
        assert device.lookup("fine.example") is None
    finally:
        server.stop()


def test_a_token_counts_once_also_over_a_restart(server: Server, device: Device) -> None:
    device.fetch_tokens(1)
    token = device.tokens[-1]
    assert device.lookup("blocked.example") == b"1"
    for _ in range(2):
        device.tokens.append(token)
        answer = device.post("/queries", device.queries("blocked.example")[0])
        assert answer.status == 401 and answer.headers["www-authenticate"].startswith("PrivateToken ")
        server.restart()


def test_through_the_gateway(server: Server, device: Device) -> None:
    """What a relay would carry: the request is sealed, its token and headers inside."""
    device.fetch_tokens(1)
    body, query = device.queries("blocked.example")

    async def carrier(method: str, url: str, content_type: str, body: bytes) -> tuple[int, str, bytes]:
        answer = await asyncio.to_thread(server.ask, method, url, body, Content_Type=content_type)
        return answer.status, answer.headers["content-type"], answer.body

    headers = tuple((name.lower(), value) for name, value in device.headers().items())
    request = oh.BinaryRequest("POST", "https", "pir.example", "/queries", headers, body)
    answer = asyncio.run(oh.ObliviousClient("/gateway", "/ohttp-keys", carrier).exchange(request))
    assert answer.status == 200
    assert device.value(query, answer.content) == b"1"
    metrics = oh.BinaryRequest("GET", "https", "pir.example", "/metrics")
    assert asyncio.run(oh.ObliviousClient("/gateway", "/ohttp-keys", carrier).exchange(metrics)).status == 404


class TestRefusals:
    """Statuses of specification §1.2."""

    def test_without_a_token(self, server: Server) -> None:
        answer = server.ask("POST", "/config", b"", User_Identifier="x", User_Agent=AGENT)
        assert answer.status == 401 and json.loads(answer.body)["error"]["message"]

    def test_without_headers(self, device: Device) -> None:
        device.fetch_tokens(1)
        headers = {"Authorization": pp.authorization(device.tokens.pop())}
        assert device.server.ask("POST", "/config", b"", **headers).status == 400

    def test_no_such_use_case(self, device: Device) -> None:
        device.fetch_tokens(1)
        request = api_pb2.ConfigRequest(usecases=["other.url.filtering"])
        assert device.post("/config", request.SerializeToString()).status == 404

    def test_no_protobuf(self, device: Device) -> None:
        device.fetch_tokens(3)
        for path in ("/config", "/key", "/queries"):
            assert device.post(path, b"\xff\xff\xff").status == 400

    def test_a_configuration_that_is_gone(self, device: Device) -> None:
        device.fetch_tokens(1)
        requests = api_pb2.Requests.FromString(device.queries("a.example")[0])
        requests.requests[0].pir_request.configuration_hash = bytes(32)
        assert device.post("/queries", requests.SerializeToString()).status == 410

    def test_no_key(self, device: Device) -> None:
        device.fetch_tokens(1)
        body, _ = device.queries("a.example")
        name, device.name = device.name, "AAAAAAAA-7D31-4A4B-9B0E-6F1B5C1D2E3F"
        answer = device.post("/queries", body)
        device.name = name
        assert answer.status == 400 and b"Evaluation key not found" in answer.body

    def test_a_bad_user_token(self, server: Server) -> None:
        for bearer in ("Bearer AAAA", "Basic AAAA", ""):
            assert server.ask("GET", "/token-key-for-user-token", Authorization=bearer).status == 401

    def test_a_bad_token_request(self, device: Device) -> None:
        answer = device.server.ask("POST", "/issue", b"short", Authorization=f"Bearer {device.user_token}")
        assert answer.status == 422


def test_a_new_version_is_served_without_a_restart_and_the_old_one_too(database: Path) -> None:
    server = Server(database)
    try:
        device = Device(server)
        device.fetch_tokens(8)
        device.configure()
        device.upload()
        build(database.parent, LIST + "new.example\n")
        server.process.send_signal(signal.SIGHUP)
        for _ in range(200):
            if "version 2" in server.ask("GET", "/health").body.decode():
                break
        assert "version 2" in server.ask("GET", "/health").body.decode()
        assert device.lookup("blocked.example") == b"1"
        assert device.lookup("new.example") == b"1"
    finally:
        said = server.stop()
    for secret in (device.user_token, device.name, "blocked.example", "new.example"):
        assert secret not in said
