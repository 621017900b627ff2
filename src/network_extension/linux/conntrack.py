"""The kernel's table of connections, by netlink (include/uapi/linux/netfilter/nfnetlink_conntrack.h).

A connection is named by the five values that its first packet had (`FlowKey`), or by those of its replies turned round:
after NAT these differ, and the kernel finds it by either. Zones other than 0 exist where somebody's rules say
`ct zone set`; the same five values may be there once in each. `zone` says which; ours is 0 unless the caller knows.

Byte counts are there if accounting was on when the connection began (`accounting`).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..core.packets import FlowKey
from ..errors import DatapathError
from .netlink import (
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    attribute,
    attributes,
    error_number,
    message,
    messages,
    nested,
)

NETLINK_NETFILTER, SUBSYSTEM = 12, 1
NEW, GET, DELETE = (SUBSYSTEM << 8 | kind for kind in (0, 1, 2))
GROUP_DESTROY = 3
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 270, 1
EVENTS_BUFFER = 4 << 20
ACCOUNTING = "/proc/sys/net/netfilter/nf_conntrack_acct"
SEEN_REPLY = 2  # IPS_SEEN_REPLY
_ORIGINAL, _REPLY, _STATUS, _MARK, _COUNTERS_ORIGINAL, _COUNTERS_REPLY, _ZONE, _MASK = 1, 2, 3, 8, 9, 10, 18, 21
_TUPLE_IP, _TUPLE_PROTOCOL = 1, 2
_ICMP = {1: (4, 5, 6), 58: (7, 8, 9)}
_ANSWER_TIMEOUT = 10.0
_DATAGRAM = 32_000  # bytes of requests at a time


class Connection(NamedTuple):
    """One entry of the table, or what an event says of one."""

    key: FlowKey
    """As its first packet was: protocol, source, port, destination, port. Of ICMP echo both ports are the identifier,
    of what has no ports they are 0.
    """
    answer_key: FlowKey
    """As its replies are, turned round: what `key` would be after NAT, as the receiver sees it."""
    mark: int
    bytes_out: int
    """What the beginner sent, with IP headers; 0 without accounting."""
    bytes_in: int
    """What the beginner received."""
    zone: int = 0
    is_answered: bool = False
    """Whether packets have travelled both ways."""
    tuple_data: bytes = b""
    """The kernel's own name for it."""


def reversed_key(key: FlowKey) -> FlowKey:
    """The same flow, seen from the other end."""
    protocol, source, sport, destination, dport = key
    return protocol, destination, dport, source, sport


# --- bytes


def tuple_attributes(key: FlowKey) -> bytes:
    """What is inside CTA_TUPLE_ORIG for a key. Of ICMP an echo request is meant."""
    protocol, source, sport, destination, dport = key
    kinds = (1, 2) if len(source) == 4 else (3, 4)
    addresses = nested(_TUPLE_IP, attribute(kinds[0], source), attribute(kinds[1], destination))
    number = attribute(1, bytes([protocol]))
    if protocol in _ICMP:
        identifier, kind, code = _ICMP[protocol]
        echo = 8 if protocol == 1 else 128
        ports = attribute(identifier, struct.pack(">H", sport))
        ports += attribute(kind, bytes([echo])) + attribute(code, b"\0")
    else:
        ports = attribute(2, struct.pack(">H", sport)) + attribute(3, struct.pack(">H", dport))
    return addresses + nested(_TUPLE_PROTOCOL, number, ports)


def _body(tuple_data: bytes, family: int, zone: int, *more: bytes) -> bytes:
    where = attribute(_ZONE, struct.pack(">H", zone)) if zone else b""
    return struct.pack(">BBH", family, 0, 0) + nested(_ORIGINAL, tuple_data) + where + b"".join(more)


def _family(key: FlowKey) -> int:
    return socket.AF_INET if len(key[1]) == 4 else socket.AF_INET6


def _number(data: bytes | memoryview, size: int) -> int:
    return int.from_bytes(data, "big") if len(data) == size else 0


def _parse_tuple(data: memoryview) -> FlowKey | None:
    found = attributes(data)
    if _TUPLE_IP not in found or _TUPLE_PROTOCOL not in found:
        return None
    addresses, ports = attributes(found[_TUPLE_IP]), attributes(found[_TUPLE_PROTOCOL])
    first, second, size = (1, 2, 4) if 1 in addresses else (3, 4, 16)
    source, destination = bytes(addresses.get(first, b"")), bytes(addresses.get(second, b""))
    if len(source) != size or len(destination) != size or len(ports.get(1, b"")) != 1:
        return None
    protocol = ports[1][0]
    if protocol in _ICMP:
        identifier = _number(ports.get(_ICMP[protocol][0], b""), 2)
        return protocol, source, identifier, destination, identifier
    return protocol, source, _number(ports.get(2, b""), 2), destination, _number(ports.get(3, b""), 2)


def parse_connection(body: bytes | memoryview) -> Connection | None:
    """Read one message about a connection; None when it is not whole."""
    found = attributes(body, 4)
    if _ORIGINAL not in found or _REPLY not in found:
        return None
    key, reply = _parse_tuple(found[_ORIGINAL]), _parse_tuple(found[_REPLY])
    if key is None or reply is None:
        return None
    status = _number(found.get(_STATUS, b""), 4)
    return Connection(
        key,
        reversed_key(reply),
        _number(found.get(_MARK, b""), 4),
        _bytes(found.get(_COUNTERS_ORIGINAL)),
        _bytes(found.get(_COUNTERS_REPLY)),
        _number(found.get(_ZONE, b""), 2),
        bool(status & SEEN_REPLY),
        bytes(found[_ORIGINAL]),
    )


def _mark(body: memoryview) -> int:
    return _number(attributes(body, 4).get(_MARK, b""), 4)


def _bytes(counters: memoryview | None) -> int:
    return _number(attributes(counters).get(2, b""), 8) if counters is not None else 0


# --- requests


class ConntrackTable:
    """Looks up and changes connections in the network namespace in which `sock`, a NETLINK_NETFILTER socket, was made.

    Requests wait for their answer, about 10 µs; needs CAP_NET_ADMIN. Does not own `sock`.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.socket, self._sequence = sock, 0x10000000  # apart from what else is asked on this socket
        sock.settimeout(_ANSWER_TIMEOUT)

    def set_mark(self, key: FlowKey, mark: int, mask: int, zone: int = 0) -> bool:
        """Give the bits `mask` of a connection's mark the value `mark`; whether there is such a connection."""
        parts = attribute(_MARK, struct.pack(">I", mark & mask)), attribute(_MASK, struct.pack(">I", mask))
        return self._on_either(NEW, NLM_F_ACK, key, zone, *parts) is not None

    def delete(self, key: FlowKey, zone: int = 0) -> bool:
        """Forget a connection: its next packet is as the first of a new one. Whether there was one."""
        return self._on_either(DELETE, NLM_F_ACK, key, zone) is not None

    def find(self, key: FlowKey, zone: int = 0) -> Connection | None:
        """The connection with this first packet, or whose replies come from there."""
        answers = self._on_either(GET, NLM_F_ACK, key, zone)
        return next((found for body in answers or () if (found := parse_connection(body)) is not None), None)

    def counters(self, key: FlowKey, zone: int = 0) -> tuple[int, int] | None:
        """(bytes the beginner sent, bytes it received); None if there is no such connection."""
        found = self.find(key, zone)
        return (found.bytes_out, found.bytes_in) if found else None

    def _on_either(self, kind: int, flags: int, key: FlowKey, zone: int, *more: bytes) -> list[memoryview] | None:
        """The kernel looks among first packets and replies alike; after NAT a key is a reply turned round."""
        for candidate in (key, reversed_key(key)):
            body = _body(tuple_attributes(candidate), _family(key), zone, *more)
            if (answers := self._request(kind, flags, body)) is not None:
                return answers
        return None

    def _request(self, kind: int, flags: int, body: bytes) -> list[memoryview] | None:
        self._sequence = sequence = (self._sequence + 1 & 0x0FFFFFFF) | 0x10000000
        self.socket.send(message(kind, flags | NLM_F_REQUEST, sequence, body))
        answers: list[memoryview] = []
        while True:
            for found, number, answer in messages(self.socket.recv(65536)):
                if number != sequence:
                    continue
                if found not in (NLMSG_DONE, NLMSG_ERROR):
                    answers.append(answer)
                    continue
                code = error_number(answer) if found == NLMSG_ERROR else 0
                if code == errno.ENOENT:
                    return None
                if code:
                    raise DatapathError(f"conntrack: {os.strerror(code)}", errno=code, object="conntrack")
                return answers

    def entries(self, mask: int = 0) -> list[Connection]:
        """The connections of all zones and both families: those whose mark has bits of `mask`, or all if it is 0."""
        bodies = self._request(GET, NLM_F_DUMP, struct.pack(">BBH", 0, 0, 0)) or []
        marked = (body for body in bodies if not mask or _mark(body) & mask)
        return [found for body in marked if (found := parse_connection(body)) is not None]

    def set_marks(self, changes: Iterable[tuple[Connection, int]], mask: int) -> None:
        """Give the bits `mask` of many connections' marks their values; what is gone meanwhile is passed over."""
        requests = [_mark_request(entry, value, mask) for entry, value in changes]
        for start in range(0, len(requests), 200):
            self._all(requests[start : start + 200])

    def _all(self, requests: Sequence[bytes]) -> None:
        """One datagram; only the last request asks for an answer, errors about the others are read with it."""
        self._sequence = last = (self._sequence + 1 & 0x0FFFFFFF) | 0x10000000
        parts = [message(NEW, NLM_F_REQUEST, 0, body) for body in requests[:-1]]
        parts.append(message(NEW, NLM_F_REQUEST | NLM_F_ACK, last, requests[-1]))
        self.socket.send(b"".join(parts))
        while True:
            for kind, number, _ in messages(self.socket.recv(65536)):
                if kind == NLMSG_ERROR and number == last:
                    return


def _mark_request(entry: Connection, value: int, mask: int) -> bytes:
    parts = attribute(_MARK, struct.pack(">I", value & mask)), attribute(_MASK, struct.pack(">I", mask))
    return _body(entry.tuple_data, _family(entry.key), entry.zone, *parts)


# --- events


class DestroyEvents:
    """Tells of every connection that ends in the namespace in which `sock` was made. Owns `sock`.

    With `mask`, only of those whose mark has some of these bits. Needs CAP_NET_ADMIN.
    """

    def __init__(self, sock: socket.socket, mask: int = 0) -> None:
        self.socket, self.mask, self.overflows = sock, mask, 0
        """`overflows` counts how often events were lost; then look with `ConntrackTable` what is still there."""
        sock.setblocking(False)
        if not sock.getsockname()[0]:
            sock.bind((0, 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, EVENTS_BUFFER)
        sock.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, GROUP_DESTROY)

    def fileno(self) -> int:
        """The descriptor to poll for reading."""
        return self.socket.fileno()

    def receive(self, most: int = 256) -> list[Connection]:
        """The connections that ended, at most about `most`."""
        found: list[Connection] = []
        for _ in range(most):
            try:
                data = self.socket.recv(8192)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.overflows += 1
                continue
            found += parse_events(data, self.mask)
        return found

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


def parse_events(data: bytes | memoryview, mask: int = 0) -> list[Connection]:
    """The ended connections in one received buffer, of those whose mark has bits of `mask` (all, if it is 0)."""
    ended = []
    for kind, _, body in messages(data):
        if kind != DELETE:
            continue
        if mask and not _mark(body) & mask:
            continue
        if (found := parse_connection(body)) is not None:
            ended.append(found)
    return ended


def open_socket() -> socket.socket:
    """A netlink socket for the connections of the current network namespace."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)


# --- accounting


def accounting(path: str = ACCOUNTING) -> bool | None:
    """Whether new connections get byte counts in this network namespace; None if the kernel has no such switch."""
    try:
        with open(path) as file:
            return file.read().strip() != "0"
    except OSError:
        return None


def set_accounting(on: bool, path: str = ACCOUNTING) -> bool:
    """Switch byte counts of new connections on or off; whether that could be done."""
    try:
        with open(path, "w") as file:
            file.write("1" if on else "0")
        return True
    except OSError:
        return False
