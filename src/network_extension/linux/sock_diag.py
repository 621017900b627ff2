"""Sockets of a network namespace: whose is one (inet_diag), and when is it closed (destroy events).

Both ask over NETLINK_SOCK_DIAG (sock_diag(7)) through a socket that was made in that namespace. Packets are decoded by
plain functions, which take any bytes.

`find` is one exact look-up in the kernel's hash tables, answered within the sendmsg() that asks: it takes as long with
ten sockets as with ten thousand, other than reading /proc/net/udp.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import NamedTuple

from .netlink import NLM_F_REQUEST, NLMSG_ERROR, message, messages

NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY = 4, 20
SKNLGRP_INET_TCP_DESTROY, SKNLGRP_INET6_TCP_DESTROY = 1, 3
SKNLGRP_INET_UDP_DESTROY, SKNLGRP_INET6_UDP_DESTROY = 2, 4
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 270, 1
TCP_LISTEN = 10
ANSWER_TIMEOUT = struct.pack("@ll", 0, 50_000)
EVENTS_BUFFER = 4 << 20  # room for some thousand events; the kernel caps it at rmem_max
_ALL_STATES = 0xFFFFFFFF
_NO_COOKIE = b"\xff" * 8

# struct inet_diag_req_v2: family, protocol, extensions, states; then inet_diag_sockid.
_REQUEST = struct.Struct("=BBxxI")
_PORTS = struct.Struct(">HH")
_INTERFACE = struct.Struct("=I8s")
# struct inet_diag_msg: family, state, timer, retransmits; sockid; expires, queues, uid, inode.
_STATE = struct.Struct("=BB")
_OWNER = struct.Struct("=II")
_COOKIE = struct.Struct("=II")
_MESSAGE_SIZE = 72

_UDP_GROUPS = SKNLGRP_INET_UDP_DESTROY, SKNLGRP_INET6_UDP_DESTROY
_TCP_GROUPS = SKNLGRP_INET_TCP_DESTROY, SKNLGRP_INET6_TCP_DESTROY

SocketAddress = tuple[bytes, int]
"""Address (4 or 16 bytes) and port."""


class SocketInfo(NamedTuple):
    """A socket as inet_diag describes it."""

    inode: int
    """The number in `socket:[N]` of /proc/PID/fd; 0 once no descriptor is left."""
    uid: int
    cookie: int
    """Names this socket for as long as the machine runs (SO_COOKIE)."""
    family: int
    """The socket's own: an AF_INET6 socket may carry IPv4."""
    state: int
    local_address: bytes
    """4 or 16 bytes as `family` says; zeros when the socket is bound to none."""
    local_port: int
    remote_address: bytes
    remote_port: int
    """0 when the socket is not connected."""

    @property
    def is_connected(self) -> bool:
        """Whether the socket takes datagrams from one peer only."""
        return self.remote_port != 0


def lookup_message(
    sequence: int, protocol: int, local: SocketAddress, remote: SocketAddress, interface: int = 0
) -> bytes:
    """The request for the one socket that carries packets between `local` and `remote`.

    TCP is looked up as the socket is described: source is local. UDP is looked up as a packet that arrives there:
    source is remote ("src and dst are swapped for historical reasons", udp_dump_one() in net/ipv4/udp_diag.c), which
    also finds sockets that are bound to no address or connected to nobody, by the rules of delivery.

    A socket that is bound to an interface (SO_BINDTODEVICE, or a link-local address) is found by its index alone.
    """
    source, destination = (remote, local) if protocol == socket.IPPROTO_UDP else (local, remote)
    return message(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, sequence, _request(protocol, source, destination, interface))


def _request(protocol: int, source: SocketAddress, destination: SocketAddress, interface: int) -> bytes:
    family = socket.AF_INET if len(source[0]) == 4 else socket.AF_INET6
    return b"".join(
        (
            _REQUEST.pack(family, protocol, _ALL_STATES),
            _PORTS.pack(source[1], destination[1]),
            source[0].ljust(16, b"\0"),
            destination[0].ljust(16, b"\0"),
            _INTERFACE.pack(interface, _NO_COOKIE),
        )
    )


def parse_socket(body: bytes | memoryview) -> SocketInfo | None:
    """Read a struct inet_diag_msg; None when it is none of an internet socket."""
    if len(body) < _MESSAGE_SIZE:
        return None
    family, state = _STATE.unpack_from(body)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    size = 4 if family == socket.AF_INET else 16
    local_port, remote_port = _PORTS.unpack_from(body, 4)
    low, high = _COOKIE.unpack_from(body, 44)
    uid, inode = _OWNER.unpack_from(body, 64)
    local, remote = bytes(body[8 : 8 + size]), bytes(body[24 : 24 + size])
    return SocketInfo(inode, uid, high << 32 | low, family, state, local, local_port, remote, remote_port)


class SocketTable:
    """Finds sockets in the namespace in which `sock`, a NETLINK_SOCK_DIAG socket, was made. Owns `sock`."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket, self._sequence = sock, 0
        sock.setblocking(True)
        # The answer is there when send() returns; if it ever were not, the engine must not hang on it.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, ANSWER_TIMEOUT)

    def find(
        self,
        protocol: int,
        local: SocketAddress,
        remote: SocketAddress,
        *,
        listeners: bool = False,
        interface: int = 0,
    ) -> SocketInfo | None:
        """The socket at `local` that speaks with `remote`; None when there is none, or no answer.

        `protocol` is IPPROTO_TCP or IPPROTO_UDP. With `listeners`, also the TCP socket that would take a connection
        from there. `interface` is the index of the one that the packets use, without which sockets that are bound to
        one are not found. Waits for at most 50 ms; about 10 µs are usual.
        """
        self._sequence = sequence = self._sequence + 1 & 0xFFFFFFFF
        try:
            self.socket.send(lookup_message(sequence, protocol, local, remote, interface))
            while True:
                for kind, number, body in messages(self.socket.recv(4096)):
                    if number == sequence:
                        return self._answer(kind, protocol, body, listeners)
        except OSError:
            return None

    @staticmethod
    def _answer(kind: int, protocol: int, body: memoryview, listeners: bool) -> SocketInfo | None:
        if kind == NLMSG_ERROR:
            return None  # ENOENT; or this kernel has no inet_diag (CONFIG_INET_DIAG)
        found = parse_socket(body)
        if not listeners and found is not None and protocol == socket.IPPROTO_TCP and found.state == TCP_LISTEN:
            return None  # no such connection: the look-up went on to who listens at the local port
        return found

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


class DestroyEvents:
    """Tells of every UDP socket that is closed in the namespace in which `sock` was made. Owns `sock`.

    With `tcp` it tells of TCP sockets instead: when the connection is over, TIME_WAIT apart, which is not waited for.
    The kernel tells when the last reference goes, so after the last packet that the socket sent has left
    (sock_diag_broadcast_destroy() in net/core/sock_diag.c, Linux 4.2). No privilege is needed.
    """

    def __init__(self, sock: socket.socket, *, tcp: bool = False) -> None:
        self.socket, self.overflows = sock, 0
        """`overflows` counts how often events were lost; then ask `SocketTable` what is still there."""
        sock.setblocking(False)
        if not sock.getsockname()[0]:
            # Without a port of its own it would be passed over: do_one_broadcast() leaves out the port that sends,
            # which is the kernel's 0.
            sock.bind((0, 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, EVENTS_BUFFER)
        for group in _TCP_GROUPS if tcp else _UDP_GROUPS:
            sock.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)

    def fileno(self) -> int:
        """The descriptor to poll for reading."""
        return self.socket.fileno()

    def receive(self, most: int = 256) -> list[SocketInfo]:
        """The sockets that were closed, at most about `most`; their inode is 0."""
        found: list[SocketInfo] = []
        while len(found) < most:
            try:
                data = self.socket.recv(8192)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.overflows += 1
                continue
            found += parse_events(data)
        return found

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


def parse_events(data: bytes | memoryview) -> list[SocketInfo]:
    """The sockets in one received buffer of destroy events."""
    sockets = [parse_socket(body) for kind, _, body in messages(data) if kind == SOCK_DIAG_BY_FAMILY]
    return [found for found in sockets if found is not None]
