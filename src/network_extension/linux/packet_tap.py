"""Every packet of an interface, as it passes: a packet socket with a ring that the kernel fills (packet(7)).

A plain packet socket loses whatever does not fit its buffer, which `rmem_max` keeps small: with packets of 64 KiB that
is all but a few. The ring (TPACKET_V3, Linux 3.2; Documentation/networking/packet_mmap.rst) is memory of its own. It
holds more than the windows of busy connections, and while we empty it, no relay of ours adds to it.

Two processes share the work: `open_tap` runs where the interface is and needs CAP_NET_RAW over that namespace;
`PacketTap` takes the socket anywhere, without privilege.
"""

from __future__ import annotations

import mmap
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

SOL_PACKET = 263
PACKET_RX_RING, PACKET_STATISTICS, PACKET_VERSION, PACKET_IGNORE_OUTGOING = 5, 6, 10, 23
TPACKET_V3 = 2
PACKET_HOST, PACKET_OUTGOING = 0, 4
ETH_P_ALL = 3
BLOCK_SIZE, BLOCKS = 1 << 20, 64  # with half of it, eight streams of 64 KiB packets lost one in ten
FRAME_SIZE = 2048  # only a unit of account in version 3, where packets lie one behind another
BLOCK_TIMEOUT = 20
"""Milliseconds after which the kernel hands over a block that is not full."""
_STATUS_KERNEL, _STATUS_USER = 0, 1

_RING = struct.Struct("=7I")  # struct tpacket_req3
_BLOCK = struct.Struct("=III")  # of struct tpacket_block_desc, from offset 8: status, packets, offset of the first
_PACKET = struct.Struct("=IIIIIIHH")  # struct tpacket3_hdr up to tp_net
_STATISTICS = struct.Struct("=III")  # struct tpacket_stats_v3
_KIND_OFFSET = 48 + 10  # sll_pkttype of the struct sockaddr_ll behind struct tpacket3_hdr


class TappedPacket(NamedTuple):
    """One packet."""

    time_ns: int
    """When it passed, in nanoseconds since 1970 (UTC), by the kernel's clock."""
    data: bytes
    """From its IP header on."""
    length: int
    """Its whole length in bytes."""


def open_tap(interface: str) -> socket.socket:
    """A packet socket on `interface`, with its ring. Raises OSError.

    On the loopback interface each packet passes twice, outgoing and then incoming: outgoing ones are left out, by the
    kernel (Linux 4.20) or else by `PacketTap`.
    """
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    try:
        sock.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V3)
        ring = (BLOCK_SIZE, BLOCKS, FRAME_SIZE, BLOCK_SIZE // FRAME_SIZE * BLOCKS, BLOCK_TIMEOUT, 0, 0)
        sock.setsockopt(SOL_PACKET, PACKET_RX_RING, _RING.pack(*ring))
        try:
            sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        except OSError:
            pass
        sock.bind((interface, ETH_P_ALL))  # from now on packets come; bind converts to network order
    except OSError:
        sock.close()
        raise
    return sock


class PacketTap:
    """Reads the ring of a socket of `open_tap`. The descriptor is readable when a block is full, or its time is up."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._ring = mmap.mmap(sock.fileno(), BLOCK_SIZE * BLOCKS, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._block = 0
        self.seen = self.lost = 0
        """Packets that passed, and those of them that the ring had no room for; see `count`."""

    def fileno(self) -> int:
        """The descriptor to poll for reading."""
        return self._sock.fileno()

    def receive(self) -> Iterator[TappedPacket]:
        """The packets of all blocks that the kernel has handed over, in their order."""
        for _ in range(BLOCKS):
            start = self._block * BLOCK_SIZE
            status, packets, first = _BLOCK.unpack_from(self._ring, start + 8)
            if not status & _STATUS_USER:
                return
            yield from self._packets(start + first, packets)
            self._ring[start + 8 : start + 12] = _STATUS_KERNEL.to_bytes(4, "little")
            self._block = (self._block + 1) % BLOCKS

    def _packets(self, at: int, count: int) -> Iterator[TappedPacket]:
        ring = self._ring
        for _ in range(count):
            next_at, seconds, nanoseconds, kept, length, _, start, _ = _PACKET.unpack_from(ring, at)
            if ring[at + _KIND_OFFSET] != PACKET_OUTGOING:
                yield TappedPacket(seconds * 1_000_000_000 + nanoseconds, ring[at + start : at + start + kept], length)
            at += next_at

    def count(self) -> None:
        """Bring `seen` and `lost` up to date; the kernel counts from one question to the next."""
        seen, lost, _ = _STATISTICS.unpack(self._sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, _STATISTICS.size))
        self.seen += seen
        self.lost += lost

    def close(self) -> None:
        """Give the ring and the socket back."""
        self._ring.close()
        self._sock.close()
