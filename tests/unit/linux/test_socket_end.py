"""The request that ends a socket, as bytes; that it does is for the lab."""

from __future__ import annotations

import socket
import struct

from network_extension.linux.sock_diag import NETLINK_SOCK_DIAG, SocketTable
from network_extension.linux.socket_end import SOCK_DESTROY, destroy_message, end_connection

LOCAL, REMOTE = (b"\x7f\0\0\1", 4000), (b"\x7f\0\0\2", 80)


def test_the_message() -> None:
    """struct nlmsghdr, inet_diag_req_v2 and its sockid, with the cookie last."""
    message = destroy_message(7, LOCAL, REMOTE, 0x1122334455667788)
    length, kind, flags, sequence = struct.unpack_from("=IHHI", message)
    assert (length, kind, flags, sequence) == (len(message), SOCK_DESTROY, 5, 7)
    assert message[16:18] == bytes([socket.AF_INET, socket.IPPROTO_TCP])
    assert struct.unpack_from(">HH", message, 24) == (4000, 80)
    assert struct.unpack("=II", message[-8:]) == (0x55667788, 0x11223344)


def test_a_listener_is_nobodys_connection() -> None:
    """The kernel's look-up for a connection that is gone finds who listens there: it must stay."""
    table = SocketTable(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG))
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            local = (b"\x7f\0\0\1", listener.getsockname()[1])
            assert not end_connection(table, local, (b"\x7f\0\0\1", 9))
            with socket.create_connection(listener.getsockname()) as client:
                client.close()
    finally:
        table.close()
