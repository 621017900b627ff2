"""TCP flows (NEAppProxyTCPFlow): a stream each way, half-closed by either side on its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import ClassVar

from .endpoint import Endpoint
from .errors import FlowError, FlowErrorCode
from .flow import AppProxyFlow, FlowBackend, FlowFailure
from .metadata import FlowMetadata


class TCPFlow(AppProxyFlow):
    """A TCP connection of a program. `async for chunk in flow` reads it to the end."""

    __slots__ = ("_read_waiter", "_reading", "_sock", "_write_lock", "_write_waiter")

    protocol: ClassVar[str] = "tcp"

    def __init__(
        self,
        flow_id: int,
        backend: FlowBackend,
        local_endpoint: Endpoint,
        remote_endpoint: Endpoint,
        *,
        remote_hostname: str | None = None,
        metadata: FlowMetadata | None = None,
        network_interface: str | None = None,
    ) -> None:
        super().__init__(
            flow_id,
            backend,
            local_endpoint,
            remote_endpoint,
            remote_hostname=remote_hostname,
            metadata=metadata,
            network_interface=network_interface,
        )
        self._sock: socket.socket | None = None
        self._reading = False
        self._read_waiter: asyncio.Future[None] | None = None
        self._write_waiter: asyncio.Future[None] | None = None
        self._write_lock: asyncio.Lock | None = None

    async def read(self, max_bytes: int = 65536) -> bytes:
        """Up to `max_bytes` that the program sent, at least one; b"" when it has shut its side down.

        Raises FlowError: NOT_CONNECTED before `open`, READ_ALREADY_PENDING while another read waits,
        PEER_RESET.
        """
        self._check_open()
        if self._reading:
            raise FlowError(FlowErrorCode.READ_ALREADY_PENDING, f"flow {self.id}: another read waits already")
        self._reading = True
        try:
            sock = self._sock or await self._attach()
            while True:
                try:
                    return sock.recv(max_bytes)
                except BlockingIOError:
                    await self._readable(sock)
        except OSError as error:
            raise FlowError.from_exception(error, f"read from flow {self.id}") from None
        finally:
            self._reading = False

    async def read_exactly(self, size: int) -> bytes:
        """Exactly `size` bytes. Raises asyncio.IncompleteReadError, with what there was, if the stream ends
        before.
        """
        parts: list[bytes] = []
        missing = size
        while missing:
            part = await self.read(missing)
            if not part:
                raise asyncio.IncompleteReadError(b"".join(parts), size)
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes to the program; returns when the kernel has taken them all, which is the back-pressure.

        Concurrent writes go out one after the other. Raises FlowError: NOT_CONNECTED before `open`,
        PEER_RESET.
        """
        self._check_open()
        sock = self._sock or await self._attach()
        if self._write_lock is None:
            self._write_lock = asyncio.Lock()
        async with self._write_lock:
            try:
                await self._send_all(sock, memoryview(data))
            except OSError as error:
                raise FlowError.from_exception(error, f"write to flow {self.id}") from None

    def close_write(self, error: FlowFailure = None) -> None:
        """Write no more to the program, which sees an end of file, or the error."""
        if self._sock is not None and error is None and self.is_open:
            # Here, not only in the engine, so that it comes after the bytes that were written.
            with suppress(OSError):  # ENOTCONN: the program has gone, and the next read says so
                self._sock.shutdown(socket.SHUT_WR)
        super().close_write(error)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self.read():
            yield chunk

    async def _attach(self) -> socket.socket:
        sock = await self._backend.attach()
        self._check_open()
        assert sock is not None
        self._sock = sock
        return sock

    async def _send_all(self, sock: socket.socket, data: memoryview) -> None:
        data = data.cast("B")
        while data:
            self._check_open()
            try:
                data = data[sock.send(data) :]
            except BlockingIOError:
                await self._writable(sock)

    async def _readable(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        waiter = self._read_waiter = loop.create_future()
        fd = sock.fileno()
        loop.add_reader(fd, _finish, waiter)
        try:
            await waiter
        finally:
            self._read_waiter = None
            self._forget(loop.remove_reader, sock, fd)

    async def _writable(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        waiter = self._write_waiter = loop.create_future()
        fd = sock.fileno()
        loop.add_writer(fd, _finish, waiter)
        try:
            await waiter
        finally:
            self._write_waiter = None
            self._forget(loop.remove_writer, sock, fd)

    def _forget(self, remove: Callable[[int], bool], sock: socket.socket, fd: int) -> None:
        """Take a descriptor out of the loop, unless `_release` has (its number may be another's by now)."""
        if sock.fileno() == fd:
            remove(fd)

    def _release(self) -> None:
        waiters = (self._read_waiter, self._write_waiter)
        if self._sock is not None:
            fd = self._sock.fileno()
            if fd >= 0 and waiters != (None, None):
                loop = asyncio.get_running_loop()
                loop.remove_reader(fd)
                loop.remove_writer(fd)
            self._sock.close()
            self._sock = None
        for waiter in waiters:
            if waiter is not None and not waiter.done():
                failure = self._failure or FlowError(FlowErrorCode.ABORTED, f"flow {self.id} has been closed")
                waiter.set_exception(failure)


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
