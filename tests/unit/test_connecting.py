"""Connections to the far side: addresses, names with several of them (RFC 8305), and what fails."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest

from network_extension import FlowError, FlowErrorCode, connecting
from network_extension.connecting import connect_stream, datagram_socket, resolve


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def names(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    async def found(host: str, port: int, local_address: str | None = None) -> list[str]:
        return list(hosts)

    monkeypatch.setattr(connecting, "resolve", found)


async def far_side(host: str, port: int, **options: str) -> str:
    sock = await connect_stream(host, port, **options)
    try:
        return str(sock.getpeername()[0])
    finally:
        sock.close()


def test_by_address_from_a_chosen_one(port: int) -> None:
    async def local() -> str:
        sock = await connect_stream("127.0.0.1", port, local_address="127.0.0.7", interface="lo")
        with sock:
            assert sock.gettimeout() == 0
            return str(sock.getsockname()[0])

    assert asyncio.run(local()) == "127.0.0.7"


def test_a_refused_address_gives_way_at_once(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, "::1", "127.0.0.9", "127.0.0.1")
    began = time.monotonic()
    assert asyncio.run(far_side("three.example", port)) == "127.0.0.1"
    assert time.monotonic() - began < connecting.ATTEMPT_DELAY


def test_a_silent_address_gives_way_after_the_attempt_delay(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    original = connecting._attempt
    cancelled = []

    async def attempt(host: str, *rest: object) -> socket.socket:
        if host == "192.0.2.1":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(host)
                raise
        return await original(host, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(connecting, "_attempt", attempt)
    monkeypatch.setattr(connecting, "ATTEMPT_DELAY", 0.05)
    names(monkeypatch, "192.0.2.1", "127.0.0.1")
    assert asyncio.run(far_side("two.example", port)) == "127.0.0.1"
    assert cancelled == ["192.0.2.1"]


def test_the_last_error_is_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    names(monkeypatch, "::1", "127.0.0.1")
    with pytest.raises(FlowError) as caught:
        asyncio.run(connect_stream("two.example", closed))
    assert caught.value.code is FlowErrorCode.REFUSED


def test_families_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answers(*_arguments: object, **_options: object) -> list[tuple[object, ...]]:
        found = ["2001:db8::1", "2001:db8::2", "2001:db8::1", "192.0.2.1"]
        return [(0, 0, 0, "", (address, 80)) for address in found]

    async def look_up() -> list[str]:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", answers)
        return await resolve("many.example", 80)

    assert asyncio.run(look_up()) == ["2001:db8::1", "192.0.2.1", "2001:db8::2"]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_datagram_sockets_are_bound_and_hear_of_no_other_peer_s_errors(family: socket.AddressFamily) -> None:
    with datagram_socket(family) as sock:
        assert sock.getsockname()[1] > 0 and sock.gettimeout() == 0
        level, option = (socket.IPPROTO_IP, 11) if family == socket.AF_INET else (socket.IPPROTO_IPV6, 25)
        assert sock.getsockopt(level, option) == 0
    with pytest.raises(FlowError, match="local address x"):
        datagram_socket(family, local_address="x")
