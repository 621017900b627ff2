"""UDP flows (NEAppProxyUDPFlow): one flow is one socket of a program, with any number of peers."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Sequence
from typing import ClassVar

from .connecting import datagram_socket, resolve
from .endpoint import Endpoint, ip_address
from .errors import FlowError, FlowErrorCode
from .flow import AppProxyFlow, FlowBackend
from .metadata import FlowMetadata

Datagram = tuple[bytes, Endpoint]

MAX_PAYLOAD_V4 = 65507  # 65,535 less the headers of IPv4 (20) and UDP (8)
MAX_PAYLOAD_V6 = 65527  # the IPv6 header does not count (RFC 8200 §3)
READ_BATCH = 64


class UDPFlow(AppProxyFlow):
    """A UDP socket of a program. Each datagram is read and written with the remote endpoint that it belongs
    to.
    """

    __slots__ = ("_attached", "_eof", "_peers", "_reading", "_ready", "_waiter", "_writers")

    protocol: ClassVar[str] = "udp"

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
        self._attached = False
        self._eof = False
        self._reading = False
        self._peers: dict[Endpoint, socket.socket] = {}
        self._ready: deque[tuple[Endpoint, socket.socket]] = deque()  # peers that may have datagrams
        self._waiter: asyncio.Future[None] | None = None
        self._writers: set[asyncio.Future[None]] = set()

    async def read_datagrams(self) -> list[Datagram]:
        """What the program sent, each with the destination that it sent it to; [] when it has closed its
        socket.

        Raises FlowError: NOT_CONNECTED before `open`, READ_ALREADY_PENDING while another read waits.
        """
        self._check_open()
        if self._reading:
            raise FlowError(FlowErrorCode.READ_ALREADY_PENDING, f"flow {self.id}: another read waits already")
        self._reading = True
        try:
            await self._attach()
            while True:
                datagrams = self._take()
                if datagrams or self._eof:
                    return datagrams
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
        finally:
            self._reading = False
            self._waiter = None

    async def write_datagrams(self, datagrams: Sequence[Datagram]) -> None:
        """Send datagrams to the program, each as if it came from the endpoint beside it.

        Raises FlowError: NOT_CONNECTED before `open`; DATAGRAM_TOO_LARGE, which names size, limit and
        endpoint; INVALID_ARGUMENT for an endpoint that no datagram of this flow can come from, which it
        names. The datagrams before the one at fault are sent.
        """
        self._check_open()
        await self._attach()
        for data, source in datagrams:
            source = Endpoint(*source)
            self._check_source(source)
            check_size(len(data), source)
            peer = self._peers.get(source) or await self._request(source)
            await self._send(peer, data, source)

    async def _attach(self) -> None:
        if not self._attached:
            await self._backend.attach()
            self._check_open()
            self._attached = True

    async def _request(self, source: Endpoint) -> socket.socket:
        await self._backend.request_peer(source)
        self._check_open()
        return self._peers[source]

    def _check_source(self, source: Endpoint) -> None:
        address = ip_address(source.host)
        ours = ip_address(self.remote_endpoint.host)
        if address is None:
            reason = "is a name; datagrams come from addresses"
        elif ours is not None and address.version != ours.version:
            reason = f"is not of the flow's family, IPv{ours.version}"
        elif address.is_multicast or address.is_unspecified or source.host == "255.255.255.255":
            reason = "is no unicast address"
        elif not 0 < source.port <= 65535:
            reason = "needs a port from 1 to 65535"
        else:
            return
        raise FlowError(FlowErrorCode.INVALID_ARGUMENT, f"flow {self.id}: source endpoint {source} {reason}")

    async def _send(self, peer: socket.socket, data: bytes, source: Endpoint) -> None:
        while True:
            try:
                peer.send(data)
                return
            except BlockingIOError:
                await self._writable(peer)
            except ConnectionRefusedError:
                # The answer to an earlier datagram: the program closed its socket. UDP_EOF is on its way.
                return
            except OSError as error:
                if error.errno == errno.EMSGSIZE:
                    raise too_large(len(data), source) from None
                raise FlowError.from_exception(error, f"flow {self.id}: datagram from {source}") from None

    async def _writable(self, peer: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        fd = peer.fileno()
        loop.add_writer(fd, _finish, waiter)
        self._writers.add(waiter)
        try:
            await waiter
        finally:
            self._writers.discard(waiter)
            if peer.fileno() == fd:
                loop.remove_writer(fd)

    def _take(self) -> list[Datagram]:
        """Datagrams that are there; a peer that runs dry goes back to the loop."""
        datagrams: list[Datagram] = []
        while self._ready and len(datagrams) < READ_BATCH:
            endpoint, peer = self._ready[0]
            try:
                datagrams.append((peer.recv(65536), endpoint))
            except BlockingIOError:
                self._ready.popleft()
                asyncio.get_running_loop().add_reader(peer.fileno(), self._peer_readable, endpoint, peer)
            except OSError:
                continue  # a pending ICMP error, now taken off the socket; its datagrams come next
        return datagrams

    def _peer_readable(self, endpoint: Endpoint, peer: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(peer.fileno())
        self._ready.append((endpoint, peer))
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _add_peer(self, remote: Endpoint, sock: socket.socket) -> None:
        """The datapath's way to hand in a socket that carries the datagrams between the program and one
        remote.
        """
        if self._closed or self._relaying or self._failure is not None or remote in self._peers:
            sock.close()
            return
        self._peers[remote] = sock
        self._ready.append((remote, sock))
        self._wake()

    def _end_of_datagrams(self) -> None:
        """The datapath's way to say that the program closed its socket."""
        self._eof = True
        self._wake()

    async def _reach(
        self, host: str, port: int, interface: str | None, local_address: str | None, *, redirected: bool
    ) -> socket.socket:
        """A socket that is bound only, for any peer; one connected to the new place if the flow is
        redirected.
        """
        if redirected and ip_address(host) is None:
            host = (await resolve(host, port, local_address))[0]
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = datagram_socket(family, interface=interface, local_address=local_address)
        if redirected and (status := sock.connect_ex((host, port))):
            sock.close()
            raise FlowError.from_errno(status, f"connect to {Endpoint(host, port)}")
        return sock

    def _release(self) -> None:
        if self._peers:
            loop = asyncio.get_running_loop()
            for peer in self._peers.values():
                loop.remove_reader(peer.fileno())
                loop.remove_writer(peer.fileno())
                peer.close()
            self._peers.clear()
            self._ready.clear()
        for waiter in (self._waiter, *self._writers):
            if waiter is not None and not waiter.done():
                failure = self._failure or FlowError(FlowErrorCode.ABORTED, f"flow {self.id} has been closed")
                waiter.set_exception(failure)


def check_size(size: int, source: Endpoint) -> None:
    """Raises FlowError (DATAGRAM_TOO_LARGE) for more than a datagram of the endpoint's family can hold."""
    if size > (MAX_PAYLOAD_V6 if ":" in source.host else MAX_PAYLOAD_V4):
        raise too_large(size, source)


def too_large(size: int, source: Endpoint) -> FlowError:
    """The error that names size, limit and endpoint."""
    limit = MAX_PAYLOAD_V6 if ":" in source.host else MAX_PAYLOAD_V4
    text = f"datagram of {size} bytes from {source}: at most {limit} bytes fit"
    return FlowError(FlowErrorCode.DATAGRAM_TOO_LARGE, text)


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
