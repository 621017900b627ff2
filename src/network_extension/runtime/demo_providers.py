"""The two providers of `netext demo`. Providers as anybody would write them; `examples/` has fuller ones."""

from __future__ import annotations

import asyncio
import socket

from ..app_proxy import AppProxyProvider
from ..flow import AppProxyFlow
from ..network_settings import TransparentProxyNetworkSettings
from ..rules import NetworkRule
from ..tcp_flow import TCPFlow
from ..transparent_proxy import TransparentProxyProvider

PLAIN, REWRITTEN = b"plain old text", b"REWRITTEN TEXT"


class Rewriter(TransparentProxyProvider):
    """Takes plain HTTP, passes requests on, and changes some words of the responses (by as many others)."""

    async def start_proxy(self, options: object) -> None:
        """Ask for TCP flows to port 80; everything else never gets here."""
        rule = NetworkRule.destination_network("0.0.0.0", port=80, protocol="tcp")
        await self.set_tunnel_network_settings(TransparentProxyNetworkSettings([rule]))

    async def handle_new_flow(self, flow: AppProxyFlow) -> bool:
        """Carry the bytes both ways."""
        assert isinstance(flow, TCPFlow)  # the rule asks for nothing else
        with await flow.connect() as remote:
            await flow.open()
            upwards = self.spawn(self._requests(flow, remote))
            await self._responses(flow, remote)
            upwards.cancel()
        flow.close()
        return True

    async def _requests(self, flow: TCPFlow, remote: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while data := await flow.read():
            await loop.sock_sendall(remote, data)

    async def _responses(self, flow: TCPFlow, remote: socket.socket) -> None:
        loop, waiting = asyncio.get_running_loop(), b""
        while data := await loop.sock_recv(remote, 65536):
            waiting = (waiting + data).replace(PLAIN, REWRITTEN)
            keep = len(PLAIN) - 1  # a match may be cut in two
            await flow.write(waiting[:-keep])
            waiting = waiting[-keep:]
        await flow.write(waiting)


class Guard(AppProxyProvider):
    """Lets flows to port 80 and 443 through, relayed by the kernel, and refuses all others."""

    async def handle_new_flow(self, flow: AppProxyFlow) -> bool:
        """An app proxy's False refuses the flow: the program sees ECONNREFUSED."""
        if flow.remote_endpoint.port not in (80, 443):
            return False
        remote = await flow.connect()
        await flow.open()
        await flow.relay(remote)
        return True
