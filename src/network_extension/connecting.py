"""Sockets towards the far side of a flow: TCP connections by address or name, and UDP sockets.

asyncio's own `sock_connect` spends more time on looking at the address than the kernel on connecting; as
providers open thousands of connections a second, it is done by hand here.

Names that lead to several addresses are tried as RFC 8305 says: families in turn (§4), a new attempt every
250 ms or as soon as one fails (§5), the first to connect wins. Unlike there, both families are asked for in
one call.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence
from itertools import chain, zip_longest

from .endpoint import Endpoint, ip_address
from .errors import FlowError, FlowErrorCode

ATTEMPT_DELAY = 0.25  # RFC 8305 §5, "Connection Attempt Delay"
_STREAM = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
_DATAGRAM = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
_IP_BIND_ADDRESS_NO_PORT = 24  # <linux/in.h>


async def connect_stream(
    host: str, port: int, *, interface: str | None = None, local_address: str | None = None
) -> socket.socket:
    """A connected, non-blocking TCP socket to an address or a name. Raises FlowError."""
    if ip_address(host) is not None:
        return await _attempt(host, port, interface, local_address)
    hosts = await resolve(host, port, local_address)
    if len(hosts) == 1:
        return await _attempt(hosts[0], port, interface, local_address)
    return await _race(hosts, port, interface, local_address)


def datagram_socket(family: int, *, interface: str | None = None, local_address: str | None = None) -> socket.socket:
    """A non-blocking UDP socket, bound to a port of its own. Raises FlowError.

    Without IP_RECVERR, so that a datagram to one peer does not fail by what another peer answered; a relay sets it.
    """
    sock = _new_socket(family, _DATAGRAM, interface)
    try:
        _bind(sock, local_address or ("::" if family == socket.AF_INET6 else "0.0.0.0"))
    except BaseException:
        sock.close()
        raise
    return sock


async def resolve(host: str, port: int, local_address: str | None = None) -> list[str]:
    """The addresses of a name, families in turn; of the local address's family only, if one is given."""
    family = _family(local_address) if local_address else socket.AF_UNSPEC
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        text = getattr(error, "strerror", None) or error
        raise FlowError(FlowErrorCode.HOST_UNREACHABLE, f"resolve {host}: {text}") from None
    hosts = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    first = [item for item in hosts if (":" in item) == (":" in hosts[0])]
    second = [item for item in hosts if (":" in item) != (":" in hosts[0])]
    return [item for item in chain.from_iterable(zip_longest(first, second)) if item is not None]


async def _race(hosts: Sequence[str], port: int, interface: str | None, local_address: str | None) -> socket.socket:
    """RFC 8305 §5: staggered attempts; the first that connects wins, the last error is raised if none
    does.
    """
    loop = asyncio.get_running_loop()
    running: set[asyncio.Task[socket.socket]] = set()
    waiting, failure = list(hosts), FlowError(FlowErrorCode.HOST_UNREACHABLE)
    try:
        while waiting or running:
            if waiting:
                host = waiting.pop(0)
                work = _attempt(host, port, interface, local_address)
                running.add(loop.create_task(work, name=f"connect to {Endpoint(host, port)}"))
            delay = ATTEMPT_DELAY if waiting else None
            done, running = await asyncio.wait(running, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
            winner: socket.socket | None = None
            for task in done:
                error = task.exception()
                if isinstance(error, FlowError):
                    failure = error
                elif error is not None:
                    raise error
                elif winner is None:
                    winner = task.result()
                else:
                    task.result().close()
            if winner is not None:
                return winner
        raise failure
    finally:
        for task in running:
            task.cancel()
            task.add_done_callback(_close_loser)


def _close_loser(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _attempt(host: str, port: int, interface: str | None, local_address: str | None) -> socket.socket:
    sock = _new_socket(_family(host), _STREAM, interface)
    try:
        if local_address is not None:
            # so that a port is taken for each connection, not for each socket (Linux 4.2)
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            _bind(sock, local_address)
        status = sock.connect_ex((host, port))
        if status == errno.EINPROGRESS:
            # Over lo and veth the handshake is mostly over by now; asking again saves two epoll_ctl and a
            # loop turn.
            status = sock.connect_ex((host, port))
            if status == errno.EALREADY:
                status = await _connected(sock)
        if status:
            raise FlowError.from_errno(status, f"connect to {Endpoint(host, port)}")
    except BaseException:
        sock.close()
        raise
    return sock


async def _connected(sock: socket.socket) -> int:
    """Wait for the end of a connection attempt; its errno, 0 for success."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    fd = sock.fileno()
    loop.add_writer(fd, _finish, done)
    try:
        await done
    finally:
        loop.remove_writer(fd)
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def _finish(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


def _new_socket(family: int, kind: int, interface: str | None) -> socket.socket:
    try:
        sock = socket.socket(family, kind)
    except OSError as error:
        raise FlowError(FlowErrorCode.INTERNAL, f"socket: {error.strerror}") from None
    if interface is not None:
        try:
            # allowed to everybody for a socket that is not bound yet (Linux 5.7, c427bfec18f2)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        except OSError as error:
            sock.close()
            text = f"interface {interface}: {error.strerror}"
            raise FlowError(FlowErrorCode.INVALID_ARGUMENT, text) from None
    return sock


def _bind(sock: socket.socket, address: str) -> None:
    try:
        sock.bind((address, 0))
    except OSError as error:
        text = error.strerror or error
        raise FlowError(FlowErrorCode.INVALID_ARGUMENT, f"local address {address}: {text}") from None


def _family(host: str) -> int:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
