"""Both ends of a proxied flow in memory: the program that the test plays, and the far side that it plays as well.

Bytes travel through socket pairs, so that a provider reads, writes and relays as it does for real.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

from ..endpoint import Endpoint
from ..errors import FlowError, FlowErrorCode, errno_for_code
from ..flow import RelayResult
from ..tcp_flow import TCPFlow
from .harness import Harness

CHUNK = 65536


class FarSide:
    """The test's end of a connection that the provider made."""

    def __init__(self, harness: Harness, endpoint: Endpoint, sock: socket.socket) -> None:
        self._harness, self.endpoint, self._sock = harness, endpoint, sock
        self._received = bytearray()

    @property
    def received(self) -> bytes:
        """All that came from the provider's side so far."""
        self._harness.loop.settle()
        _drain(self._sock, self._received)
        return bytes(self._received)

    def send(self, data: bytes) -> None:
        """Send to the provider's side."""
        self._sock.sendall(data)
        self._harness.loop.settle()

    def end(self) -> None:
        """Send no more: the other side sees an end of file."""
        self._sock.shutdown(socket.SHUT_WR)
        self._harness.loop.settle()

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()
        self._harness.loop.settle()


class ProgramSide:
    """A program's connection, and what became of it."""

    def __init__(self, harness: Harness, text: str) -> None:
        self._harness, self.description = harness, text
        self._program, self._runtime = socket.socketpair()
        self._program.setblocking(False)
        self._runtime.setblocking(False)
        self._received = bytearray()
        self.state = "held"
        """ "held", "claimed", "open", "passed" (no proxy wanted it), "refused" or "closed"."""
        self.error = 0
        """The errno that the program saw; 0 for none."""
        self.flow: TCPFlow | None = None

    @property
    def received(self) -> bytes:
        """All that the program has received so far."""
        self._harness.loop.settle()
        _drain(self._program, self._received)
        return bytes(self._received)

    def send(self, data: bytes) -> None:
        """The program sends. Raises AssertionError while its connection is not open."""
        assert self.state == "open", f"{self.description}: {self.state}, so the program cannot send"
        self._program.sendall(data)
        self._harness.loop.settle()

    def end(self) -> None:
        """The program sends no more."""
        self._program.shutdown(socket.SHUT_WR)
        self._harness.loop.settle()

    def close(self) -> None:
        """The program closes its socket."""
        self._program.close()
        self._harness.loop.settle()

    # The provider's side: a FlowBackend

    def claim(self) -> None:
        """The provider keeps the flow."""
        if self.state == "held":
            self.state = "claimed"
            self._harness.transcript.decided("claim")

    def open(self, local: Endpoint | None) -> asyncio.Future[None]:
        """The program's connect() completes."""
        self.state = "open"
        self._harness.transcript.decided("open")
        return _done(self._harness.loop, None)

    def attach(self) -> asyncio.Future[socket.socket | None]:
        """The program's side as a socket."""
        return _done(self._harness.loop, self._runtime.dup())

    def request_peer(self, remote: Endpoint) -> asyncio.Future[None]:
        """Datagrams are not played here."""
        raise FlowError(FlowErrorCode.INVALID_ARGUMENT, "the harness has TCP flows only")

    def relay(self, remote: socket.socket) -> asyncio.Future[RelayResult]:
        """Move the bytes both ways until both are done."""
        if self.state != "open":
            self.state = "open"
            self._harness.transcript.decided("open and relay")
        else:
            self._harness.transcript.decided("relay")
        return self._harness.loop.create_task(self._relay(remote.dup()), name="relay")

    async def _relay(self, remote: socket.socket) -> RelayResult:
        remote.setblocking(False)
        with remote:
            out, back = await asyncio.gather(_pump(self._runtime, remote), _pump(remote, self._runtime))
        self.finish(0)
        return RelayResult(back, out)

    def finish(self, code: int) -> None:
        """The flow is over."""
        if self.state not in ("closed", "refused"):
            self.state = "closed" if self.state == "open" else "refused"
            self.error = errno_for_code(code) if code else 0
            if self.state == "refused":
                self.error = self.error or errno.ECONNREFUSED
            self._harness.transcript.became(f"{self.state}{f' {errno.errorcode[self.error]}' if self.error else ''}")
        self._runtime.close()

    def drop(self) -> None:
        """The end of the test."""
        self._program.close()
        self._runtime.close()


class ProviderSide:
    """What a `TCPFlow` speaks to (a `FlowBackend`); `ProgramSide.close` is the program's, this one's the provider's."""

    def __init__(self, program: ProgramSide) -> None:
        self._program = program
        self.claim, self.open, self.attach = program.claim, program.open, program.attach
        self.request_peer, self.relay = program.request_peer, program.relay

    def close(self, error: int, direction: str, reason: str = "") -> None:
        """Close "both", "read" or "write"."""
        if direction == "both" or error:
            self._program.finish(error)


def _done(loop: asyncio.AbstractEventLoop, value: Any) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = loop.create_future()
    future.set_result(value)
    return future


async def _pump(source: socket.socket, sink: socket.socket) -> int:
    loop, count = asyncio.get_running_loop(), 0
    while data := await loop.sock_recv(source, CHUNK):
        await loop.sock_sendall(sink, data)
        count += len(data)
    sink.shutdown(socket.SHUT_WR)
    return count


def _drain(sock: socket.socket, into: bytearray) -> None:
    try:
        while data := sock.recv(CHUNK):
            into += data
    except (BlockingIOError, ConnectionResetError):
        pass
