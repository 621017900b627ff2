"""Sockets that the interceptor needs inside a sandbox's namespace, and the options that `socket` does not name.

A *transparent* socket (IP_TRANSPARENT, tproxy.txt in the kernel's documentation) may be bound to an address that is
not ours: the one that the program believes it talks to.
"""

from __future__ import annotations

import array
import os
import socket

from ..errors import DatapathError
from .ruleset import MARK_READY, MARK_UNREADY

IP_TRANSPARENT, IPV6_TRANSPARENT, IPV6_HDRINCL, IPV6_RECVERR = 19, 75, 36, 25
IP_RECVERR, IP_MTU_DISCOVER, IP_PMTUDISC_DONT, IPV6_MTU_DISCOVER = 11, 10, 0, 23
SOL_IP, SOL_IPV6 = 0, 41
SO_MARK = 36
SEND_BUFFER = 4 << 20

Address = tuple[str, int]


def family_of(host: str) -> socket.AddressFamily:
    """AF_INET6 for an IPv6 literal, else AF_INET."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def set_transparent(sock: socket.socket) -> None:
    """Allow binding to foreign addresses; needs CAP_NET_ADMIN or CAP_NET_RAW over the socket's namespace."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(SOL_IPV6, IPV6_TRANSPARENT, 1)
    else:
        sock.setsockopt(SOL_IP, IP_TRANSPARENT, 1)


def transparent_listener(address: Address, backlog: int = 4096) -> socket.socket:
    """A TCP listener that accepts connections to any address that tproxy hands it."""
    sock = socket.socket(family_of(address[0]), socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    set_transparent(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it: a relay must not wait
    sock.bind(address)
    sock.listen(backlog)
    return sock


def listener(address: Address) -> socket.socket:
    """An ordinary TCP listener."""
    sock = socket.socket(family_of(address[0]), socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(address)
    sock.listen(64)
    return sock


def datagram_socket(family: int) -> socket.socket:
    """A non-blocking UDP socket with roomy buffers (the kernel caps them at rmem_max and wmem_max)."""
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SEND_BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    return sock


def transparent_datagram_socket(family: int, hiding_place: str = "") -> socket.socket:
    """An unbound transparent UDP socket; for `join_datagram_socket` on an interface on which nothing arrives."""
    sock = datagram_socket(family)
    set_transparent(sock)
    sock.setsockopt(socket.SOL_SOCKET, SO_MARK, MARK_UNREADY)
    if hiding_place:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, hiding_place.encode())
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock


def join_datagram_socket(sock: socket.socket, here: Address, there: Address) -> None:
    """Bind a `transparent_datagram_socket`, connect it, and let it receive from then on.

    It must be bound before it can be connected, and in these microseconds would take the datagrams of all others who
    send to `here`: so it is hidden behind an interface, and where that is impossible (loopback has no route through
    another) it has a mark that the ruleset knows. The engine has no capability, but all of them over a user namespace
    that its own user made (user_namespaces(7)), which taking a device away and setting a mark need.
    """
    if there[0] == "::1" or there[0].startswith("127."):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"")
    sock.bind(here)
    sock.connect(there)
    sock.setsockopt(socket.SOL_SOCKET, SO_MARK, MARK_READY)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"")


def raw_socket(family: int) -> socket.socket:
    """A socket that sends whole IP packets, header included (raw(7)): errors and echo replies that we made."""
    sock = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW)
    if family == socket.AF_INET6:
        sock.setsockopt(SOL_IPV6, IPV6_HDRINCL, 1)
    return sock


def reset_on_close(sock: socket.socket, wanted: bool = True) -> None:
    """Make the last close of this TCP socket send RST instead of FIN, or no more."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([wanted]) + bytes(7))


def send_descriptors(sock: socket.socket, data: bytes, descriptors: list[int]) -> None:
    """Send `data` and file descriptors in one SCM_RIGHTS message; the kernel takes at most 253."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    sock.sendmsg([data], rights)


def receive_descriptors(sock: socket.socket, size: int = 65536, most: int = 253) -> tuple[bytes, list[int]]:
    """Receive one message and its descriptors, close-on-exec; `(b"", [])` at the end."""
    data, ancillary, flags, _ = sock.recvmsg(size, socket.CMSG_SPACE(most * 4), socket.MSG_CMSG_CLOEXEC)
    received = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received.frombytes(content[: len(content) - len(content) % 4])
    if flags & socket.MSG_CTRUNC:
        for descriptor in received:
            os.close(descriptor)
        raise DatapathError("descriptors were lost on the way: the limit of open files is reached (ulimit -n)")
    return data, list(received)
