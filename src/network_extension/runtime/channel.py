"""A SOCK_SEQPACKET socket that carries the messages of `runtime/wire` with descriptors, without ever
blocking.

The engine's epoll loop and asyncio use it alike: ask `fileno()`, call `receive()` when it is readable, call
`flush()` when it is writable and `wants_write` is true. What does not fit the socket waits in a bounded
queue.
"""

from __future__ import annotations

import array
import errno
import os
import socket
from collections import deque
from collections.abc import Sequence
from typing import Any

from .wire import MAX_FDS, MAX_MESSAGE, MessageType, WireError, decode, encode

MAX_QUEUED_BYTES = 16 << 20
"""What may wait for a peer that does not read: 40,000 new flows and more."""
_ANCILLARY = socket.CMSG_SPACE(MAX_FDS * 4)
# MSG_CMSG_CLOEXEC: else a child started between two calls would inherit the descriptor (unix(7)).
_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
# As plain numbers: the enumerations of `socket` take a microsecond for each `|` and `&`.
_SEND, _TRUNCATED = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL), int(socket.MSG_TRUNC)

Message = tuple[MessageType, int, dict[str, Any], list[int]]
Packet = tuple[bytes, list[int]]


class ChannelFull(WireError):
    """The peer has not read for so long that `MAX_QUEUED_BYTES` wait for it."""


class Channel:
    """One end of a channel. It owns the socket."""

    __slots__ = ("_buffer", "_outgoing", "_queued", "_sock", "_view", "eof")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._buffer = bytearray(MAX_MESSAGE + 1)
        self._view = memoryview(self._buffer)
        self._outgoing: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._queued = 0
        self.eof = False
        """The peer has closed its end, or died: nothing more comes, and what is sent is dropped."""

    def fileno(self) -> int:
        """The descriptor, for epoll; -1 after `close`."""
        return self._sock.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether messages wait for the socket to become writable."""
        return bool(self._outgoing)

    @property
    def queued_bytes(self) -> int:
        """What waits for the peer to read, at most `MAX_QUEUED_BYTES`."""
        return self._queued

    def send(
        self, kind: MessageType, flow: int = 0, body: dict[str, Any] | None = None, fds: Sequence[int] = ()
    ) -> None:
        """Send one message now, or queue it. The caller may close `fds` at once: a queued message has its own
        copies.

        Raises WireError for a message that cannot be encoded, ChannelFull, and OSError (EMFILE) when there is
        no room for the copies. A peer that is gone shows in `eof` only.
        """
        self.send_packet(encode(kind, flow, body), fds)

    def send_packet(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send one packet that is encoded already, as `send` does."""
        if self._outgoing or not self._send_now(data, fds):
            self._queue(data, fds)

    def _send_now(self, data: bytes, fds: Sequence[int]) -> bool:
        """Whether the message is dealt with."""
        if self.eof:
            return True
        try:
            if fds:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                self._sock.sendmsg([data], rights, _SEND)
            else:
                self._sock.send(data, _SEND)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError):
            self.eof = True
        except OSError as error:
            # ETOOMANYREFS (unix(7)): as many descriptors as RLIMIT_NOFILE are already on their way; it
            # passes.
            if error.errno != errno.ETOOMANYREFS:
                raise
            return False
        return True

    def _queue(self, data: bytes, fds: Sequence[int]) -> None:
        if self._queued + len(data) > MAX_QUEUED_BYTES:
            raise ChannelFull(f"the peer does not read: {self._queued} bytes wait for it")
        copies: list[int] = []
        try:
            for fd in fds:
                copies.append(os.dup(fd))  # one by one: what was copied before a failure must be closed
        except OSError:
            _close_all(copies)
            raise
        self._outgoing.append((data, tuple(copies)))
        self._queued += len(data)

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it."""
        while self._outgoing:
            data, fds = self._outgoing[0]
            if not self._send_now(data, fds):
                return
            self._outgoing.popleft()
            self._queued -= len(data)
            _close_all(fds)

    def receive(self, limit: int = 64) -> list[Message]:
        """Up to `limit` messages, (type, flow id, body, descriptors) each; the descriptors are the caller's
        from then on.

        [] when none is there; then `eof` tells whether more can come. A message may have fewer descriptors
        than it was sent with: at the limit of open files the kernel drops them (MSG_CTRUNC), which must cost
        that one request and not the channel, so count them. Raises WireError for a message that is not one of
        ours, its descriptors closed; what came before it in the same call is lost, so end the channel.
        """
        messages: list[Message] = []
        packets = self.receive_packets(limit)
        for index, (data, fds) in enumerate(packets):
            try:
                messages.append((*decode(data), fds))
            except WireError:
                for _, unread in packets[index:]:
                    _close_all(unread)
                for message in messages:
                    _close_all(message[3])
                raise
        return messages

    def receive_packets(self, limit: int = 64) -> list[Packet]:
        """Up to `limit` packets as they came, none of them empty, for those who decode them; else as `receive`."""
        packets: list[Packet] = []
        view, sock = self._view, self._sock
        while len(packets) < limit:
            try:
                size, ancillary, flags, _address = sock.recvmsg_into((view,), _ANCILLARY, _FLAGS)
            except BlockingIOError:
                break
            except ConnectionResetError:
                # It closed without reading all that we sent (unix(7)). Said once; its last messages come next.
                continue
            if not size:
                self.eof = True
                break
            packets.append((bytes(view[:size]), _descriptors(ancillary) if ancillary else []))
            if flags & _TRUNCATED:
                for _, fds in packets:
                    _close_all(fds)
                raise WireError(f"a message of more than {MAX_MESSAGE} bytes")
        return packets

    def close(self) -> None:
        """Close the socket and drop what waits. May be called twice."""
        self.eof = True
        while self._outgoing:
            _close_all(self._outgoing.popleft()[1])
        self._queued = 0
        self._sock.close()


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
