"""What the host datapath asks of the kernel about single flows: marks, counts, sockets, and packets of our own."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..core.packets import TCP, UDP, address_text
from ..errors import DatapathError
from ..linux import conntrack
from ..linux.filter_ruleset import shift
from ..linux.reactor import READ, Reactor
from ..linux.sock_diag import DestroyEvents, SocketTable
from ..linux.socket_end import end_connection
from ..rules import Direction
from .host_flow import HostFlow, TableKey, Waiting
from .host_page import HostPage

if TYPE_CHECKING:
    from .host_table import FlowTable

NETLINK_SOCK_DIAG = 4
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 270, 1
TCP_DESTROY_GROUPS = 1, 3  # SKNLGRP_INET_TCP_DESTROY, SKNLGRP_INET6_TCP_DESTROY
SO_MARK = 36
PORT_RANGE = "/proc/sys/net/ipv4/ip_local_port_range"
ClosedSocket = Callable[[int, tuple[bytes, int], tuple[bytes, int]], None]


class HostKernel:
    """One network namespace: that of the calling thread."""

    def __init__(self, reactor: Reactor, mark_mask: int) -> None:
        self._reactor = reactor
        self.mark_mask, self.mark_shift = mark_mask, shift(mark_mask)
        self._conntrack_socket = conntrack.open_socket()
        self._connections = conntrack.ConntrackTable(self._conntrack_socket)
        self._sockets = SocketTable(_diag_socket())
        self._events: DestroyEvents | None = None
        self.socket_closed: ClosedSocket = lambda protocol, local, remote: None
        self._raw: dict[int, socket.socket] = {}
        self._first_port, self._last_port = _port_range()
        self.page_failures = 0

    def is_ephemeral(self, port: int) -> bool:
        """Whether the kernel gives this port to sockets that ask for none."""
        return self._first_port <= port <= self._last_port

    def set_mark(self, key: TableKey, state: int) -> bool:
        """Give a connection its state; whether there is such a connection."""
        try:
            return self._connections.set_mark(key, state << self.mark_shift, self.mark_mask)
        except (OSError, DatapathError):
            return False

    def state(self, key: TableKey) -> int | None:
        """The state in a connection's mark; None when it is not there."""
        try:
            found = self._connections.find(key)
        except (OSError, DatapathError):
            return None
        return (found.mark & self.mark_mask) >> self.mark_shift if found is not None else None

    def counters(self, key: TableKey) -> tuple[int, int] | None:
        """Bytes that the beginner of a connection sent and got; None when it is gone."""
        try:
            return self._connections.counters(key)
        except (OSError, DatapathError):
            return None

    def has_entry(self, key: TableKey) -> bool:
        """Whether the connection is there."""
        return self.counters(key) is not None

    def has_socket(self, flow: HostFlow) -> bool:
        """Whether the program's socket is there."""
        _, source, port, destination, other = flow.key
        local, remote = (source, port), (destination, other)
        if flow.direction is Direction.INBOUND:
            local, remote = remote, local
        return self._sockets.find(flow.protocol_number, local, remote, interface=_index(flow)) is not None

    def destroy(self, flow: HostFlow) -> None:
        """End this machine's sockets of a flow (SOCK_DESTROY): its program hears of it at once.

        TCP only: a UDP socket may have other peers, and gets an ICMP error for its next datagram.
        """
        if flow.protocol_number != TCP:
            return
        _, source, port, destination, other = flow.key
        for local, remote in (((source, port), (destination, other)), ((destination, other), (source, port))):
            end_connection(self._sockets, local, remote, _index(flow))

    def count_bytes(self) -> None:
        """Filters want reports: hear of closed sockets from now on."""
        if self._events is None:
            self._events = DestroyEvents(_diag_socket())
            for group in TCP_DESTROY_GROUPS:
                self._events.socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
            self._reactor.register(self._events.fileno(), READ, self._destroyed)

    def _destroyed(self, events: int) -> None:
        assert self._events is not None
        for found in self._events.receive():
            protocols = (TCP, UDP)
            for protocol in protocols:
                local = _plain(found.local_address), found.local_port
                self.socket_closed(protocol, local, (_plain(found.remote_address), found.remote_port))

    def send_page(self, flows: FlowTable, flow: HostFlow, packets: list[Waiting], page: bytes) -> bool:
        """Answer the program's request in the server's place; whether that could be begun."""
        started = HostPage.start(flows, flow, packets, page, self.inject)
        if started is None:
            return False
        flow.page = started
        return True

    def inject(self, packet: bytes, state: int) -> bool:
        """Send a whole IP packet whose connection gets that state with it. Whether the kernel took it."""
        version = packet[0] >> 4
        destination = packet[16:20] if version == 4 else packet[24:40]
        try:
            sock = self._raw.get(version)
            if sock is None:
                family = socket.AF_INET if version == 4 else socket.AF_INET6
                sock = self._raw[version] = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, state << self.mark_shift)
            sock.sendto(packet, (address_text(destination), 0))
        except OSError:
            self.page_failures += 1
            return False
        return True

    def close(self) -> None:
        """Close all sockets."""
        if self._events is not None:
            self._reactor.unregister(self._events.fileno())
            self._events.close()
        self._sockets.close()
        self._conntrack_socket.close()
        for sock in self._raw.values():
            sock.close()


def _diag_socket() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG)


def _plain(address: bytes) -> bytes:
    """IPv4 of an AF_INET6 socket as four bytes."""
    return address[12:] if len(address) == 16 and address.startswith(bytes(10) + b"\xff\xff") else address


def _port_range() -> tuple[int, int]:
    try:
        with open(PORT_RANGE) as file:
            first, last = file.read().split()
        return int(first), int(last)
    except (OSError, ValueError):
        return 32768, 60999


def _index(flow: HostFlow) -> int:
    """The index of the interface that a flow uses; 0 if it is gone or not known."""
    try:
        return socket.if_nametoindex(flow.interface) if flow.interface else 0
    except OSError:
        return 0
