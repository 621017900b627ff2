"""Endpoints, headers and statuses of specification §1.2, one by one, without a network and without lookups."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from network_extension.pir.proto import api_pb2

from .service_without_lookups import (
    AGENT,
    DEFECT,
    HEADERS,
    MISFIT,
    USE_CASE,
    USER,
    USER_TOKEN,
    Running,
    config_body,
    key_body,
    key_identifier,
    key_message,
    parsed_key,
    query_body,
    write_database,
)

Scenario = Callable[[Running], Awaitable[None]]


def run(tmp_path: Path, scenario: Scenario, parameters: str = "keys", **options: Any) -> list[dict[str, Any]]:
    """Run it against a service of its own; the log."""

    async def whole() -> list[dict[str, Any]]:
        async with Running(write_database(tmp_path / "db", parameters=parameters), **options) as running:
            await scenario(running)
        return running.log

    return asyncio.run(whole())


def refusals(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in log if line["event"] == "refused"]


def test_a_lookup_is_answered_by_its_shard_with_the_clients_key(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        await running.upload()
        answer = await running.ask("POST", "/queries", query_body(running.config_id, 5, shard=1))
        assert answer.status == 200 and answer.answers == [[b"rows 1", parsed_key(), b"5"]]

    assert refusals(run(tmp_path, scenario)) == []


def test_many_lookups_in_one_body_are_answered_in_their_order(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        await running.upload()
        answer = await running.ask("POST", "/queries", query_body(running.config_id, *range(1, 60)))
        assert [parts[2] for parts in answer.answers] == [str(call).encode() for call in range(1, 60)]

    run(tmp_path, scenario)


def test_a_key_in_the_request_is_used_and_not_kept(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        body = query_body(running.config_id, 1, evaluation_key=key_message(b"inline"))
        assert (await running.ask("POST", "/queries", body)).answers[0][1] == parsed_key(b"inline")
        assert (await running.ask("POST", "/queries", query_body(running.config_id, 1))).status == 400

    run(tmp_path, scenario)


REFUSED = {
    "no token": ("/config", config_body(USE_CASE), {"authorization": ""}, 401, "A PrivateToken is needed"),
    "bad token": ("/config", config_body(USE_CASE), {"authorization": "bad"}, 401, "not valid"),
    "no User-Identifier": ("/config", config_body(USE_CASE), {"user-identifier": ""}, 400, "User-Identifier"),
    "no User-Agent": ("/config", config_body(USE_CASE), {"user-agent": ""}, 400, "User-Agent"),
    "other use case": ("/config", config_body("other"), {}, 404, "not found"),
    "too few ids": ("/config", config_body(USE_CASE, USE_CASE, existing=(b"x",)), {}, 400, "1 existing"),
    "no config request": ("/config", b"\xff", {}, 400, "no ConfigRequest"),
    "no keys": ("/key", b"", {}, 400, "0 evaluation keys"),
    "no key message": ("/key", b"\x0a\xff", {}, 400, "no EvaluationKeys"),
    "key of another configuration": ("/key", key_body(parameters="others"), {}, 400, "not served"),
    "no queries": ("/queries", b"\xff", {}, 400, "no Requests"),
    "report is no JSON": ("/report", b"[", {"content-type": "application/json"}, 400, "not JSON"),
    "report is no list": ("/report", b'{"a":1}', {"content-type": "application/json"}, 400, "array of strings"),
    "report is no protobuf": ("/report", b"\xff", {}, 400, "URLFilterReport"),
    "report without a token": ("/report", b"", {"authorization": ""}, 401, "needed"),
    "no such path": ("/other", b"", {}, 404, "Not found"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(tmp_path: Path, case: str) -> None:
    path, body, headers, status, message = REFUSED[case]

    async def scenario(running: Running) -> None:
        answer = await running.ask("POST", path, body, {**HEADERS, **headers})
        assert answer.status == status and message in answer.message
        assert ("www-authenticate" in answer.headers) == (status == 401)

    (line,) = refusals(run(tmp_path, scenario))
    assert line["status"] == status and line["cause"]
    assert status == 404 or line["next_step"]


QUERIES_REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "unknown use case": ({"use_case": "other"}, 400, "Unknown use case"),
    "no such shard": ({"shard": 2}, 400, "Shard 2 does not exist"),
    "shard by id": ({"shard_id": "first"}, 501, "not supported"),
    "key that is named is another": (
        {"evaluation_key_metadata": api_pb2.EvaluationKeyMetadata(identifier=b"other")}, 400, "another configuration"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", QUERIES_REFUSED)
def test_refused_queries(tmp_path: Path, case: str) -> None:
    fields, status, message = QUERIES_REFUSED[case]

    async def scenario(running: Running) -> None:
        await running.upload()
        answer = await running.ask("POST", "/queries", query_body(running.config_id, 1, **fields))
        assert answer.status == status and message in answer.message

    run(tmp_path, scenario)


def test_a_key_that_is_not_there_is_said_in_apples_words(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        await running.upload()
        answer = await running.ask("POST", "/queries", query_body(running.config_id, 1), user_identifier="another")
        assert answer.status == 400 and answer.message == "Evaluation key not found"

    run(tmp_path, scenario)


def test_a_version_that_is_gone_is_410(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        await running.upload()
        assert (await running.ask("POST", "/queries", query_body(b"older", 1))).status == 410

    run(tmp_path, scenario)


def test_a_query_that_does_not_fit_refuses_the_whole_body(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        await running.upload()
        answer = await running.ask("POST", "/queries", query_body(running.config_id, 1, MISFIT, 2))
        assert answer.status == 400 and "does not fit" in answer.message
        assert running.service.admission.pending == 0

    (line,) = refusals(run(tmp_path, scenario))
    assert line["cause"] == "query: 99 indices; make the query for this database"


def test_a_defect_is_500_and_its_text_stays_out_of_log_and_answer(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        await running.upload()
        answer = await running.ask("POST", "/queries", query_body(running.config_id, DEFECT))
        assert answer.status == 500 and answer.message == "Internal error"
        assert running.service.admission.pending == 0

    (line,) = refusals(run(tmp_path, scenario))
    assert line["cause"].startswith("ZeroDivisionError at service_without_lookups.py:") and USER not in str(line)


def config_of(body: bytes) -> api_pb2.Config:
    return api_pb2.ConfigResponse.FromString(body).configs[USE_CASE]


DECODERS: dict[str | None, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    None: bytes,
}


class TestConfig:
    def test_without_names_it_describes_all(self, tmp_path: Path) -> None:
        async def scenario(running: Running) -> None:
            answer = await running.ask("POST", "/config", b"")
            config = config_of(answer.body)
            assert config.config_id == running.config_id and not config.reuse_existing_config
            assert config.pir_config.pir_shard_configs.repeated_shard_config.shard_count == 2

        run(tmp_path, scenario)

    def test_an_id_that_is_current_saves_the_body(self, tmp_path: Path) -> None:
        async def scenario(running: Running) -> None:
            body = config_body(USE_CASE, existing=(running.config_id,))
            config = config_of((await running.ask("POST", "/config", body)).body)
            assert config.reuse_existing_config and not config.HasField("pir_config")
            older = config_body(USE_CASE, existing=(b"older",))
            assert config_of((await running.ask("POST", "/config", older)).body).HasField("pir_config")

        run(tmp_path, scenario)

    def test_it_tells_whether_the_key_is_there(self, tmp_path: Path) -> None:
        async def scenario(running: Running) -> None:
            for there in (False, True):
                answer = await running.ask("POST", "/config", config_body(USE_CASE))
                (info,) = api_pb2.ConfigResponse.FromString(answer.body).key_info
                assert (info.timestamp > 1_700_000_000) == there
                assert info.key_config.has_relin_key
                await running.upload()

        run(tmp_path, scenario)

    @pytest.mark.parametrize("agent", ["a/1 iOS/18.1 x", "a/1 (Macintosh; OS X 15.1)", "a/1 iOS/17.9"])
    def test_old_systems_get_each_shard_for_itself(self, tmp_path: Path, agent: str) -> None:
        async def scenario(running: Running) -> None:
            config = config_of((await running.ask("POST", "/config", b"", user_agent=agent)).body)
            assert len(config.pir_config.shard_configs) == 2
            assert not config.pir_config.HasField("pir_shard_configs")
            assert config.config_id == running.config_id

        run(tmp_path, scenario)

    @pytest.mark.parametrize(("agent", "status"), [("iOS/18.1", 500), ("iOS/18.2", 200), (AGENT, 200), ("curl", 200)])
    def test_old_systems_cannot_read_double_mod(self, tmp_path: Path, agent: str, status: int) -> None:
        async def scenario(running: Running) -> None:
            assert (await running.ask("POST", "/config", b"", user_agent=agent)).status == status

        run(tmp_path, scenario, parameters="keys double mod")

    @pytest.mark.parametrize(
        ("accepted", "coding"),
        [("gzip", "gzip"), ("gzip, deflate", "gzip"), ("deflate", "deflate"), ("gzip;q=0, *;q=0.5", "deflate"),
         ("br", None), ("gzip;q=0", None), ("gzip;q=x", None), ("", None), (",;,", None)],
    )  # fmt: skip
    def test_compression(self, tmp_path: Path, accepted: str, coding: str | None) -> None:
        async def scenario(running: Running) -> None:
            answer = await running.ask("POST", "/config", b"", accept_encoding=accepted)
            assert answer.headers.get("content-encoding") == coding
            plain = DECODERS[coding](answer.body)
            assert config_of(plain).config_id == running.config_id

        run(tmp_path, scenario)


class TestReports:
    @pytest.mark.parametrize("form", ["json", "protobuf"])
    def test_both_forms_are_kept_as_apple_keeps_them(self, tmp_path: Path, form: str) -> None:
        urls = ["https://a.example/ä", "b.example"]

        async def scenario(running: Running) -> None:
            if form == "json":
                body, kind = json.dumps(urls).encode(), "application/json; charset=utf-8"
            else:
                body, kind = api_pb2.URLFilterReport(urls=urls).SerializeToString(), "application/octet-stream"
            headers = {"authorization": "good", "user-agent": "mdm/1", "content-type": kind}
            assert (await running.ask("POST", "/report", body, headers)).status == 200

        log = run(tmp_path, scenario)
        (path,) = (tmp_path / "db" / "reports").iterdir()
        kept = text_format.Parse(path.read_text(), api_pb2.URLFilterReportWithMetadata())
        assert (
            list(kept.report.urls) == urls and kept.user_agent == "mdm/1" and kept.received_at.seconds > 1_700_000_000
        )
        assert path.suffix == ".txtpb" and path.stat().st_mode & 0o777 == 0o600
        assert "a.example" not in str(log)

    def test_a_directory_that_cannot_be_written_is_503(self, tmp_path: Path) -> None:
        async def scenario(running: Running) -> None:
            (tmp_path / "db" / "reports").write_text("a file")
            answer = await running.ask("POST", "/report", b"")
            assert answer.status == 503 and answer.headers["retry-after"] == "60"

        (line,) = refusals(run(tmp_path, scenario))
        assert "reports" in line["cause"] and "written" in line["next_step"]


class TestIssuer:
    @pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "Basic x", "Bearer AAAA", "Bearer \xe4"])
    def test_bad_user_tokens(self, tmp_path: Path, authorization: str) -> None:
        async def scenario(running: Running) -> None:
            for method, path in (("GET", "/token-key-for-user-token"), ("POST", "/issue")):
                assert (await running.ask(method, path, b"", {"authorization": authorization})).status == 401

        run(tmp_path, scenario)

    def test_users_get_their_tiers_key(self, tmp_path: Path) -> None:
        async def scenario(running: Running) -> None:
            bearer = {"authorization": f"bearer {USER_TOKEN}"}
            assert (await running.ask("GET", "/token-key-for-user-token", b"", bearer)).body == b"tier1"
            answer = await running.ask("POST", "/issue", bytes(259), bearer)
            assert answer.body == b"signed for tier1"
            assert answer.headers["content-type"] == "application/private-token-response"
            assert (await running.ask("POST", "/issue", bytes(5000), bearer)).status == 422

        run(tmp_path, scenario)

    def test_the_directory_needs_nothing(self, tmp_path: Path) -> None:
        async def scenario(running: Running) -> None:
            answer = await running.ask("GET", "/.well-known/private-token-issuer-directory", b"", {})
            assert json.loads(answer.body)["issuer-request-uri"] == "/issue"

        run(tmp_path, scenario)


def test_metrics_and_health_name_no_client(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        await running.upload()
        await running.ask("POST", "/queries", query_body(running.config_id, 1, 2))
        await running.ask("POST", f"/secret-{USER}")
        text = (await running.ask("GET", "/metrics", b"", {})).body.decode()
        assert f'netext_urlfilter_lookups_total{{usecase="{USE_CASE}"}} 2.0' in text
        assert 'netext_urlfilter_requests_total{route="other",status="404"} 1.0' in text
        assert USER not in text
        health = await running.ask("GET", "/health", b"", {})
        assert health.status == 200 and json.loads(health.body)["ready"] is True
        running.service.is_ready = False
        assert (await running.ask("GET", "/health/ready", b"", {})).status == 503
        assert (await running.ask("GET", "/health/live", b"", {})).status == 200

    assert USER not in str(run(tmp_path, scenario))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["/config", "/key", "/queries", "/report"]), st.binary(max_size=300), st.booleans())
def test_no_body_makes_a_defect(
    tmp_path_factory: pytest.TempPathFactory, path: str, noise: bytes, is_json: bool
) -> None:
    async def scenario(running: Running) -> None:
        good = {"/config": config_body(USE_CASE), "/key": key_body(), "/queries": query_body(running.config_id, 1)}
        seed = good.get(path, b"\x0a\x03abc")
        kind = "application/json" if is_json else "x/y"
        for body in (noise, seed[: len(noise)], bytes(a ^ b for a, b in zip(seed, noise, strict=False))):
            assert (await running.ask("POST", path, body, content_type=kind)).status in (200, 400, 404, 410, 501)

    run(tmp_path_factory.mktemp("fuzz"), scenario)


def test_the_identifier_of_keys_is_part_of_their_name(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        await running.upload()
        records = [await running.store.key_record(name) for name in (USER.encode(), key_identifier())]
        assert records == [None, None], "the store knows no User-Identifier"

    run(tmp_path, scenario)
