"""The filter provider in memory: each plain HTTP request by its full URL, TLS by name, and what the log says."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from network_extension.errors import ConfigurationError
from network_extension.provider import StopReason
from network_extension.runtime.loader import load_provider_class
from network_extension.testing.filter_harness import FilterHarness
from network_extension.urlfilter.filter_provider import URLFilterProvider, read_settings
from network_extension.urlfilter.filter_session import FilterSession
from network_extension.urlfilter.url_filter_configuration import URLFilterConfiguration
from network_extension.urlfilter.url_filter_errors import LookupFailed, URLFilterError
from network_extension.urlfilter.verdicts import Verdict, VerdictReport

BLOCKED = ("http://site.example/bad", "https://blocked.example/", "https://blocked.example:8443/")


class FakeSession:
    """Blocks a few URLs; cannot find out about hosts of `away.example`."""

    def __init__(self, fails_closed: bool) -> None:
        self.asked: list[str] = []
        self._fails_closed = fails_closed

    async def start(self) -> None:
        pass

    async def stop(self, reason: StopReason) -> None:
        pass

    async def verdict_for(self, url: str) -> VerdictReport:
        self.asked.append(url)
        if "away.example" in url:
            verdict = Verdict.DENY if self._fails_closed else Verdict.UNKNOWN
            return VerdictReport(url, verdict, error=LookupFailed("query", "no answer", is_permanent=False))
        if url in BLOCKED:
            return VerdictReport(url, Verdict.DENY, matched="its row")
        return VerdictReport(url, Verdict.ALLOW)


class Provider(URLFilterProvider):
    session: FakeSession

    def make_session(self, configuration: URLFilterConfiguration, ca_file: str | None) -> FilterSession:
        self.session = FakeSession(configuration.should_fail_closed)
        return self.session  # type: ignore[return-value]  # what of it is used is the same


def harness(provider: Provider, **settings: Any) -> FilterHarness:
    return FilterHarness(provider, configuration={"pir_server_url": "https://filter.example.org", **settings})


def get(path: str, host: str = "site.example") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def hello(name: str) -> bytes:
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(into, out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


class TestPlainHTTP:
    def test_each_request_of_a_connection_is_decided_by_its_url(self) -> None:
        provider = Provider()
        with harness(provider) as filters:
            talk = filters.connect("curl → site.example:80")
            talk.send(get("/good"))
            assert talk.sent == get("/good")
            talk.send(get("/bad"))
            assert (talk.sent, talk.state) == (get("/good"), "dropped")
            assert filters.log_lines == [
                "info: http://site.example/bad: blocked by full URL: its row is on the list",
            ]
        assert provider.session.asked == ["http://site.example/good", "http://site.example/bad"]

    def test_requests_that_come_together(self) -> None:
        provider = Provider()
        with harness(provider) as filters:
            talk = filters.connect("curl → site.example:80")
            talk.send(get("/1") + get("/2") + get("/bad") + get("/3"))
            assert talk.state == "dropped"
        assert provider.session.asked[-1] == "http://site.example/bad" and len(provider.session.asked) == 3

    def test_a_body_is_passed_and_not_read(self) -> None:
        provider = Provider()
        with harness(provider) as filters:
            talk = filters.connect("curl → site.example:80")
            post = b"POST /form HTTP/1.1\r\nHost: site.example\r\nContent-Length: 50\r\n\r\n"
            talk.send(post + get("/bad")[:20])
            talk.send(b"x" * 30 + get("/good"))
            assert talk.state != "dropped" and talk.sent.endswith(get("/good"))
        assert provider.session.asked == ["http://site.example/form", "http://site.example/good"]

    def test_a_proxy_is_asked_for_a_host(self) -> None:
        provider = Provider()
        with harness(provider) as filters:
            talk = filters.connect("curl → proxy.example:3128")
            talk.send(b"CONNECT blocked.example:8443 HTTP/1.1\r\nHost: blocked.example:8443\r\n\r\n")
            assert talk.state == "dropped"
            assert "by host name" in filters.log_lines[0]

    @pytest.mark.parametrize("closed", [False, True])
    def test_what_stops_being_http_is_a_matter_of_the_policy(self, closed: bool) -> None:
        with harness(Provider(), should_fail_closed=closed) as filters:
            talk = filters.connect("curl → site.example:80")
            talk.send(get("/good"))
            talk.send(b"\x00\x01\x02")
            assert (talk.state == "dropped") is closed
            assert "warning" in filters.log_lines[0]


class TestTLS:
    @pytest.mark.parametrize(
        ("target", "name", "is_blocked"),
        [
            ("a.example:443", "blocked.example", True),
            ("a.example:8443", "blocked.example", True),
            ("a:443", "ok.example", False),
        ],
    )
    def test_the_name_in_the_hello_decides(self, target: str, name: str, is_blocked: bool) -> None:
        with harness(Provider(), log="all") as filters:
            talk = filters.connect(f"curl → {target}")
            talk.send(hello(name))
            assert (talk.state == "dropped") is is_blocked
            assert "by host name" in filters.log_lines[0]

    def test_a_hello_in_pieces(self) -> None:
        with harness(Provider()) as filters:
            talk = filters.connect("curl → a.example:443")
            data = hello("blocked.example")
            talk.send(data[:40])
            assert talk.sent == b""
            talk.send(data[40:])
            assert (talk.sent, talk.state) == (b"", "dropped")


def quic_datagrams(name: str, protocols: int) -> list[bytes]:
    """What a client of aioquic sends first; many protocols make its hello longer than a datagram."""
    connection = pytest.importorskip("aioquic.quic.connection")
    configuration = pytest.importorskip("aioquic.quic.configuration").QuicConfiguration(
        is_client=True, server_name=name, alpn_protocols=[f"protocol-{number}" for number in range(protocols)]
    )
    client = connection.QuicConnection(configuration=configuration)
    client.connect(("192.0.2.1", 443), now=0.0)
    return [data for data, _address in client.datagrams_to_send(now=0.0)]


class TestQUIC:
    @pytest.mark.parametrize(("name", "is_blocked"), [("blocked.example", True), ("ok.example", False)])
    @pytest.mark.parametrize("protocols", [1, 100], ids=["one datagram", "several"])
    def test_the_name_in_the_hello_decides(self, name: str, is_blocked: bool, protocols: int) -> None:
        datagrams = quic_datagrams(name, protocols)
        assert (len(datagrams) > 1) is (protocols > 1)
        with harness(Provider(), log="all") as filters:
            talk = filters.connect("browser → a.example:443/udp")
            for datagram in datagrams[:-1]:
                talk.send(datagram)
                assert (talk.sent, talk.state) == (b"", "open")
            talk.send(datagrams[-1])
            assert (talk.state == "dropped") is is_blocked
            assert talk.sent == (b"" if is_blocked else b"".join(datagrams))
            assert f"https://{name}/" in filters.log_lines[0] and "by host name" in filters.log_lines[0]

    def test_what_is_no_quic_is_let_through(self) -> None:
        provider = Provider()
        with harness(provider) as filters:
            talk = filters.connect("game → a.example:443/udp")
            talk.send(b"ping")
            assert talk.sent == b"ping"
        assert provider.session.asked == []

    def test_a_hello_that_never_ends_is_let_through(self) -> None:
        provider = Provider()
        with harness(provider) as filters:
            talk = filters.connect("browser → a.example:443/udp")
            first = quic_datagrams("blocked.example", 100)[0]
            for _ in range(8):
                talk.send(first)
            assert talk.sent == first * 8
        assert provider.session.asked == []


class TestWhatCannotBeFoundOut:
    @pytest.mark.parametrize("closed", [False, True])
    def test_the_policy_decides_and_the_log_says_so(self, closed: bool) -> None:
        with harness(Provider(), should_fail_closed=closed) as filters:
            talk = filters.connect("curl → a.example:443")
            talk.send(hello("away.example"))
            assert (talk.state == "dropped") is closed
            word = "blocked" if closed else "let through"
            assert filters.log_lines == [
                f"warning: https://away.example/: {word} by host name, since it could not be found out: no answer"
            ]


@pytest.mark.parametrize("flow", ["sshd ← a.example:22", "ntp → a.example:123/udp"])
def test_what_has_no_url_is_not_looked_at(flow: str) -> None:
    provider = Provider()
    with harness(provider) as filters:
        filters.connect(flow)
    assert provider.session.asked == []


def test_another_protocol_is_let_through() -> None:
    provider = Provider()
    with harness(provider) as filters:
        talk = filters.connect("ssh → a.example:22")
        talk.send(b"SSH-2.0-OpenSSH_9.2\r\n")
        assert talk.sent.startswith(b"SSH") and talk.state != "dropped"
    assert provider.session.asked == []


class TestSettings:
    def test_the_token_comes_from_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "token"
        path.write_text("AAAA\n")
        settings = {"pir_server_url": "https://filter.example.org", "token_file": str(path), "ca_file": "ca.pem"}
        made, ca_file, logs_all = read_settings(settings)
        assert (made.pir_authentication_token, ca_file, logs_all) == ("AAAA", "ca.pem", False)

    @pytest.mark.parametrize(
        "wrong", [{"log": "some"}, {"token_file": 5}, {"token_file": "/nonexistent"}, {"speed": 1}, {"ca_file": ""}]
    )
    def test_what_cannot_be_meant(self, wrong: dict[str, Any]) -> None:
        with pytest.raises((ConfigurationError, URLFilterError)):
            read_settings({"pir_server_url": "https://filter.example.org", **wrong})

    def test_it_is_found_by_its_module(self) -> None:
        assert load_provider_class("network_extension.urlfilter.filter_provider").__name__ == "URLFilterProvider"
