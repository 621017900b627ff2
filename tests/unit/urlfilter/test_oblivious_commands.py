"""`netext urlfilter gateway` and `relay` as they are run: HTTP/2 over TLS, how they end, and what they refuse."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from network_extension import ConfigurationError
from network_extension.urlfilter import oblivious_http as oh
from network_extension.urlfilter.oblivious_http.encapsulation import ClientContext
from network_extension.urlfilter.oblivious_services import named_target
from tests.urlfilter_processes import Command


class Target(ThreadingHTTPServer):
    """Answers each request with its path, once `may_answer` is set."""

    def __init__(self) -> None:
        self.was_asked, self.may_answer = threading.Event(), threading.Event()
        self.may_answer.set()
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Target

    def do_GET(self) -> None:
        self.server.was_asked.set()
        self.server.may_answer.wait(20)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Not to standard error."""


@contextmanager
def target() -> Iterator[Target]:
    server = Target()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def post(url: str, body: bytes) -> tuple[int, bytes]:
    host, _, path = url.removeprefix("http://").partition("/")
    connection = HTTPConnection(host, timeout=20)
    try:
        connection.request("POST", f"/{path}", body, {"content-type": "message/ohttp-req"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def keys_of(gateway: Command) -> oh.KeyConfiguration:
    host = gateway.told["keys"].removeprefix("http://").partition("/")[0]
    connection = HTTPConnection(host, timeout=20)
    try:
        connection.request("GET", "/ohttp-keys")
        return oh.decode_list(connection.getresponse().read())[0]
    finally:
        connection.close()


def sealed(configuration: oh.KeyConfiguration, authority: str, path: str = "/p?q") -> tuple[bytes, ClientContext]:
    request = oh.encode_request(oh.BinaryRequest("GET", "https", authority, path))
    return oh.seal_request(configuration, request, X25519PrivateKey.generate())


def test_a_chain_of_both_and_a_restart_that_keeps_the_key(tmp_path: Path) -> None:
    store = ["--store", str(tmp_path / "keys")]
    with target() as leads:
        with Command("gateway", "--target", f"pir.example={leads.url}", *store) as gateway:
            configuration = keys_of(gateway)
            with Command("relay", "--gateway", gateway.told["gateway"]) as relay:
                body, client = sealed(configuration, "pir.example")
                status, answer = post(relay.told["relay"], body)
                response = oh.decode_response(client.open(answer))
                assert (status, response.status, response.content) == (200, 200, b"/p?q")
                body, client = sealed(configuration, f"127.0.0.1:{leads.server_port}")  # by its address: not its name
                assert oh.decode_response(client.open(post(relay.told["relay"], body)[1])).status == 403
                said = relay.end()
        assert "127.0.0.1" not in "".join(line for line in said.splitlines() if line.startswith("{"))
        with Command("gateway", "--target", f"pir.example={leads.url}", *store) as again:
            assert keys_of(again) == configuration


def test_http_2_over_tls(tmp_path: Path) -> None:
    """Apple's relay speaks nothing else to a gateway."""
    if (curl := shutil.which("curl")) is None:
        pytest.skip("curl is not installed")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "cert.pem").write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    tls = ["--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem")]
    words = [curl, "--silent", "--show-error", "--http2", "--cacert", str(tmp_path / "ca.pem"), "--max-time", "20"]
    with target() as leads:
        named = ["--target", f"pir.example={leads.url}", "--store", str(tmp_path / "keys")]
        with Command("gateway", *named, *tls) as gateway:
            got = subprocess.run([*words, gateway.told["keys"]], capture_output=True, check=True)
            body, client = sealed(oh.decode_list(got.stdout)[0], "pir.example")
            words += ["--data-binary", "@-", "-H", "content-type: message/ohttp-req", "-o", str(tmp_path / "answer")]
            words += ["-w", "%{http_version} %{http_code} %{content_type}", gateway.told["gateway"]]
            done = subprocess.run(words, input=body, capture_output=True, check=True)
            assert done.stdout == b"2 200 message/ohttp-res"
            assert oh.decode_response(client.open((tmp_path / "answer").read_bytes())).content == b"/p?q"


def test_sigterm_waits_for_what_was_begun(tmp_path: Path) -> None:
    found = list[tuple[int, bytes]]()
    with target() as leads:
        leads.may_answer.clear()
        named = ["--target", f"pir.example={leads.url}", "--store", str(tmp_path / "keys")]
        with Command("gateway", *named) as gateway:
            body, client = sealed(keys_of(gateway), "pir.example")
            asking = threading.Thread(target=lambda: found.append(post(gateway.told["gateway"], body)))
            asking.start()
            assert leads.was_asked.wait(20)
            gateway.terminate()
            gateway.wait_for_event("stopping")
            leads.may_answer.set()
            asking.join(20)
            gateway.end()
            assert gateway.process.returncode == 0
    assert found[0][0] == 200 and oh.decode_response(client.open(found[0][1])).content == b"/p?q"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["gateway"], 64, "--target"),
        (["gateway", "--target", "https://a.example", "--listen", "1"], 64, "HOST:PORT is wanted"),
        (["gateway", "--target", "https://a.example", "--tls-cert", "x"], 64, "go together"),
        (["gateway", "--target", "https://a.example/path"], 78, "an origin is wanted"),
        (["gateway", "--target", "https://a.example", "--listen", "192.0.2.1:0"], 78, "--listen"),
        (
            ["gateway", "--target", "https://a.example", "--listen", "127.0.0.1:0", "--store", "ftp://x"],
            78,
            "no such store",
        ),
        (["relay", "--gateway", "gateway.example"], 78, "a URL is wanted"),
    ],
)
def test_what_is_refused(words: list[str], status: int, said: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "network_extension", "urlfilter", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (status, 1) and said in done.stderr
    assert not list(tmp_path.iterdir())  # nothing is left of what never ran


def test_names_of_targets() -> None:
    assert named_target("https://PIR.example:443/") == ("pir.example", "https://PIR.example:443")
    assert named_target("A.example:8443=http://10.0.0.7:8080") == ("a.example:8443", "http://10.0.0.7:8080")
    for bad in ("", "=https://a.example", "u@a=https://a.example", "https://", "https://u@a.example", "a.example"):
        with pytest.raises(ConfigurationError, match="wanted"):
            named_target(bad)


def test_the_log_is_json(tmp_path: Path) -> None:
    named = ["--target", "pir.example=http://127.0.0.1:9", "--store", str(tmp_path / "keys")]
    with Command("gateway", *named) as gateway:
        assert post(gateway.told["gateway"], b"not sealed")[0] == 400
        events = [json.loads(line) for line in gateway.end().splitlines()]
    assert [event["event"] for event in events] == ["key", "started", "refused", "stopping", "stopped"]
    assert events[2].keys() == {"time", "level", "event", "status"}
