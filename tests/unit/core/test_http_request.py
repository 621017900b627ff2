"""Heads of HTTP requests, as a server reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.core.http_request import MAX_HEAD, NotHTTPError, read_request_head

GET = b"GET /a?b=c HTTP/1.1\r\nHost: Example.COM\r\nAccept: */*\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "host", "url"),
    [
        (GET, "example.com", "http://example.com/a?b=c"),
        (b"GET / HTTP/1.1\r\nhost:example.com:8080\r\n\r\n", "example.com", "http://example.com:8080/"),
        (b"GET http://a.example/x HTTP/1.1\r\nHost: b.example\r\n\r\n", "a.example", "http://a.example/x"),
        (b"GET http://a.example?q HTTP/1.1\r\nHost: a.example\r\n\r\n", "a.example", "http://a.example/?q"),
        (b"GET http://me@a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", "a.example", "http://a.example/"),
        (b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n", "a.example", None),
        (b"OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n", "a.example", None),
        (b"GET / HTTP/1.0\r\n\r\n", "", None),
        (b"GET / HTTP/1.1\r\nHost: [2001:db8::1]:81\r\n\r\n", "2001:db8::1", "http://[2001:db8::1]:81/"),
        (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n", "a.example", "http://a.example/"),
        (b"\nGET / HTTP/1.1\nHost: a.example\n\n", "a.example", "http://a.example/"),
        (b"GET / HTTP/1.1\r\nHost: a.example\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n", "a.example", "http://a.example/"),
    ],
)
def test_host_and_url(head: bytes, host: str, url: str | None) -> None:
    found = read_request_head(head)
    assert found is not None
    assert (found.host, found.url) == (host, url)


def test_the_flows_port_is_in_the_url() -> None:
    found = read_request_head(GET, 8080)
    assert found is not None
    assert found.url == "http://example.com:8080/a?b=c"


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a]b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [a]\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: y\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\nHost: b\n\n",
        b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\rHost: b\r\n\r\n",
        b"\r\n" * 129,
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET nowhere HTTP/1.1\r\nHost: a\r\n\r\n",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"\x16\x03\x01",
        b"x" * 40,
        b"GET /" + b"a" * MAX_HEAD,
    ],
)
def test_what_a_server_would_refuse(head: bytes) -> None:
    with pytest.raises(NotHTTPError):
        read_request_head(head)


@given(st.integers(0, len(GET) - 1))
def test_too_few_bytes_are_no_error(size: int) -> None:
    assert read_request_head(GET[:size]) is None


@given(st.binary(max_size=300) | st.binary(max_size=100).map(lambda rest: GET[:20] + rest + b"\r\n\r\n"))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        read_request_head(data)
    except NotHTTPError:
        pass
