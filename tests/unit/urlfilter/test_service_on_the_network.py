"""The service behind its web server: signals, TLS with HTTP/2, slow and broken clients, and what the log says."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

from network_extension.testing.netlab import wait_for
from network_extension.urlfilter import oblivious_http as oh
from network_extension.urlfilter.service.loading import VersionFiles

from .service_without_lookups import (
    HEADERS,
    USE_CASE,
    USER,
    USER_TOKEN,
    TextEngine,
    config_body,
    key_body,
    query_body,
    write_database,
)


class Served:
    """`serve_without_lookups` in a process of its own."""

    def __init__(self, folder: Path, *tls: str) -> None:
        self.database = folder / "db"
        self.configuration = write_database(self.database)
        self.log_path = folder / "log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.serve_without_lookups", str(self.configuration), *tls],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log_path.read_text()
        self.port = int(line)

    def open_the_gate(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, HEADERS | {n.replace("_", "-"): text for n, text in headers.items()})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def pending(self) -> float:
        """Lookups that wait or run."""
        text = self.ask("GET", "/metrics")[1].decode()
        (line,) = [line for line in text.splitlines() if line.startswith("netext_urlfilter_lookups_pending ")]
        return float(line.rpartition(" ")[2])

    def config_id(self) -> bytes:
        pairs = tuple((self.database / f"urls-{i}.bin", self.database / f"urls-{i}.params.txtpb") for i in range(2))
        return TextEngine().open_version(VersionFiles(USE_CASE, "urls", pairs)).config_id

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    made.end()


def test_sigterm_answers_what_was_begun_and_ends_with_0(served: Served) -> None:
    assert served.ask("POST", "/key", key_body())[0] == 200
    body = query_body(served.config_id(), 1)
    with ThreadPoolExecutor(6) as clients:
        asked = [clients.submit(served.ask, "POST", "/queries", body) for _ in range(6)]
        wait_for(lambda: served.pending() == 6)
        served.process.send_signal(signal.SIGTERM)
        wait_for(lambda: not _accepts(served.port), what="the listening socket's end")
        assert not any(future.done() for future in asked)
        served.open_the_gate()
        assert [future.result()[0] for future in asked] == [200] * 6
    assert served.process.wait(20) == 0
    assert [line["event"] for line in served.log][-2:] == ["stopping", "stopped"]


def test_an_idle_connection_does_not_keep_it_from_ending(served: Served) -> None:
    idle = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    idle.request("GET", "/health")
    idle.getresponse().read()
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(20) == 0
    idle.close()


def test_sighup_under_load_loses_no_request(served: Served) -> None:
    served.open_the_gate()
    assert served.ask("POST", "/key", key_body())[0] == 200
    body = query_body(served.config_id(), 1, 2)

    def client(_: int) -> list[int]:
        return [served.ask("POST", "/queries", body)[0] for _ in range(40)]

    with ThreadPoolExecutor(4) as clients:
        asked = [clients.submit(client, number) for number in range(4)]
        for number in range(5):
            write_database(served.database, f"v{number}")
            served.process.send_signal(signal.SIGHUP)
            wait_for(partial(_has_reloaded, served, number + 1))
        assert {status for future in asked for status in future.result()} == {200}


def test_kill_9_loses_no_key(tmp_path: Path) -> None:
    first = Served(tmp_path)
    try:
        assert first.ask("POST", "/key", key_body(bytes(700_000)))[0] == 200
    finally:
        first.end()
    second = Served(tmp_path)
    try:
        second.open_the_gate()
        assert second.ask("POST", "/queries", query_body(second.config_id(), 1))[0] == 200
    finally:
        second.end()


@pytest.mark.parametrize("path", ["/config", "/gateway"])
def test_a_body_that_trickles_is_given_up(served: Served, path: str) -> None:
    kind = oh.encapsulation.REQUEST_TYPE if path == "/gateway" else "x/y"
    head = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Type: {kind}", "Content-Length: 1000"]
    head += [f"{name}: {value}" for name, value in HEADERS.items()]
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall("\r\n".join([*head, "", "abc"]).encode())
        assert connection.recv(4096).split()[1] == b"408"
    assert served.ask("GET", "/health")[0] == 200


@pytest.mark.parametrize("path", ["/config", "/key", "/queries", "/report", "/issue", "/gateway"])
def test_a_body_beyond_10_mib_is_413(served: Served, path: str) -> None:
    token = {"authorization": f"Bearer {USER_TOKEN}"} if path == "/issue" else {}
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        fields = HEADERS | token | {"content-length": str((10 << 20) + 1)}
        lines = [f"POST {path} HTTP/1.1", "Host: a", *(f"{name}: {value}" for name, value in fields.items())]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        assert connection.recv(4096).split()[1] == b"413"


def test_a_client_that_goes_away_leaves_nothing(served: Served) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", served.port)) as connection:
            connection.sendall(b"POST /key HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\nabc")
    assert served.ask("GET", "/health")[0] == 200 and served.pending() == 0


def test_lookups_of_clients_that_go_away_are_not_computed(served: Served) -> None:
    """Two run, four wait, all of them for clients that leave: of those that wait, none is begun any more."""
    assert served.ask("POST", "/key", key_body())[0] == 200
    body = query_body(served.config_id(), 1)
    head = "".join(f"{name}: {text}\r\n" for name, text in HEADERS.items())
    request = f"POST /queries HTTP/1.1\r\nHost: a\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    clients = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(6)]
    for client in clients:
        client.sendall(request)
    wait_for(lambda: served.pending() == 6, 10, "six lookups")
    for client in clients:
        client.close()
    wait_for(lambda: served.pending() == 0, 10, "nobody to be waited for")
    assert [line["status"] for line in served.log if line["event"] == "refused"] == [499] * 6


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str, str]:
    authority = trustme.CA()
    made = authority.issue_cert("localhost")
    made.private_key_pem.write_to_path(tmp_path / "key.pem")
    for blob in made.cert_chain_pems:
        blob.write_to_path(tmp_path / "cert.pem", append=True)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"), str(tmp_path / "ca.pem")


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl: it is in scripts/debian-packages.txt")
@pytest.mark.parametrize(("option", "version"), [("--http2", "2"), ("--http1.1", "1.1")])
def test_tls_with_the_version_that_the_client_chooses(
    tmp_path: Path, certificate: tuple[str, str, str], option: str, version: str
) -> None:
    cert, key, authority = certificate
    served = Served(tmp_path, cert, key)
    try:
        words = ["curl", "-sS", option, "--cacert", authority, "-o", os.devnull, "-w", "%{http_code} %{http_version}"]
        where = [f"https://localhost:{served.port}/health", "--resolve", f"localhost:{served.port}:127.0.0.1"]
        done = subprocess.run([*words, *where], capture_output=True, text=True, timeout=20)
        assert done.stdout == f"200 {version}", done.stderr
    finally:
        served.end()


SECRET = "secret-c0ffee"


def test_no_log_line_holds_anything_of_a_request(served: Served) -> None:
    """Everything that a client can put somewhere goes there: none of it is in the log, whatever the status."""
    bearer = f"Bearer {SECRET}"
    asked = [
        served.ask("POST", f"/{SECRET}?{SECRET}", SECRET.encode()),
        served.ask("POST", f"/config?{SECRET}", config_body(SECRET), user_identifier=SECRET, user_agent=SECRET),
        served.ask("POST", "/config", config_body(USE_CASE), authorization=f"bad {SECRET}"),
        served.ask("POST", "/key", key_body(SECRET.encode(), parameters=SECRET)),
        served.ask("POST", "/queries", query_body(SECRET.encode(), 1)),
        served.ask("POST", "/queries", query_body(b"", 1, use_case=SECRET)),
        served.ask(
            "POST", "/report", json.dumps([f"https://{SECRET}.example"]).encode(), content_type="application/json"
        ),
        served.ask("POST", "/report", SECRET.encode()),
        served.ask("GET", "/token-key-for-user-token", authorization=bearer),
        served.ask("POST", "/issue", SECRET.encode(), authorization=bearer),
        served.ask("GET", f"/prefilter?usecase={SECRET}"),
        served.ask("POST", "/gateway", SECRET.encode(), content_type=oh.encapsulation.REQUEST_TYPE),
        served.ask("POST", "/gateway", SECRET.encode(), content_type=SECRET),
        _obliviously(served, SECRET),
    ]
    statuses = [status for status, _ in asked]
    assert statuses == [404, 404, 401, 400, 410, 400, 200, 400, 401, 401, 404, 400, 415, 404]
    refused = [line for line in served.log if line["event"] == "refused"]
    assert [line["status"] for line in refused] == [status for status in statuses if status >= 400]
    assert all(line["cause"] and (line["status"] == 404 or line["next_step"]) for line in refused)
    text = served.log_path.read_text()
    for secret in (SECRET, USER, USER_TOKEN, "127.0.0.1", "ciphermld"):
        assert secret not in text


def _obliviously(served: Served, path: str) -> tuple[int, bytes]:
    async def carrier(method: str, url: str, content_type: str, body: bytes) -> tuple[int, str, bytes]:
        status, answer = await asyncio.to_thread(served.ask, method, url, body, content_type=content_type)
        return status, oh.encapsulation.RESPONSE_TYPE if method == "POST" else "application/ohttp-keys", answer

    request = oh.BinaryRequest("POST", "https", SECRET, f"/{path}", (), SECRET.encode())
    answer = asyncio.run(oh.ObliviousClient("/gateway", "/ohttp-keys", carrier).exchange(request))
    return answer.status, answer.content


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def _has_reloaded(served: Served, times: int) -> bool:
    return [line["event"] for line in served.log].count("reloaded") >= times
