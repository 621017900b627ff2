"""Connections are ended from outside, and what listens beside them is not."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from network_extension.linux.sock_diag import NETLINK_SOCK_DIAG, SocketTable
from network_extension.linux.socket_end import end_connection

LOCAL = socket.inet_aton("127.0.0.1")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="ending a program's socket needs CAP_NET_ADMIN: run as root")


@pytest.fixture
def table() -> Iterator[SocketTable]:
    made = SocketTable(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG))
    yield made
    made.close()


def test_both_ends_hear_of_it(table: SocketTable) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        with client, accepted:
            ours, theirs = ((LOCAL, end.getsockname()[1]) for end in (client, accepted))
            assert not end_connection(table, ours, (LOCAL, 9)), "no such connection"
            assert end_connection(table, ours, theirs)
            with pytest.raises(ConnectionAbortedError):
                client.recv(1)
            accepted.settimeout(5)
            with pytest.raises(ConnectionResetError):
                accepted.recv(1)
            assert not end_connection(table, ours, theirs), "it has gone"


def test_a_listener_is_left_alone(table: SocketTable) -> None:
    """The kernel's look-up of a connection that is not there goes on to who listens at the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not end_connection(table, (LOCAL, port), (LOCAL, 9))
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            accepted, _ = server.accept()
            with accepted:
                client.sendall(b"x")
                assert accepted.recv(1) == b"x"
