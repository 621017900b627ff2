"""Sockets as the kernel describes them: by bytes, and by this kernel."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network_extension.linux.netlink import message
from network_extension.linux.sock_diag import (
    NETLINK_SOCK_DIAG,
    SOCK_DIAG_BY_FAMILY,
    DestroyEvents,
    SocketInfo,
    SocketTable,
    lookup_message,
    parse_events,
    parse_socket,
)

LOCAL, FAR = b"\x7f\0\0\1", b"\xc0\0\2\1"
TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP
SO_COOKIE = 57


def diag() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG)


def cookie(sock: socket.socket) -> int:
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), "little")


@pytest.fixture
def table() -> Iterator[SocketTable]:
    table = SocketTable(diag())
    yield table
    table.close()


# --- bytes

BODY = struct.pack(
    "=BBBB2s2s16s16sIIIIIIII", 2, 7, 0, 0, b"\x13\x88", b"\0\x35", LOCAL, FAR, 0, 5, 1, 0, 0, 0, 1000, 4711
)


def test_a_message_is_read() -> None:
    expected = SocketInfo(4711, 1000, 1 << 32 | 5, socket.AF_INET, 7, LOCAL, 5000, FAR, 53)
    assert parse_socket(BODY) == expected
    assert expected.is_connected
    assert parse_events(message(SOCK_DIAG_BY_FAMILY, 0, 0, BODY) * 3 + message(3, 0, 0, BODY)) == [expected] * 3


def test_udp_is_asked_for_as_a_packet_that_arrives() -> None:
    ports = [lookup_message(1, protocol, (LOCAL, 1), (FAR, 2))[24:28] for protocol in (TCP, UDP)]
    assert ports == [b"\0\1\0\2", b"\0\2\0\1"]
    assert len(lookup_message(1, UDP, (LOCAL, 1), (FAR, 2))) == len(
        lookup_message(1, UDP, (bytes(16), 1), (bytes(16), 2))
    )


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_passed_over(data: bytes) -> None:
    parse_events(data)
    found = parse_socket(data)
    assert found is None or len(found.local_address) in (4, 16)


@given(st.integers(0, 71), st.integers(0, 255))
def test_truncated_and_foreign_messages_are_passed_over(length: int, family: int) -> None:
    assert parse_socket(BODY[:length]) is None
    if family not in (2, 10):
        assert parse_socket(bytes([family]) + BODY[1:]) is None


# --- this kernel


@pytest.mark.parametrize("bind", ["", "127.0.0.1"])
@pytest.mark.parametrize("connect", [False, True])
def test_a_udp_socket_is_found(table: SocketTable, bind: str, connect: bool) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((bind, 0))
        if connect:
            sock.connect(("127.0.0.1", 9))
        found = table.find(UDP, (LOCAL, sock.getsockname()[1]), (LOCAL if connect else FAR, 9))
        assert found is not None
        assert (found.inode, found.cookie, found.uid) == (os.fstat(sock.fileno()).st_ino, cookie(sock), os.getuid())
        assert found.is_connected is connect
        if connect:
            assert table.find(UDP, (LOCAL, sock.getsockname()[1]), (FAR, 9)) is None, "takes nothing from others"


def test_a_dual_stack_udp_socket_is_found_by_both_families(table: SocketTable) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("::", 0))
        port = sock.getsockname()[1]
        for local, remote in ((LOCAL, FAR), (bytes(15) + b"\1", b"\x20\1\x0d\xb8" + bytes(11) + b"\1")):
            found = table.find(UDP, (local, port), (remote, 53))
            assert found is not None
            assert (found.inode, found.family) == (os.fstat(sock.fileno()).st_ino, socket.AF_INET6)


def test_both_ends_of_a_tcp_connection_are_found(table: SocketTable) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        with accepted:
            ends = (LOCAL, client.getsockname()[1]), (LOCAL, server.getsockname()[1])
            for sock, local, remote in ((client, *ends), (accepted, ends[1], ends[0])):
                found = table.find(TCP, local, remote)
                assert found is not None
                assert found.inode == os.fstat(sock.fileno()).st_ino
            assert table.find(TCP, ends[1], (FAR, 1)) is None, "who listens there does not speak with FAR"


def test_nobody_is_found(table: SocketTable) -> None:
    for protocol in (TCP, UDP, 255):
        assert table.find(protocol, (FAR, 9), (LOCAL, 9)) is None


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        return client, server.accept()[0]


def test_a_late_answer_is_not_taken_for_the_next(table: SocketTable) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        table.socket.send(lookup_message(99, UDP, (LOCAL, sock.getsockname()[1]), (FAR, 9)))
        assert table.find(UDP, (FAR, 9), (LOCAL, 9)) is None


def test_a_socket_that_answers_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        assert SocketTable(ours).find(UDP, (LOCAL, 1), (FAR, 1)) is None


@pytest.fixture
def events() -> Iterator[DestroyEvents]:
    events = DestroyEvents(diag())
    yield events
    events.close()


def closed_cookies(events: DestroyEvents, wanted: set[int]) -> set[int]:
    """Those of `wanted` that were told of; other programs close sockets too."""
    seen: set[int] = set()
    while not wanted <= seen and select.select([events], [], [], 2)[0]:
        seen |= {closed.cookie for closed in events.receive()}
    return seen & wanted


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_closed_udp_sockets_are_told(events: DestroyEvents, family: int, host: str) -> None:
    cookies = set()
    for _ in range(300):
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((host, 0))
            cookies.add(cookie(sock))
    assert closed_cookies(events, cookies) == cookies
    assert events.receive() == []


def test_the_event_names_addresses(events: DestroyEvents) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", 9))
        number, port = cookie(sock), sock.getsockname()[1]
    found: list[SocketInfo] = []
    while not found and select.select([events], [], [], 2)[0]:
        found = [closed for closed in events.receive() if closed.cookie == number]
    [closed] = found
    assert (closed.local_address, closed.local_port) == (LOCAL, port)
    assert (closed.remote_address, closed.remote_port) == (LOCAL, 9)


def test_closed_tcp_connections_are_told_at_once() -> None:
    """The one that closes first goes to TIME_WAIT, which is not waited for."""
    events = DestroyEvents(diag(), tcp=True)
    client, accepted = pair()
    cookies = {cookie(client), cookie(accepted)}
    client.close()
    accepted.close()
    assert closed_cookies(events, cookies) == cookies
    events.close()


class Overflowing:
    """A netlink socket that has lost messages once."""

    def __init__(self) -> None:
        self.answers: list[OSError | bytes] = [
            OSError(errno.ENOBUFS, "lost"),
            message(SOCK_DIAG_BY_FAMILY, 0, 0, BODY),
            BlockingIOError(),
        ]

    def __getattr__(self, name: str) -> object:
        return lambda *arguments: (1, 0)

    def recv(self, size: int) -> bytes:
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer


def test_lost_events_are_survived_and_counted() -> None:
    events = DestroyEvents(Overflowing())  # type: ignore[arg-type]
    assert len(events.receive()) == 1
    assert events.overflows == 1


def test_who_listens_is_found_if_asked_for(table: SocketTable) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        local, remote = (LOCAL, server.getsockname()[1]), (FAR, 1)
        found = table.find(TCP, local, remote, listeners=True)
        assert found is not None and found.inode == os.fstat(server.fileno()).st_ino
        assert table.find(TCP, local, remote) is None
