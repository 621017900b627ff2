"""The smallest transparent proxy: takes every TCP flow and lets the kernel carry it to where the program wanted to go.

    netext run --provider examples/pass_through.py -- curl -sS http://192.0.2.1/

Begin here: put your own decision before `flow.connect()`, and return False for flows that are not yours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from network_extension import AppProxyFlow, NetworkRule, TransparentProxyNetworkSettings, TransparentProxyProvider


class PassThrough(TransparentProxyProvider):
    """Claims all TCP flows, and changes nothing."""

    async def start_proxy(self, options: Mapping[str, Any] | None) -> None:
        """Say which flows are wanted: outbound TCP."""
        rule = NetworkRule.remote_and_local(protocol="tcp", direction="outbound")
        await self.set_tunnel_network_settings(TransparentProxyNetworkSettings([rule]))

    async def handle_new_flow(self, flow: AppProxyFlow) -> bool:
        """One flow, in a task of its own."""
        remote = await flow.connect()  # a socket in the host's network; the flow is ours now
        await flow.open()  # the program's connect() completes
        await flow.relay(remote)  # the kernel moves the bytes
        return True
