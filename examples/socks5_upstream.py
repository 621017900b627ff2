"""An app proxy that sends every TCP flow through a SOCKS5 server (RFC 1928, RFC 1929), and lets nothing past it.

    netext run --provider examples/socks5_upstream.py --config server=192.0.2.1:1080 -- curl -sS https://www.example.org/

Configuration: `server`, and `credentials`, the name of a TOML file with `username` and `password` that only its owner
can read. They cannot be given on the command line, which every user of the machine can read.

The SOCKS server is asked for the host name where it is known, and resolves it again itself. (The program has resolved
it before, by the host's name servers.) UDP is refused. When the server cannot reach the destination, the program's
connect() fails with the errno of the cause.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import tomllib
from collections.abc import Mapping
from typing import Any

from network_extension import (
    AppProxyFlow,
    AppProxyProvider,
    ConfigurationError,
    Endpoint,
    FlowError,
    FlowErrorCode,
    TCPFlow,
)

VERSION, CONNECT, NO_AUTHENTICATION, PASSWORD = 5, 1, 0, 2
IPV4, NAME, IPV6 = 1, 3, 4
REPLIES = {  # RFC 1928 §6; servers report a timeout as "TTL expired"
    1: (FlowErrorCode.INTERNAL, "general failure"),
    2: (FlowErrorCode.REFUSED, "not allowed by its rules"),
    3: (FlowErrorCode.NETWORK_UNREACHABLE, "network unreachable"),
    4: (FlowErrorCode.HOST_UNREACHABLE, "host unreachable"),
    5: (FlowErrorCode.REFUSED, "connection refused"),
    6: (FlowErrorCode.TIMED_OUT, "timed out"),
    7: (FlowErrorCode.INTERNAL, "command not supported"),
    8: (FlowErrorCode.INTERNAL, "address type not supported"),
}


class SOCKS5Upstream(AppProxyProvider):
    """Reaches everything through the SOCKS server `server`."""

    async def start_proxy(self, options: Mapping[str, Any] | None) -> None:
        """Read the configuration."""
        self.server = Endpoint.parse(str(self.configuration.get("server", "")))
        path = self.configuration.get("credentials")
        self.credentials = read_credentials(path) if path else None

    async def handle_new_flow(self, flow: AppProxyFlow) -> bool:
        """Have the SOCKS server connect, and then leave the rest to the kernel."""
        if not isinstance(flow, TCPFlow):
            return False
        target = Endpoint(flow.remote_hostname or flow.remote_endpoint.host, flow.remote_endpoint.port)
        with await flow.connect(self.server.host, self.server.port) as upstream:
            await self.authenticate(upstream)
            await self.request(upstream, target)
            await flow.relay(upstream)
        return True

    async def authenticate(self, upstream: socket.socket) -> None:
        """Agree on a method, and give name and password if that is it (RFC 1928 §3, RFC 1929)."""
        methods = bytes([NO_AUTHENTICATION, PASSWORD] if self.credentials else [NO_AUTHENTICATION])
        await send(upstream, bytes([VERSION, len(methods)]) + methods)
        version, method = await receive(upstream, 2)
        if version != VERSION or method not in methods:
            raise FlowError(FlowErrorCode.REFUSED, f"SOCKS server {self.server} takes none of our ways to log in")
        if method == PASSWORD and self.credentials:
            name, password = self.credentials
            await send(upstream, bytes([1, len(name)]) + name + bytes([len(password)]) + password)
            if (await receive(upstream, 2))[1] != 0:
                raise FlowError(FlowErrorCode.REFUSED, f"SOCKS server {self.server} does not know name and password")

    async def request(self, upstream: socket.socket, target: Endpoint) -> None:
        """Ask for a connection, and read the answer to its last byte and no further (RFC 1928 §4, §6)."""
        await send(upstream, bytes([VERSION, CONNECT, 0]) + encode(target))
        _, reply, _, kind = await receive(upstream, 4)
        if reply:
            code, text = REPLIES.get(reply, (FlowErrorCode.INTERNAL, f"error {reply}"))
            raise FlowError(code, f"SOCKS server {self.server} to {target}: {text}")
        length = {IPV4: 4, IPV6: 16}.get(kind) or (await receive(upstream, 1))[0]
        await receive(upstream, length + 2)  # the address that the server connects from: of no use here


def encode(target: Endpoint) -> bytes:
    """A destination as SOCKS writes it (RFC 1928 §5)."""
    if target.address is not None:
        host = bytes([IPV4 if target.address.version == 4 else IPV6]) + target.address.packed
    else:
        name = target.host.encode("ascii")
        host = bytes([NAME, len(name)]) + name
    return host + target.port.to_bytes(2, "big")


async def send(sock: socket.socket, data: bytes) -> None:
    """Send all of it."""
    await asyncio.get_running_loop().sock_sendall(sock, data)


async def receive(sock: socket.socket, size: int) -> bytes:
    """Exactly `size` bytes. Raises FlowError if the server closes before."""
    data = b""
    while len(data) < size:
        part = await asyncio.get_running_loop().sock_recv(sock, size - len(data))
        if not part:
            raise FlowError(FlowErrorCode.PEER_RESET, "the SOCKS server closed the connection")
        data += part
    return data


def read_credentials(path: str) -> tuple[bytes, bytes]:
    """User name and password from a file that only its owner can read."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigurationError(f"credentials: {path} is open to other users; chmod 600 {path}")
        data = tomllib.load(file)
    name, password = str(data.get("username", "")).encode(), str(data.get("password", "")).encode()
    if not (0 < len(name) < 256 and 0 < len(password) < 256):  # RFC 1929 §2
        raise ConfigurationError(f"credentials: {path} needs a username and a password of 1 to 255 bytes")
    return name, password
