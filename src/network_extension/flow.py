"""Flows as a provider handles them (NEAppProxyFlow, reference §2.11, §3.4): what TCP and UDP have in common.

    program: connect() ── new flow ──▶ handle_new_flow(flow)
                                         flow.connect()      claims it; a socket to the far side, from the
                                         host's network
             connect() returns ◀──────── flow.open()
             bytes ◀───────────────────▶ flow.relay(remote)  in the kernel, or flow.read() / flow.write() in
             Python FIN, RST, errno ◀────────── flow.close(error)

A flow speaks to the world through a `FlowBackend`, so that the same classes work over any stage's datapath.
"""

from __future__ import annotations

import asyncio
import socket
from typing import ClassVar, NamedTuple, Protocol

from .connecting import connect_stream
from .endpoint import Endpoint
from .errors import FlowError, FlowErrorCode
from .metadata import FlowMetadata

FlowFailure = BaseException | int | None
"""What may be given as an error: a FlowError, an OSError (by its errno), a FlowErrorCode, None for "no
error".
"""


class RelayResult(NamedTuple):
    """How a relay ended: the bytes each way, and the error that cut it short, if any."""

    bytes_in: int
    """From the far side to the program."""
    bytes_out: int
    """From the program to the far side."""
    error: FlowErrorCode | None = None
    reason: str = ""


class FlowBackend(Protocol):
    """One flow's way to its datapath. Futures fail with FlowError; none of the plain calls raises or
    waits.
    """

    def claim(self) -> None:
        """The provider keeps the flow."""

    def open(self, local: Endpoint | None) -> asyncio.Future[None]:
        """Let the program's connect() complete."""

    def attach(self) -> asyncio.Future[socket.socket | None]:
        """The program's side as a non-blocking socket; for UDP None, the sockets come by
        `UDPFlow._add_peer`.
        """

    def request_peer(self, remote: Endpoint) -> asyncio.Future[None]:
        """For UDP: a socket for a remote endpoint that the program has not sent to, by
        `UDPFlow._add_peer`.
        """

    def relay(self, remote: socket.socket) -> asyncio.Future[RelayResult]:
        """Move bytes between the program and `remote` until both are done. The caller may close `remote` at
        once.
        """

    def close(self, error: int, direction: str, reason: str = "") -> None:
        """Close "both", "read" or "write" with a FlowErrorCode, 0 for none; `reason` is for the log."""


class AppProxyFlow:
    """A flow of a program. Made by the runtime; a provider gets it in `handle_new_flow`."""

    __slots__ = (
        "_backend",
        "_claimed",
        "_closed",
        "_connecting",
        "_failure",
        "_opened",
        "_relaying",
        "id",
        "is_bound",
        "local_endpoint",
        "metadata",
        "network_interface",
        "remote_endpoint",
        "remote_hostname",
    )

    protocol: ClassVar[str] = ""
    """ "tcp" or "udp"."""

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
        self.id = flow_id
        """Names the flow in logs and messages."""
        self.local_endpoint = local_endpoint
        """The program's end."""
        self.remote_endpoint = remote_endpoint
        """Where the program wants to; an address. For UDP the first destination."""
        self.remote_hostname = remote_hostname
        """The name by which the program found the address, if that is known."""
        self.metadata = metadata or FlowMetadata()
        self.network_interface = network_interface
        """The interface that `connect` uses; set it to send through another."""
        self.is_bound = network_interface is not None
        """Whether the program bound its socket to that interface, which is to be honoured."""
        self._backend = backend
        self._claimed = False
        self._opened = False
        self._closed = False  # by the provider: nothing more may be asked for
        self._relaying = False
        self._connecting: asyncio.Task[object] | None = None  # waits in `connect`
        self._failure: FlowError | None = None  # set when the datapath has ended the flow

    @property
    def is_open(self) -> bool:
        """Whether the program's connect() has completed, and the flow has not ended."""
        return self._opened and not self._closed and self._failure is None

    async def open(self, local_endpoint: Endpoint | None = None) -> None:
        """Let the program's connect() complete; from now on data can be read and written.

        `local_endpoint` becomes the program's own address, unless it has chosen one. Raises FlowError if the
        program has given up meanwhile.
        """
        self._check_alive()
        if not self._opened:
            self._claim()
            await self._backend.open(local_endpoint)
            self._opened = True

    async def connect(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        interface: str | None = None,
        local_address: str | None = None,
        timeout: float | None = None,
    ) -> socket.socket:
        """Claim the flow and reach the far side from the host's network: a non-blocking socket.

        By default that is where the program wants to; `host` may be an address or a name, `timeout` is in
        seconds. Raises FlowError with the cause; letting it out of `handle_new_flow` gives the program that
        errno.
        """
        self._check_alive()
        self._claim()
        work = self._reach(
            host or self.remote_endpoint.host,
            port or self.remote_endpoint.port,
            interface or self.network_interface,
            local_address,
            redirected=host is not None or port is not None,
        )
        self._connecting = asyncio.current_task()
        try:
            async with asyncio.timeout(timeout):
                return await work
        except TimeoutError:
            target = Endpoint(host or self.remote_endpoint.host, port or self.remote_endpoint.port)
            raise FlowError(FlowErrorCode.TIMED_OUT, f"connect to {target}: not within {timeout} s") from None
        except asyncio.CancelledError:
            if self._failure is None or self._connecting is None or self._connecting.uncancel():
                raise
            raise self._failure from None
        finally:
            self._connecting = None

    async def _reach(
        self, host: str, port: int, interface: str | None, local_address: str | None, *, redirected: bool
    ) -> socket.socket:
        return await connect_stream(host, port, interface=interface, local_address=local_address)

    async def relay(self, remote: socket.socket) -> RelayResult:
        """Hand the flow and a connected socket to the runtime, which moves the bytes in the kernel until both
        are done.

        Opens the flow if it is not open. `remote` is closed here; what was read from it or from the flow
        before is not repeated, so pass it on first. A stream that breaks is no exception: see
        `RelayResult.error`. Raises FlowError if the flow ended before it began.
        """
        self._check_alive()
        self._check_remote(remote)
        self._claim()
        done = self._backend.relay(remote)
        self._relaying = True
        remote.close()
        self._release()
        try:
            return await done
        except asyncio.CancelledError:
            self.close(FlowErrorCode.ABORTED)
            raise

    def close_read(self, error: FlowFailure = None) -> None:
        """Read no more from the program; with an error the program's connection breaks by it."""
        self._close(error, "read")

    def close_write(self, error: FlowFailure = None) -> None:
        """Write no more to the program, which sees an end of file, or the error."""
        self._close(error, "write")

    def close(self, error: FlowFailure = None) -> None:
        """Close both ways. Before `open` the program's connect() fails with the error's errno (ECONNREFUSED
        for none).
        """
        if not self._closed:
            self._close(error, "both")
            self._closed = True
            self._release()

    def _close(self, error: FlowFailure, direction: str) -> None:
        if not self._closed and self._failure is None:
            self._claimed = True
            reason = str(error) if isinstance(error, BaseException) else ""
            self._backend.close(failure_code(error), direction, reason)

    def _claim(self) -> None:
        if not self._claimed:
            self._claimed = True
            self._backend.claim()

    def _check_alive(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed or self._relaying:
            what = "closed" if self._closed else "handed to relay()"
            raise FlowError(FlowErrorCode.NOT_CONNECTED, f"flow {self.id} has been {what}")

    def _check_open(self) -> None:
        self._check_alive()
        if not self._opened:
            text = f"flow {self.id} is not open; call flow.open() first"
            raise FlowError(FlowErrorCode.NOT_CONNECTED, text)

    def _check_remote(self, remote: socket.socket) -> None:
        """That the kernel can move bytes from and to it: no TLS socket, no transport, of the flow's kind."""
        kind = socket.SOCK_STREAM if self.protocol == "tcp" else socket.SOCK_DGRAM
        plain = isinstance(remote, socket.socket) and not hasattr(remote, "do_handshake")
        if not plain or remote.fileno() < 0 or remote.type != kind:
            raise FlowError(
                FlowErrorCode.INVALID_ARGUMENT,
                f"relay of a {self.protocol} flow needs an open plain {kind.name} socket, not {remote!r:.200}",
            )

    def _release(self) -> None:
        """Let go of the sockets of the program's side."""

    def _end(self, failure: FlowError) -> None:
        """The datapath has ended the flow: what waits fails, what comes later fails as well."""
        self._failure = failure
        if self._connecting is not None:  # nobody needs the far side any more
            self._connecting.cancel()
        self._release()

    def __repr__(self) -> str:
        state = "ended" if self._failure else "closed" if self._closed else "open" if self._opened else "not open"
        target = self.remote_hostname or self.remote_endpoint.host
        return f"<{type(self).__name__} {self.id} to {Endpoint(target, self.remote_endpoint.port)}, {state}>"


def failure_code(error: FlowFailure) -> int:
    """The number for the wire: 0 for no error, else a FlowErrorCode."""
    if error is None:
        return 0
    if isinstance(error, BaseException):
        return FlowError.from_exception(error).code
    return error if type(error) is FlowErrorCode else FlowError(int(error)).code if error else 0
