"""Carries the echo requests of programs into the host's network, and the replies back: ping works in a sandbox.

A request is sent anew by a *ping socket* (SOCK_DGRAM, IPPROTO_ICMP; Linux 3.0, IPv6 3.11), for which no privilege is
needed but a group in net.ipv4.ping_group_range, which rules both families. The kernel gives each one its identifier and
hands it the replies to that alone. Where they are forbidden, root takes raw sockets.

What the program sees is what it would see without us: its own identifier, the reply's hop limit, and errors from the
router or host that sent them, "time exceeded" among them, so that `traceroute -I` works too.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable

from ..core.packets import (
    PacketError,
    PacketHead,
    Unreachable,
    address_text,
    icmp_echo_reply_packet,
    icmp_unreachable,
    internet_checksum,
    parse_echo,
    parse_head,
)
from . import datagram_errors
from .datagram_errors import NetworkError
from .reactor import ERROR, READ, Reactor, Timer
from .sockets import SOL_IP, SOL_IPV6

IDLE_TIMEOUT = 60.0
SWEEP_INTERVAL = 15.0
MAX_SOCKETS = 256
BATCH = 32  # replies and errors of one socket in one turn
IP_TTL, IP_RECVTTL, IPV6_UNICAST_HOPS, IPV6_RECVHOPLIMIT, IPV6_HOPLIMIT = 2, 12, 16, 51, 52
SOL_RAW, ICMP_FILTER, ICMP6_FILTER = 255, 1, 1
_REQUEST, _REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}
_PASSED_ON = {4: (3, 11), 6: (1, 3)}  # unreachable, time exceeded: the errors that have one layout (RFC 792, RFC 4443)
_ECHO = struct.Struct(">BBHHH")
_INT = struct.Struct("=i")
_KINDS = {
    errno.ECONNREFUSED: Unreachable.PORT,
    errno.EHOSTUNREACH: Unreachable.HOST,
    errno.ENETUNREACH: Unreachable.NETWORK,
    errno.EACCES: Unreachable.ADMINISTRATIVELY_PROHIBITED,
    errno.EPERM: Unreachable.ADMINISTRATIVELY_PROHIBITED,
}

Deliver = Callable[[bytes], None]
Key = tuple[bytes, bytes, int]


class _Pinger:
    """One socket: the requests of one program to one destination."""

    __slots__ = (
        "fd",
        "head",
        "hop_limit",
        "identifier",
        "is_raw",
        "last_used",
        "packet",
        "relay",
        "sock",
        "wire_identifier",
    )

    def __init__(self, relay: EchoRelay, sock: socket.socket, head: PacketHead, identifier: int) -> None:
        self.relay, self.sock, self.fd = relay, sock, sock.fileno()
        self.head, self.identifier, self.hop_limit = head, identifier, 0
        self.is_raw = sock.type == socket.SOCK_RAW
        self.wire_identifier = int.from_bytes(os.urandom(2), "big") if self.is_raw else 0
        self.packet, self.last_used = b"", 0.0

    def ready(self, events: int) -> None:
        """Called by the reactor."""
        if events & ERROR:
            self.relay._errors(self)
        if events & READ:
            self.relay._replies(self)


class EchoRelay:
    """Sends echo requests for programs; `deliver` gets whole IP packets for them."""

    __slots__ = ("_deliver", "_pingers", "_reactor", "_reasons", "_timer")

    def __init__(self, reactor: Reactor, deliver: Deliver) -> None:
        self._reactor, self._deliver = reactor, deliver
        self._pingers: dict[Key, _Pinger] = {}  # least recently used first
        self._reasons: dict[int, str] = {}
        self._timer: Timer | None = None

    def available(self, family: int) -> bool:
        """Whether requests of this family (AF_INET, AF_INET6) can be sent at all."""
        return not self.why_not(family)

    def why_not(self, family: int) -> str:
        """Why requests of this family cannot be sent, with the next step; "" when they can."""
        if family not in self._reasons:
            try:
                _open(family).close()
                self._reasons[family] = ""
            except OSError as error:
                self._reasons[family] = _reason(error)
        return self._reasons[family]

    def request(self, packet: bytes) -> bool:
        """Send the echo request in a whole IP packet; False when it is none, is cut off, or cannot be sent.

        What keeps a request from being sent is told to the program by ICMP, where ICMP has a word for it.
        """
        try:
            head, echo = parse_head(packet), parse_echo(packet)
        except PacketError:
            return False
        if echo is None or echo.is_reply or len(packet) < head.length:
            return False
        try:
            pinger = self._pinger(head, echo.identifier)
            pinger.packet, pinger.last_used = packet, self._reactor.clock()
            self._send(pinger, echo.sequence, echo.payload)
        except OSError as error:
            self._refuse(packet, error.errno or 0)
            return False
        return True

    def close(self) -> None:
        """Close all sockets."""
        for key in list(self._pingers):
            self._drop(key)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pinger(self, head: PacketHead, identifier: int) -> _Pinger:
        """The socket for a program and a destination, made when it is not there. Raises OSError."""
        key = head.source, head.destination, identifier
        pinger = self._pingers.pop(key, None)
        if pinger is None:
            if len(self._pingers) >= MAX_SOCKETS:
                self._drop(next(iter(self._pingers)))
            sock = _open(socket.AF_INET if head.version == 4 else socket.AF_INET6)
            try:
                _prepare(sock, head, identifier)
            except OSError:
                sock.close()
                raise
            pinger = _Pinger(self, sock, head, identifier)
            self._reactor.register(pinger.fd, READ, pinger.ready)
        self._pingers[key] = pinger
        if self._timer is None:
            self._timer = self._reactor.call_later(SWEEP_INTERVAL, self._sweep)
        return pinger

    def _send(self, pinger: _Pinger, sequence: int, payload: bytes) -> None:
        version = pinger.head.version
        self._set_hop_limit(pinger, pinger.packet[8 if version == 4 else 7])
        message = _ECHO.pack(_REQUEST[version], 0, 0, pinger.wire_identifier, sequence) + payload
        if pinger.is_raw and version == 4:  # for all other kinds of socket the kernel fills in the checksum
            message = message[:2] + internet_checksum(message).to_bytes(2, "big") + message[4:]
        try:
            pinger.sock.send(message)
        except BlockingIOError:
            pass  # lost, as in any full queue
        except OSError:  # an earlier request's error, told late: it is cleared now
            self._errors(pinger)
            pinger.sock.send(message)

    def _set_hop_limit(self, pinger: _Pinger, hop_limit: int) -> None:
        if hop_limit and hop_limit != pinger.hop_limit:
            if pinger.head.version == 4:
                pinger.sock.setsockopt(SOL_IP, IP_TTL, hop_limit)
            else:
                pinger.sock.setsockopt(SOL_IPV6, IPV6_UNICAST_HOPS, hop_limit)
            pinger.hop_limit = hop_limit

    def _replies(self, pinger: _Pinger) -> None:
        """Deliver the replies that have come."""
        head = pinger.head
        for _ in range(BATCH):
            try:
                data, ancillary, _, _ = pinger.sock.recvmsg(65535, 64)
            except BlockingIOError:
                return
            except OSError:
                continue
            hop_limit = _received_hop_limit(ancillary)
            if pinger.is_raw and head.version == 4:
                hop_limit, data = data[8], data[(data[0] & 15) << 2 :]
            if len(data) < 8:
                continue
            kind, _, _, identifier, sequence = _ECHO.unpack_from(data)
            if kind != _REPLY[head.version] or (pinger.is_raw and identifier != pinger.wire_identifier):
                continue  # a raw socket hears the replies to others as well
            reply = icmp_echo_reply_packet(head.destination, head.source, pinger.identifier, sequence, data[8:])
            self._deliver(with_hop_limit(reply, hop_limit) if hop_limit else reply)

    def _errors(self, pinger: _Pinger) -> None:
        """Pass on what routers and hosts said of requests."""
        for error, _, quoted in datagram_errors.queued(pinger.sock, BATCH):
            if error.origin == datagram_errors.ORIGIN_LOCAL or len(quoted) < 8:
                continue
            at = pinger.head.transport_offset
            packet = pinger.packet[: at + 6] + quoted[6:8] + pinger.packet[at + 8 :]  # of the same sequence number
            if error.kind in _PASSED_ON[pinger.head.version]:
                self._refuse(packet, errno.EHOSTUNREACH, error)
        pinger.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def _refuse(self, packet: bytes, number: int, said: NetworkError | None = None) -> None:
        """Tell the program by ICMP that its request did not arrive, in the words of the host that `said` so."""
        kind = _KINDS.get(number)
        if kind is None:
            return
        try:
            if said is None:
                answer = icmp_unreachable(packet, kind)
            else:
                answer = icmp_unreachable(packet, kind, said.offender_address or None)
                answer = with_kind(answer, said.kind, said.code)
        except (PacketError, ValueError):  # a request to a group is not answered
            return
        self._deliver(answer)

    def _sweep(self) -> None:
        """Close the sockets that nobody has used for a while."""
        latest = self._reactor.clock() - IDLE_TIMEOUT
        for key in [key for key, pinger in self._pingers.items() if pinger.last_used <= latest]:
            self._drop(key)
        self._timer = self._reactor.call_later(SWEEP_INTERVAL, self._sweep) if self._pingers else None

    def _drop(self, key: Key) -> None:
        pinger = self._pingers.pop(key)
        self._reactor.unregister(pinger.fd)
        pinger.sock.close()


def with_hop_limit(packet: bytes, hop_limit: int) -> bytes:
    """A packet with another hop limit (TTL)."""
    if packet[0] >> 4 == 6:
        return packet[:7] + bytes([hop_limit]) + packet[8:]
    checksum = _replaced(packet[10:12], packet[8:10], bytes([hop_limit, packet[9]]))
    return packet[:8] + bytes([hop_limit, packet[9]]) + checksum + packet[12:]


def with_kind(packet: bytes, kind: int, code: int) -> bytes:
    """An ICMP packet (without IP options) with another type and code."""
    at, word = 20 if packet[0] >> 4 == 4 else 40, bytes([kind, code])
    checksum = _replaced(packet[at + 2 : at + 4], packet[at : at + 2], word)
    return packet[:at] + word + checksum + packet[at + 4 :]


def _replaced(checksum: bytes, old: bytes, new: bytes) -> bytes:
    """The checksum of data in which one 16-bit word was replaced (RFC 1624, equation 3)."""
    total = (~int.from_bytes(checksum, "big") & 0xFFFF) + (~int.from_bytes(old, "big") & 0xFFFF)
    total += int.from_bytes(new, "big")
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")


def _open(family: int) -> socket.socket:
    """A ping socket, else a raw one. Raises the OSError of the ping socket."""
    protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    flags = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    try:
        return socket.socket(family, socket.SOCK_DGRAM | flags, protocol)
    except OSError as error:
        try:
            return socket.socket(family, socket.SOCK_RAW | flags, protocol)
        except OSError:
            raise error from None


def _prepare(sock: socket.socket, head: PacketHead, identifier: int) -> None:
    """Connect to the destination, so that replies and errors of others stay away, and ask for what comes with them."""
    if head.version == 4:
        sock.setsockopt(SOL_IP, IP_RECVTTL, 1)
    else:
        sock.setsockopt(SOL_IPV6, IPV6_RECVHOPLIMIT, 1)
    if sock.type == socket.SOCK_RAW:
        _take_replies_only(sock)
    else:
        try:
            sock.bind(("" if head.version == 4 else "::", identifier))  # the same identifier on the wire, if it is free
        except OSError:
            pass
    datagram_errors.report_errors(sock)
    sock.connect((address_text(head.destination), 0))


def _take_replies_only(sock: socket.socket) -> None:
    """Let the kernel drop all other ICMP (raw(7), RFC 3542 §3.2; in both, a set bit means: not this type)."""
    if sock.family == socket.AF_INET:
        sock.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("=I", 0xFFFFFFFF ^ 1 << _REPLY[4]))
    else:
        words = [0xFFFFFFFF] * 8
        words[_REPLY[6] >> 5] ^= 1 << (_REPLY[6] & 31)
        sock.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, struct.pack("=8I", *words))


def _received_hop_limit(ancillary: datagram_errors.Ancillary) -> int:
    for level, kind, data in ancillary:
        if (level, kind) in ((SOL_IP, IP_TTL), (SOL_IPV6, IPV6_HOPLIMIT)) and len(data) >= 4:
            return int(_INT.unpack_from(data)[0]) & 0xFF
    return 0


def _reason(error: OSError) -> str:
    if error.errno not in (errno.EACCES, errno.EPERM):
        return f"ping sockets: {error.strerror}"
    try:
        with open("/proc/sys/net/ipv4/ping_group_range") as setting:
            groups = " to ".join(setting.read().split())
    except OSError:
        groups = "unknown"
    return (
        f"ping sockets are allowed to groups {groups} only, and this one is {os.getegid()}; "
        'next step: sysctl -w net.ipv4.ping_group_range="0 2147483647"'
    )
