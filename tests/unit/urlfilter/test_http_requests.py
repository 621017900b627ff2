"""Every request of a connection is found, wherever its body ends; what servers may read in two ways is refused."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from network_extension.core.http_request import NotHTTPError
from network_extension.urlfilter.http_requests import Head, More, RequestReader, Tunnel


def request(path: str, fields: str = "", body: bytes = b"", method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: example.org\r\n{fields}\r\n".encode() + body


CHUNKED = "Transfer-Encoding: chunked\r\n"
REQUESTS = {
    "no body": (request("/1"), ["/1"]),
    "a length": (request("/1", "Content-Length: 5\r\n", b"12345", "POST"), ["/1"]),
    "a length of nothing": (request("/1", "Content-Length: 0\r\n"), ["/1"]),
    "chunks": (request("/1", CHUNKED, b"5\r\n12345\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n", "POST"), ["/1"]),
    "chunks and a trailer": (request("/1", CHUNKED, b"1\r\n1\r\n0\r\nX: y\r\nZ: w\r\n\r\n", "POST"), ["/1"]),
    "a body that looks like a request": (
        request("/1", f"Content-Length: {len(request('/no'))}\r\n", request("/no"), "POST"),
        ["/1"],
    ),
}


def read_in_pieces(stream: bytes, sizes: list[int]) -> list[str]:
    """The paths of a stream, as a filter sees it: only what has come, and what it has passed is gone."""
    reader, found, passed, come = RequestReader(80), list[str](), 0, 0
    while come < len(stream) or passed < len(stream):
        come = min(len(stream), max(come + (sizes.pop() if sizes else len(stream)), passed))
        while True:
            piece = reader.read(stream[passed:come])
            if isinstance(piece, More):
                break
            assert not isinstance(piece, Tunnel)
            if isinstance(piece, Head):
                found.append(piece.request.target)
            passed += piece.size
            if passed > come:
                break
        if come == len(stream) and passed < len(stream):
            break
    return found


@pytest.mark.parametrize(("stream", "paths"), REQUESTS.values(), ids=REQUESTS)
def test_one_request_and_another_behind_it(stream: bytes, paths: list[str]) -> None:
    assert read_in_pieces(stream, []) == paths
    assert read_in_pieces(stream + request("/next"), []) == [*paths, "/next"]


@given(st.lists(st.sampled_from(sorted(REQUESTS)), min_size=1, max_size=5), st.lists(st.integers(1, 90), max_size=60))
def test_any_requests_in_any_pieces(names: list[str], sizes: list[int]) -> None:
    stream = b"".join(REQUESTS[name][0] for name in names)
    assert read_in_pieces(stream, sizes) == ["/1"] * len(names)


@pytest.mark.parametrize(
    ("fields", "method"),
    [
        ("Content-Length: 5\r\nContent-Length: 6\r\n", "POST"),
        ("Content-Length: +5\r\n", "POST"),
        (f"Content-Length: 5\r\n{CHUNKED}", "POST"),
        ("Transfer-Encoding: gzip\r\n", "POST"),
        ("Transfer-Encoding: chunked, identity\r\n", "POST"),
        (f"{CHUNKED}{CHUNKED}", "POST"),
    ],
)
def test_a_body_whose_end_servers_see_in_two_places(fields: str, method: str) -> None:
    with pytest.raises(NotHTTPError):
        RequestReader(80).read(request("/", fields, method=method))


@pytest.mark.parametrize("body", [b"x\r\n", b"-1\r\n", b"1" * 16 + b"\r\n", b"0" * 1024])
def test_chunks_that_are_none(body: bytes) -> None:
    reader = RequestReader(80)
    head = request("/", CHUNKED)
    assert isinstance(reader.read(head + body), Head)
    with pytest.raises(NotHTTPError):
        reader.read(body)


@pytest.mark.parametrize(
    "stream",
    [request("h.example:443", method="CONNECT"), request("/", "Upgrade: websocket\r\nConnection: upgrade\r\n")],
)
def test_after_a_request_for_another_protocol_all_passes(stream: bytes) -> None:
    reader = RequestReader(80)
    assert isinstance(reader.read(stream), Head)
    assert reader.read(b"\x00\x01") == Tunnel()


@given(st.binary(max_size=200), st.binary(max_size=200))
@example(b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"zz\r\n")
def test_whatever_comes_is_read_or_refused(first: bytes, second: bytes) -> None:
    reader, data = RequestReader(80), first + second
    try:
        for _ in range(50):
            piece = reader.read(data)
            if isinstance(piece, (More, Tunnel)):
                return
            assert piece.size > 0
            data = data[piece.size :]
    except NotHTTPError:
        return
