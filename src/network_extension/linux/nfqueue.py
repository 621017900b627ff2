"""A client of the kernel's packet queue, NFQUEUE, over AF_NETLINK (include/uapi/linux/netfilter/nfnetlink_queue.h).

The queue hands each packet over and keeps the original until a verdict names its id. Verdicts may come in any order,
which is what keeps one undecided flow from holding another. Three properties matter for speed:

- packets are received in batches, until the socket is empty;
- verdicts are collected and written as one datagram of many netlink messages;
- only the head of a packet is copied to user space (`copy_range`).

`Queue` is non-blocking and has a `fileno()`: it serves the engine's epoll loop, and `loop.add_reader` of asyncio alike.
The bindings on PyPI need a compiler, have neither batches nor queue statistics, and one of them stalled in our tests.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import NamedTuple

from ..errors import DatapathError
from .netlink import NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR, attribute, error_number, message, messages

NETLINK_NETFILTER, NFNL_SUBSYS_QUEUE = 12, 3
PACKET, VERDICT, CONFIG = (NFNL_SUBSYS_QUEUE << 8 | kind for kind in (0, 1, 2))
CFG_CMD, CFG_PARAMS, CFG_QUEUE_MAXLEN, CFG_MASK, CFG_FLAGS = 1, 2, 3, 4, 5
CFG_CMD_BIND, COPY_PACKET = 1, 2
FLAG_FAIL_OPEN, FLAG_GSO = 1, 4
ATTR_PACKET_HDR, ATTR_VERDICT_HDR, ATTR_MARK, ATTR_INDEV, ATTR_OUTDEV = 1, 2, 3, 5, 6
ATTR_PAYLOAD, ATTR_CAP_LEN, ATTR_SKB_INFO = 10, 13, 14
DROP, ACCEPT, REPEAT = 0, 1, 4
NETLINK_CAP_ACK = 10
SOL_NETLINK = 270
SO_RCVBUFFORCE = 33

_PACKET_ID = struct.Struct(">I")
_ATTRIBUTE = struct.Struct("=HH")
_LENGTH = struct.Struct("=I")
# What the kernel says of nearly every packet that a program here sends: its header, the interface, that its checksum is
# still to be made, and the payload. One struct reads it, big-endian as the numbers in it are; what is in the machine's
# order (types, lengths) is compared as it comes.
_OUTGOING = struct.Struct(">4xH14xIIxxBxIII4xHH")
_PACKET_KIND = int.from_bytes(struct.pack("=H", PACKET), "big")
_OUTGOING_ATTRIBUTES = (
    *(int.from_bytes(_ATTRIBUTE.pack(*start), "big") for start in ((11, ATTR_PACKET_HDR), (8, ATTR_OUTDEV))),
    int.from_bytes(_ATTRIBUTE.pack(8, ATTR_SKB_INFO), "big"),
    int.from_bytes(struct.pack("=H", ATTR_PAYLOAD), "big"),
)
# A verdict is one fixed block: nlmsghdr, nfgenmsg (queue number big-endian), verdict header, and perhaps a mark.
_VERDICT_START = struct.Struct("=IHHIIBB2sHH")
_VERDICT, _VERDICT_WITH_MARK = struct.Struct(">II").pack, struct.Struct(">II4sI").pack
_MARK_START = _ATTRIBUTE.pack(8, ATTR_MARK)


class HeldPacket(NamedTuple):
    """One packet that waits for a verdict."""

    id: int
    """The queue's number for it."""
    payload: bytes
    """From the IP header on, at most `copy_range` bytes."""
    length: int
    """Its whole length in bytes."""
    mark: int = 0
    """Its packet mark."""
    hook: int = 0
    """Where it was queued: 0 prerouting, 1 input, 2 forward, 3 output, 4 postrouting."""
    indev: int = 0
    """The number of the interface it came by; 0 for one that was made here."""
    outdev: int = 0
    """The number of the interface by which it is to leave; 0 if that is not known yet."""


class QueueStatistics(NamedTuple):
    """One line of /proc/net/netfilter/nfnetlink_queue."""

    waiting: int
    """Packets without a verdict."""
    queue_dropped: int
    """Packets dropped because the queue was full."""
    user_dropped: int
    """Packets dropped because our socket was full (ENOBUFS)."""


def parse_packet(data: bytes | memoryview) -> HeldPacket | None:
    """Read one netlink message; None when it is not a packet with an id."""
    if len(data) >= _OUTGOING.size:
        kind, first, number, hook, second, outdev, third, size, last = _OUTGOING.unpack_from(data)
        if kind == _PACKET_KIND and (first, second, third, last) == _OUTGOING_ATTRIBUTES:
            end = 48 + (size >> 8 | (size & 0xFF) << 8)
            if 52 <= end <= len(data):
                # Not by HeldPacket(...): its own __new__ takes a third of the time of this function.
                return tuple.__new__(HeldPacket, (number, bytes(data[52:end]), end - 52, 0, hook, 0, outdev))
    return _parse_any(data)


def _parse_any(data: bytes | memoryview) -> HeldPacket | None:
    if len(data) < 32 or int.from_bytes(data[4:6], "little") != PACKET:
        return None
    view = memoryview(data)
    (end,) = _LENGTH.unpack_from(view)
    end, at, number, payload, length = min(end, len(view)), 20, -1, b"", -1
    mark = hook = indev = outdev = 0
    attribute_at, number_at = _ATTRIBUTE.unpack_from, _PACKET_ID.unpack_from
    while at + 4 <= end:
        size, kind = attribute_at(view, at)
        if size < 4 or at + size > end:
            break
        if kind == ATTR_PAYLOAD:
            payload = bytes(view[at + 4 : at + size])
        elif kind == ATTR_PACKET_HDR and size >= 8:
            (number,) = number_at(view, at + 4)
            hook = view[at + 10] if size >= 11 else 0
        elif size < 8:
            pass
        elif kind == ATTR_CAP_LEN:
            (length,) = number_at(view, at + 4)
        elif kind == ATTR_OUTDEV:
            (outdev,) = number_at(view, at + 4)
        elif kind == ATTR_INDEV:
            (indev,) = number_at(view, at + 4)
        elif kind == ATTR_MARK:
            (mark,) = number_at(view, at + 4)
        at += (size + 3) & ~3
    if number < 0:
        return None
    values = (number, payload, length if length >= 0 else len(payload), mark, hook, indev, outdev)
    return tuple.__new__(HeldPacket, values)


def verdict_message(queue: int, packet: int, verdict: int, mark: int | None = None) -> bytes:
    """The netlink message that decides `packet`; `mark` is what its packet mark becomes."""
    if mark is None:
        return _verdict_start(32, queue) + _VERDICT(verdict, packet)
    return _verdict_start(40, queue) + _VERDICT_WITH_MARK(verdict, packet, _MARK_START, mark)


def _verdict_start(size: int, queue: int) -> bytes:
    """What is the same for all packets of a queue."""
    number = queue.to_bytes(2, "big")
    return _VERDICT_START.pack(size, VERDICT, NLM_F_REQUEST, 0, 0, 0, 0, number, 12, ATTR_VERDICT_HDR)


def config_message(queue: int, sequence: int, *attributes: bytes) -> bytes:
    """A configuration request for `queue` that asks for an acknowledgement."""
    body = struct.pack(">BBH", 0, 0, queue) + b"".join(attributes)
    return message(CONFIG, NLM_F_REQUEST | NLM_F_ACK, sequence, body)


def open_socket() -> socket.socket:
    """A netlink socket for a queue of the current network namespace."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)


class Queue:
    """One bound NFQUEUE. Raises DatapathError when the kernel refuses it."""

    def __init__(
        self,
        sock: socket.socket,
        number: int = 0,
        *,
        copy_range: int = 128,
        maximum: int = 16384,
        fail_open: bool = False,
        batch: int = 256,
        force_buffer: int = 0,
    ) -> None:
        """`force_buffer` is the size in bytes of the socket's buffer, beyond rmem_max, for who has CAP_NET_ADMIN."""
        self.socket, self.number, self.overflows = sock, number, 0
        self._batch, self._pending = batch, [b""]
        self._plain, self._marked = _verdict_start(32, number), _verdict_start(40, number)
        self._buffer = bytearray(copy_range + 4096)
        self._view = memoryview(self._buffer)
        # rmem_max bounds this; a full socket is what makes the kernel count user_dropped.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        if force_buffer:
            _force_buffer(sock, force_buffer)
        self._configure(attribute(CFG_CMD, struct.pack(">BBH", CFG_CMD_BIND, 0, 0)))
        flags = FLAG_GSO | (FLAG_FAIL_OPEN if fail_open else 0)
        self._configure(
            attribute(CFG_PARAMS, struct.pack(">IB", copy_range, COPY_PACKET)),
            attribute(CFG_QUEUE_MAXLEN, struct.pack(">I", maximum)),
            attribute(CFG_FLAGS, struct.pack(">I", flags)),
            attribute(CFG_MASK, struct.pack(">I", FLAG_GSO | FLAG_FAIL_OPEN)),
        )
        sock.setblocking(False)
        self._pending.clear()

    def _configure(self, *attributes: bytes) -> None:
        self.socket.send(config_message(self.number, 1, *attributes))
        for kind, _, body in messages(self.socket.recv(4096)):
            if kind == NLMSG_ERROR and (number := error_number(body)):
                busy = "; another program owns this queue number" if number == errno.EBUSY else ""
                raise DatapathError(f"packet queue {self.number}: {os.strerror(number)}{busy}", errno=number)

    def fileno(self) -> int:
        """The descriptor to poll for reading."""
        return self.socket.fileno()

    def receive(self) -> list[HeldPacket]:
        """All packets that wait in the socket, at most one batch. Counts ENOBUFS in `overflows`."""
        packets, receive, view = [], self.socket.recv_into, self._view
        for _ in range(self._batch):
            try:
                size = receive(view)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.overflows += 1
                continue
            if (packet := parse_packet(view[:size])) is not None:
                packets.append(packet)
        return packets

    def decide(self, packet: int, verdict: int, mark: int | None = None) -> None:
        """Note a verdict; `flush` sends what was noted."""
        if mark is None:
            self._pending.append(self._plain + _VERDICT(verdict, packet))
        else:
            self._pending.append(self._marked + _VERDICT_WITH_MARK(verdict, packet, _MARK_START, mark))

    def flush(self) -> None:
        """Send the noted verdicts, in datagrams of at most 32 KiB."""
        pending, self._pending = self._pending, []
        for start in range(0, len(pending), 800):
            try:
                self.socket.send(b"".join(pending[start : start + 800]))
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.ENOBUFS):
                    raise
                self._pending = pending[start:]
                return

    def close(self) -> None:
        """Unbind: the kernel drops what is still held."""
        self.socket.close()


def _force_buffer(sock: socket.socket, size: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
    except PermissionError:
        pass  # the usual size has to do


def statistics(number: int, pid: int | str = "self") -> QueueStatistics | None:
    """The kernel's counters of a queue in the network namespace of process `pid`; None when it is not bound."""
    try:
        with open(f"/proc/{pid}/net/netfilter/nfnetlink_queue") as table:
            rows = [line.split() for line in table]
    except OSError:
        return None
    for row in rows:
        if len(row) >= 7 and int(row[0]) == number:
            return QueueStatistics(int(row[2]), int(row[5]), int(row[6]))
    return None
