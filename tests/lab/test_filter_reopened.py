"""A connection with the addresses and ports of one that conntrack has not forgotten is a new flow.

Where both sides have reset a connection, conntrack keeps its entry for ten seconds, and takes the SYN of the next one
for a packet of the old one (nf_conntrack_proto_tcp.c, TCP_CONNTRACK_IGNORE).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from network_extension.core.packets import PacketHead
from network_extension.linux.filter_ruleset import FlowMark
from network_extension.linux.nfqueue import HeldPacket
from tests.netlab import Host, NetLab

from .filtering import TCP, address, connection, filtering, key_of, make, nft

pytestmark = pytest.mark.lab

FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
_DEAF = "table inet deaf { chain input { type filter hook input priority -300; tcp flags & rst != 0 drop; }; }\n"


class FirstOnly:
    """Allows the first flow that it is asked about, and refuses all others."""

    def __init__(self) -> None:
        self.seen = set[int]()

    def __call__(self, packet: HeldPacket, head: PacketHead) -> FlowMark:
        self.seen.add(head.sequence)
        return FlowMark.ALLOWED if len(self.seen) == 1 else FlowMark.REFUSED


def reset(sock: socket.socket) -> None:
    """Close a connection by a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@contextmanager
def deaf(host: Host) -> Iterator[None]:
    """The host hears no reset meanwhile."""
    nft(host, "-f", "-", text=_DEAF)
    try:
        yield
    finally:
        nft(host, "delete", "table", "inet", "deaf")


class Pair:
    """A listener in `theirs`, and connections to it from one and the same port in `ours`."""

    def __init__(self, lab: NetLab, ours: Host, theirs: Host, family: int) -> None:
        self.lab, self.ours, self.theirs, self.family = lab, ours, theirs, family
        self.listener = make(lab, theirs, family, TCP)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((address(theirs, lab, family), 0))
        self.listener.listen()
        self.here: tuple[str, int] | None = None

    def connect(self) -> tuple[socket.socket, socket.socket]:
        """Both ends of a connection. Raises OSError."""
        near = make(self.lab, self.ours, self.family, TCP)
        near.settimeout(0.7)
        try:
            if self.here is not None:
                near.bind(self.here)
            near.connect(self.listener.getsockname()[:2])
        except OSError:
            near.close()
            raise
        self.here = near.getsockname()[:2]
        return near, self.listener.accept()[0]

    def first(self, peer: Host) -> tuple[int, bytes, int, bytes, int]:
        """A connection that both sides have reset; its key."""
        near, far = self.connect()
        near.sendall(b"x")
        assert far.recv(1) == b"x"
        key = key_of(near)
        with deaf(peer):
            reset(near)
            reset(far)
        assert connection(self.lab, self.lab.near, key) is not None, "conntrack keeps its entry"
        return key


@FAMILIES
@pytest.mark.parametrize("begun", ["outbound", "inbound"])
def test_a_second_connection_by_the_same_ports_is_asked_about(lab: NetLab, family: int, begun: str) -> None:
    ours, theirs = (lab.near, lab.far) if begun == "outbound" else (lab.far, lab.near)
    pair = Pair(lab, ours, theirs, family)
    with pair.listener, filtering(lab, FirstOnly()) as running:
        key = pair.first(theirs)
        with pytest.raises(ConnectionRefusedError):
            pair.connect()
        assert running.keys[:2] == [key, key]


def test_over_loopback_too(lab: NetLab) -> None:
    pair = Pair(lab, lab.near, lab.near, socket.AF_INET)
    with pair.listener, filtering(lab, FirstOnly(), loopback=True) as running:
        key = pair.first(lab.near)
        with pytest.raises(ConnectionRefusedError):
            pair.connect()
        assert running.keys[:2] == [key, key]


@pytest.mark.parametrize("begun", ["outbound", "inbound"])
def test_after_a_connection_that_was_there_before_the_filter(lab: NetLab, begun: str) -> None:
    """It is let be, and the next one is asked about."""
    ours, theirs = (lab.near, lab.far) if begun == "outbound" else (lab.far, lab.near)
    pair = Pair(lab, ours, theirs, socket.AF_INET)
    with pair.listener:
        with filtering(lab, FlowMark.ALLOWED):
            pair.first(theirs)
        with filtering(lab, FlowMark.REFUSED) as running:
            with pytest.raises(ConnectionRefusedError):
                pair.connect()
            assert len(running.keys) == 1


def test_what_is_not_asked_about_stays_so(lab: NetLab) -> None:
    """Flows from others, with `inbound` off: their next connection is let in as the first one was."""
    pair = Pair(lab, lab.far, lab.near, socket.AF_INET)
    with pair.listener, filtering(lab, FlowMark.REFUSED, inbound=False) as running:
        pair.first(lab.near)
        near, far = pair.connect()
        with near, far:
            near.sendall(b"y")
            assert far.recv(1) == b"y"
        assert running.keys == []
