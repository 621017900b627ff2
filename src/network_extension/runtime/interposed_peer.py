"""One peer of a UDP flow whose provider reads and writes in Python, while filters look at the datagrams.

    program ⇄ [program-side socket] ── gates ── [ours ═ theirs] ⇄ provider

The provider gets one end of a pair of AF_UNIX datagram sockets in place of the program-side socket: boundaries stay,
and a reader that is too slow stops the writer.
"""

from __future__ import annotations

import socket
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from ..linux.reactor import READ, WRITE, Reactor

if TYPE_CHECKING:
    from .datagram_gate import DatagramGate

BATCH, MOST_WAITING = 64, 256


class _Outlet:
    """Where datagrams leave; what does not fit waits, and what is too much is lost."""

    __slots__ = ("_interest", "_reactor", "_sock", "sent", "waiting")

    def __init__(self, reactor: Reactor, sock: socket.socket) -> None:
        self._reactor, self._sock, self._interest = reactor, sock, READ
        self.waiting: deque[bytes] = deque()
        self.sent = 0

    def send(self, datagram: bytes) -> None:
        if len(self.waiting) < MOST_WAITING:
            self.waiting.append(datagram)
        self.flush()

    def flush(self) -> None:
        while self.waiting:
            try:
                self._sock.send(self.waiting[0])
                self.sent += len(self.waiting[0])
            except BlockingIOError:
                break
            except OSError:
                pass  # refused: its reader has gone, which is told by other ways
            self.waiting.popleft()
        interest = READ | WRITE if self.waiting else READ
        if interest != self._interest and self._sock.fileno() >= 0:
            self._interest = interest
            self._reactor.modify(self._sock.fileno(), interest)


class InterposedPeer:
    """Carries the datagrams of one peer between the program and a provider, through the filters' gates."""

    __slots__ = ("_inbound", "_ours", "_outbound", "_program", "_reactor", "_to_program", "_to_provider", "theirs")

    def __init__(self, reactor: Reactor, program: socket.socket, inbound: DatagramGate, outbound: DatagramGate) -> None:
        """Raises OSError when there is no descriptor left; `program` stays the caller's."""
        self._reactor, self._program, self._inbound, self._outbound = reactor, program, inbound, outbound
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in (self._ours, self.theirs, program):
            end.setblocking(False)
        self._to_program, self._to_provider = _Outlet(reactor, program), _Outlet(reactor, self._ours)
        inbound.send, outbound.send = self._to_program.send, self._to_provider.send
        reactor.register(program.fileno(), READ, partial(self._event, program, outbound, self._to_program))
        reactor.register(self._ours.fileno(), READ, partial(self._event, self._ours, inbound, self._to_provider))

    @property
    def counts(self) -> tuple[int, int]:
        """Bytes to and from the program."""
        return self._to_program.sent, self._to_provider.sent

    def _event(self, sock: socket.socket, gate: DatagramGate, outlet: _Outlet, events: int) -> None:
        if events & WRITE:
            outlet.flush()
        for datagram in _read(sock, BATCH):
            gate.arrive(datagram)

    def leave(self) -> list[bytes]:
        """End it; the program's socket stays open. What the provider has not read is the result."""
        for datagram in _read(self._ours, MOST_WAITING):
            self._inbound.arrive(datagram)
        unread = [*_read(self.theirs, MOST_WAITING), *self._to_provider.waiting]
        for sock in (self._program, self._ours):
            self._reactor.unregister(sock.fileno())
        self._ours.close()
        self.theirs.close()
        return unread

    def close(self) -> None:
        """End it, and close the program's socket."""
        self.leave()
        self._program.close()


def _read(sock: socket.socket, most: int) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < most:
        try:
            found.append(sock.recv(65536))
        except BlockingIOError:
            break
        except OSError:
            continue  # a pending error, now taken off the socket
    return found
