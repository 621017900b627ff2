"""Many datagrams in one system call, without touching them one by one in Python.

recvmmsg(2) fills up to 64 slots; sendmmsg(2) sends from the same slots. The arrays that both calls read are made once
and shared by all relays of the process (it has one thread): what changes from batch to batch are lengths, and those are
copied from one array to the other by one assignment of strided memoryviews.

Runs of equal length go as one message that the kernel cuts (UDP_SEGMENT, Linux 4.18): 54 datagrams of 1,200 bytes cross
the stack once instead of 54 times. What the kernel has joined on the way in (UDP_GRO, Linux 5.0), or a program has sent
that way, leaves as it came. Structures as 64-bit Linux has them: struct mmsghdr 64 bytes, struct iovec 16.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import sys

SLOTS = 64
SLOT_SIZE = 65536
# Slots that start at multiples of 64 KiB would fall into the same few cache sets: a batch would evict itself.
_STRIDE = SLOT_SIZE + 1344
SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104
MSG_DONTWAIT = socket.MSG_DONTWAIT
MAX_SEGMENTS = 64  # UDP_MAX_SEGMENTS; 128 since Linux 6.9
MAX_SUPER_PACKET = 65535 - 48  # what both IPv4 and IPv6 can carry
_NAME = 32  # room for a sockaddr_in6, 28 bytes
_CONTROL = 24  # CMSG_SPACE of UDP_GRO's int and of UDP_SEGMENT's u16
_LOW = 0 if sys.byteorder == "little" else 1  # which half of a 64-bit length counts
_GSO_REFUSED = (errno.EINVAL, errno.EIO, errno.EMSGSIZE)
_GRO_HEADER = struct.pack("=II", SOL_UDP, UDP_GRO)
_SEGMENT = struct.Struct("=H")

_libc = ctypes.CDLL(None, use_errno=True)
_recvmmsg, _sendmmsg = _libc.recvmmsg, _libc.sendmmsg
_recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
_sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
_errno = ctypes.get_errno


def join_datagrams(sock: socket.socket) -> None:
    """Take datagrams that arrive joined (a program that sends by UDP_SEGMENT, a network card's GRO) as they are."""
    try:
        sock.setsockopt(SOL_UDP, UDP_GRO, 1)
    except OSError:  # before Linux 5.0 the kernel cuts them for us
        pass


class _Memory:
    """Zeroed memory at a fixed address, seen as bytes and as numbers."""

    __slots__ = ("_anchor", "address", "data", "halves", "view", "words")

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)
        self._anchor = ctypes.c_char.from_buffer(self.data)  # an export: the bytearray can move no more
        self.address = ctypes.addressof(self._anchor)
        self.view = memoryview(self.data)
        self.words = self.view[: size & ~7].cast("Q")
        self.halves = self.view[: size & ~7].cast("I")


class _Headers(_Memory):
    """An array of struct mmsghdr; each message starts with one buffer, the slot of the same number."""

    __slots__ = ("buffers", "control_lengths", "lengths", "name_lengths")

    def __init__(
        self,
        slots: _Memory,
        buffer_length: int,
        names: _Memory | None = None,
        name_stride: int = 0,
        control: _Memory | None = None,
    ) -> None:
        super().__init__(64 * SLOTS)
        self.buffers = _Memory(16 * SLOTS)
        for index in range(SLOTS):
            self.buffers.words[index * 2] = slots.address + index * _STRIDE
            self.buffers.words[index * 2 + 1] = buffer_length
            header = index * 8
            self.words[header] = names.address + index * name_stride if names else 0
            self.words[header + 2] = self.buffers.address + index * 16
            self.words[header + 3] = 1
            self.words[header + 4] = control.address + index * _CONTROL if control else 0
        self.name_lengths = self.halves[2::16]
        self.control_lengths = self.halves[10 + _LOW :: 16]
        self.lengths = self.halves[14::16]


class Outlet:
    """Where a batch is sent: a descriptor, the name of the far end unless the socket is connected, and what is known
    about segmentation there.
    """

    __slots__ = ("descriptor", "name", "segment_limit")

    def __init__(self, descriptor: int, name: bytes | None = None) -> None:
        self.descriptor, self.name = descriptor, name
        self.segment_limit = SLOT_SIZE
        """The largest segment size that the kernel may yet take; 0 when it takes none."""


class Batch:
    """The datagrams at hand: `receive` fills it, `send` sends part of it, `datagrams` copies part of it."""

    def __init__(self) -> None:
        self._slots = _Memory(_STRIDE * SLOTS)  # comes from mmap: pages that no datagram reached take no memory
        self._names, self._control = _Memory(_NAME * SLOTS), _Memory(_CONTROL * SLOTS)
        self._peer, self._cut = _Memory(_NAME), _Memory(_CONTROL * SLOTS)
        self._plain_in = _Headers(self._slots, SLOT_SIZE, control=self._control)
        self._named_in = _Headers(self._slots, SLOT_SIZE, self._names, _NAME, self._control)
        self._out = _Headers(self._slots, 0, self._peer)
        self._out_lengths = self._out.buffers.halves[2 + _LOW :: 4]
        self._cut_out = _Headers(self._slots, 0, self._peer)  # its messages are laid over the buffers of `_out`
        self._name_size = 0
        self._full = memoryview(struct.pack("I", _CONTROL) * SLOTS).cast("I")
        self._none = memoryview(bytes(4 * SLOTS)).cast("I")
        self._name_full = memoryview(struct.pack("I", _NAME) * SLOTS).cast("I")
        self._no_names = bytes(_NAME * SLOTS)
        self.count = 0
        self.lengths: list[int] = []
        self.segments: list[int] | None = None
        """For each message the size of the datagrams that it is made of; None when each is one datagram."""
        for index in range(SLOTS):
            struct.pack_into("=QII", self._cut.data, index * _CONTROL, 18, SOL_UDP, UDP_SEGMENT)

    # --- in

    def receive(self, descriptor: int) -> int:
        """Take what waits in a connected socket; the number of messages, 0 when there is none. Raises OSError."""
        return self._receive(descriptor, self._plain_in)

    def receive_named(self, descriptor: int) -> int:
        """As `receive`, from a socket that is not connected: `runs` tells the senders."""
        headers = self._named_in
        headers.name_lengths[:] = self._name_full
        self._names.view[:] = self._no_names  # an IPv4 name leaves the tail of an IPv6 one standing
        return self._receive(descriptor, headers)

    def _receive(self, descriptor: int, headers: _Headers) -> int:
        headers.control_lengths[:] = self._full  # the kernel has written over them
        count: int = _recvmmsg(descriptor, headers.address, SLOTS, MSG_DONTWAIT, None)
        if count < 0:
            self.count = 0
            number = _errno()
            if number == errno.EAGAIN:
                return 0
            raise OSError(number, os.strerror(number))
        self.count = count
        lengths = headers.lengths[:count]
        self._out_lengths[:count] = lengths
        self.lengths = lengths.tolist()
        joined = headers.control_lengths[:count]
        self.segments = None if joined == self._none[:count] else self._segment_sizes(joined)
        return count

    def _segment_sizes(self, control_lengths: memoryview) -> list[int]:
        """What UDP_GRO said about each message; its own length for one that is not joined."""
        sizes = list(self.lengths)
        for index, length in enumerate(control_lengths):
            at = index * _CONTROL
            if length and self._control.view[at + 8 : at + 16] == _GRO_HEADER:
                sizes[index] = struct.unpack_from("=i", self._control.data, at + 16)[0]
        return sizes

    def runs(self) -> list[tuple[bytes, int, int]]:
        """`(sockaddr of the sender, first, behind last)` of each run of messages from one sender."""
        count, names = self.count, bytes(self._names.view[: self.count * _NAME])
        first = names[:_NAME]
        if names == first * count:
            return [(first, 0, count)]
        found, start = [], 0
        for index in range(1, count + 1):
            name = names[index * _NAME : (index + 1) * _NAME]
            if name != first:
                found.append((first, start, index))
                first, start = name, index
        return found

    # --- what was received

    def size(self, start: int, stop: int) -> tuple[int, int]:
        """Number and bytes of the datagrams in messages `start` to `stop`."""
        lengths = self.lengths[start:stop]
        if self.segments is None:
            return stop - start, sum(lengths)
        pairs = zip(lengths, self.segments[start:stop], strict=True)
        return sum(-(-length // size) if size else 1 for length, size in pairs), sum(lengths)

    def datagrams(self, start: int, stop: int) -> list[bytes]:
        """Copies of the datagrams in messages `start` to `stop`, cut to what the sender sent."""
        found = []
        for index in range(start, stop):
            at, length = index * _STRIDE, self.lengths[index]
            size = self.segments[index] if self.segments else length
            view = self._slots.view[at : at + length]
            found += [bytes(view[cut : cut + size]) for cut in range(0, length, size)] if length else [b""]
        return found

    # --- out

    def send(self, outlet: Outlet, start: int, stop: int) -> int:
        """Send messages `start` to `stop`; the index of the first that did not go. Raises OSError if not one went.

        A joined message that the kernel will not cut for this outlet is never sent: `send` stops in front of it, and
        the caller takes it by `datagrams`.
        """
        self._address(outlet.name)
        joined = self.segments is not None
        if outlet.segment_limit and (joined or stop - start > 1):
            ends = self._compose(outlet.segment_limit, start, stop)
            if not ends:
                return start
            if joined or len(ends) < stop - start:
                return self._send_composed(outlet, ends, start, stop)
        elif joined:
            stop = next((index for index in range(start, stop) if self._is_joined(index)), stop)
            if stop == start:
                return start
        return start + self._transmit(outlet.descriptor, self._out.address + start * 64, stop - start)

    def _address(self, name: bytes | None) -> None:
        """Give all outgoing messages this name, or none (length 0: the socket is connected)."""
        size = 0
        if name is not None:
            size = len(name)
            self._peer.view[:size] = name
        if size != self._name_size:
            sizes = memoryview(struct.pack("I", size) * SLOTS).cast("I")
            self._out.name_lengths[:] = self._cut_out.name_lengths[:] = sizes
            self._name_size = size

    def _is_joined(self, index: int) -> bool:
        return self.segments is not None and 0 < self.segments[index] < self.lengths[index]

    def _compose(self, limit: int, start: int, stop: int) -> list[int]:
        """Lay messages over the slots, as few as may be; for each the index behind its last slot."""
        ends: list[int] = []
        segments, lengths = self.segments, self.lengths
        while start < stop:
            end, size = start + 1, 0
            if segments is None:
                end = self._run_end(limit, start, stop)
                size = lengths[start] if end > start + 1 else 0
            elif 0 < segments[start] < lengths[start]:
                size = segments[start]
                if size > limit:
                    break
            self._lay(len(ends), start, end, size)
            ends.append(end)
            start = end
        return ends

    def _run_end(self, limit: int, start: int, stop: int) -> int:
        """Behind the last of the datagrams that can go as one with `start`: equal ones, and one shorter at the end."""
        size = self.lengths[start]
        if not 0 < size <= limit:
            return start + 1
        run = self.lengths[start : min(stop, start + MAX_SEGMENTS, start + max(1, MAX_SUPER_PACKET // size))]
        if run.count(size) == len(run):
            return start + len(run)
        end = next(index for index, length in enumerate(run) if length != size)
        return start + end + (0 < run[end] < size)

    def _lay(self, number: int, start: int, end: int, size: int) -> None:
        """Make message `number` of slots `start` to `end`, to be cut into `size` bytes each unless that is 0."""
        words, header = self._cut_out.words, number * 8
        words[header + 2] = self._out.buffers.address + start * 16
        words[header + 3] = end - start
        if size:
            _SEGMENT.pack_into(self._cut.data, number * _CONTROL + 16, size)
        words[header + 4] = self._cut.address + number * _CONTROL if size else 0
        words[header + 5] = _CONTROL if size else 0

    def _send_composed(self, outlet: Outlet, ends: list[int], start: int, stop: int) -> int:
        try:
            return ends[self._transmit(outlet.descriptor, self._cut_out.address, len(ends)) - 1]
        except OSError as error:
            if error.errno not in _GSO_REFUSED or not self._cut_out.words[5]:
                raise
            # EINVAL or EMSGSIZE: a segment would not fit the path (such datagrams travel in fragments, which the kernel
            # makes of single ones only). EIO: this device or route cannot have it (no checksums, IPsec).
            (size,) = _SEGMENT.unpack_from(self._cut.data, 16)
            outlet.segment_limit = 0 if error.errno == errno.EIO else size - 1
        return self.send(outlet, start, stop)

    @staticmethod
    def _transmit(descriptor: int, address: int, count: int) -> int:
        sent: int = _sendmmsg(descriptor, address, count, MSG_DONTWAIT)
        if sent < 0:
            raise OSError(_errno(), os.strerror(_errno()))
        return sent
