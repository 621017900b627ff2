"""Ends a TCP socket of this network namespace from outside (SOCK_DESTROY, include/uapi/linux/sock_diag.h, Linux 4.5).

The program's pending or next call fails with ECONNABORTED at once, and the peer gets a reset. The kernel needs
CONFIG_INET_DIAG_DESTROY, the caller CAP_NET_ADMIN.

The kernel's look-up falls back to who listens at the local port, and would end that one: so the connection is looked up
first, and named by its cookie.
"""

from __future__ import annotations

import socket
import struct

from .netlink import NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR, error_number, message, messages
from .sock_diag import SocketAddress, SocketInfo, SocketTable, lookup_message

SOCK_DESTROY = 21
_HEADER, _COOKIE = 16, 8  # struct nlmsghdr; the last member of inet_diag_sockid
_WORDS = struct.Struct("=II")


def destroy_message(
    sequence: int, local: SocketAddress, remote: SocketAddress, cookie: int, interface: int = 0
) -> bytes:
    """The request to end the TCP socket with this cookie."""
    body = lookup_message(0, socket.IPPROTO_TCP, local, remote, interface)[_HEADER:-_COOKIE]
    body += _WORDS.pack(cookie & 0xFFFFFFFF, cookie >> 32)
    return message(SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK, sequence, body)


def end_connection(table: SocketTable, local: SocketAddress, remote: SocketAddress, interface: int = 0) -> bool:
    """Whether there was a TCP connection of a local socket between these, and it was ended.

    `interface` is the index of the one that its packets use, 0 where it is not known.
    """
    found: SocketInfo | None = table.find(socket.IPPROTO_TCP, local, remote, interface=interface)
    if found is None:
        return False
    sequence = found.cookie & 0x7FFFFFFF | 0x80000000  # apart from the table's own
    try:
        table.socket.send(destroy_message(sequence, local, remote, found.cookie, interface))
        while True:
            for kind, number, answer in messages(table.socket.recv(4096)):
                if number == sequence:
                    return kind == NLMSG_ERROR and not error_number(answer)
    except OSError:
        return False
