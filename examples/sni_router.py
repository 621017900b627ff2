"""A transparent proxy that routes TLS by server name: it reads the ClientHello, and nothing that is secret.

    netext run --provider examples/sni_router.py --config routes.toml -- curl -sS https://www.example.org/

Configuration, in routes.toml; `*.` stands for all names below a domain, a route to "" refuses:

    ports = [443]

    [routes]
    "www.example.org" = "192.0.2.10:8443"
    "*.example.net" = "[2001:db8::10]:443"
    "tracker.example.com" = ""

Names without a route, and what is not TLS, go to where the program wanted. The program's connect() completes before
its server name can be known, so a server that cannot be reached, or a refusal, breaks the connection afterwards. As in
TLS, the program has to speak first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from network_extension import (
    AppProxyFlow,
    Endpoint,
    FlowErrorCode,
    NetworkRule,
    NotTLSError,
    TCPFlow,
    TransparentProxyNetworkSettings,
    TransparentProxyProvider,
    read_client_hello,
)


class SNIRouter(TransparentProxyProvider):
    """Chooses the server by the name in the TLS handshake."""

    async def start_proxy(self, options: Mapping[str, Any] | None) -> None:
        """Read the routes, and ask for TCP flows to the ports of TLS."""
        routes = self.configuration.get("routes", {})
        self.routes = {name: Endpoint.parse(target) if target else None for name, target in routes.items()}
        rules = [
            NetworkRule.destination_network(network, protocol="tcp", port=port)
            for network in ("0.0.0.0", "::", "127.0.0.0/8", "::1")  # the first two are everything except loopback
            for port in self.configuration.get("ports", [443])
        ]
        await self.set_tunnel_network_settings(TransparentProxyNetworkSettings(rules))

    async def handle_new_flow(self, flow: AppProxyFlow) -> bool:
        """Read the hello, find the route, pass the hello on, and leave the rest to the kernel."""
        assert isinstance(flow, TCPFlow)  # the rules name nothing else
        await flow.open()
        name, hello = await server_name(flow)
        target = self.route(name, flow.remote_endpoint)
        if target is None:
            self.log(f"{name}: refused")
            flow.close(FlowErrorCode.REFUSED)
            return True
        self.log(f"{name or 'no server name'}: to {target}")
        remote = await flow.connect(target.host, target.port)
        await asyncio.get_running_loop().sock_sendall(remote, hello)
        await flow.relay(remote)
        return True

    def route(self, name: str | None, wanted: Endpoint) -> Endpoint | None:
        """Where a name leads to; None if it is refused."""
        if name is None:
            return wanted
        labels = name.split(".")
        patterns = [name, *("*." + ".".join(labels[n:]) for n in range(1, len(labels)))]
        found = next((pattern for pattern in patterns if pattern in self.routes), None)
        return self.routes[found] if found else wanted


async def server_name(flow: TCPFlow) -> tuple[str | None, bytes]:
    """The name that the program asks for, None if it gives none, and all bytes that were read to find out."""
    data = b""
    async for chunk in flow:
        data += chunk
        try:
            hello = read_client_hello(data)
        except NotTLSError:
            break
        if hello is not None:
            return hello.server_name, data
    return None, data
