"""What the network says of datagrams that were sent: the error queue of a UDP socket (ip(7), IP_RECVERR).

An ICMP error also sets the socket's pending error, which the next call on the socket returns instead of doing its work,
and which sendmmsg(2) loses when it comes amid a batch. The queue loses nothing, and names the peer whether the socket
is connected or not. Reading the last ICMP entry clears the pending error (sock_dequeue_err_skb()).
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterable, Iterator

from .sockets import IP_RECVERR, IPV6_RECVERR, SOL_IP, SOL_IPV6, Address

MSG_ERRQUEUE = 0x2000
ORIGIN_LOCAL, ORIGIN_ICMP, ORIGIN_ICMP6 = 1, 2, 3
_EXTENDED_ERROR = struct.Struct("=IBBBxII")

Ancillary = Iterable[tuple[int, int, bytes]]


class NetworkError:
    """One entry of the queue: errno, where it comes from, and for EMSGSIZE the path's MTU in bytes."""

    __slots__ = ("code", "errno", "info", "kind", "offender", "origin")

    def __init__(self, number: int, origin: int, kind: int, code: int, info: int, offender: bytes) -> None:
        self.errno, self.origin, self.kind, self.code, self.info = number, origin, kind, code, info
        self.offender = offender
        """The sockaddr of the router or host that sent the ICMP message."""

    @property
    def offender_address(self) -> bytes:
        """Its address, 4 or 16 bytes; b"" when it is not known."""
        family = int.from_bytes(self.offender[:2], sys.byteorder)
        if family == socket.AF_INET:
            return self.offender[4:8]
        return self.offender[8:24] if family == socket.AF_INET6 else b""

    @property
    def mtu(self) -> int:
        """The MTU that the message names; 0 when it names none."""
        return self.info if self.errno == errno.EMSGSIZE else 0


def report_errors(sock: socket.socket) -> None:
    """Switch the error queue on. An IPv6 socket may speak to mapped IPv4 addresses, whose errors have their own."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(SOL_IPV6, IPV6_RECVERR, 1)
    try:
        sock.setsockopt(SOL_IP, IP_RECVERR, 1)
    except OSError:
        if sock.family == socket.AF_INET:
            raise


def parse(ancillary: Ancillary) -> NetworkError | None:
    """The error in the control messages of one entry; None when there is none."""
    for level, kind, data in ancillary:
        if (level, kind) in ((SOL_IP, IP_RECVERR), (SOL_IPV6, IPV6_RECVERR)) and len(data) >= 16:
            number, origin, icmp_type, code, info, _ = _EXTENDED_ERROR.unpack_from(data)
            return NetworkError(number, origin, icmp_type, code, info, bytes(data[16:]))
    return None


def queued(sock: socket.socket, most: int) -> Iterator[tuple[NetworkError, Address, bytes]]:
    """Up to `most` entries: the error, where the datagram that it is about was sent, and that datagram's head."""
    for _ in range(most):
        try:
            head, ancillary, _, name = sock.recvmsg(64, 512, MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except OSError:
            return
        if (error := parse(ancillary)) is not None and name:
            yield error, (name[0].partition("%")[0], name[1]), head
