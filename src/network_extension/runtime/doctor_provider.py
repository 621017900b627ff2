"""The provider of `netext doctor`: claims every flow, loopback ones too, and has it relayed."""

from __future__ import annotations

from ..flow import AppProxyFlow
from ..network_settings import TransparentProxyNetworkSettings
from ..rules import NetworkRule
from ..transparent_proxy import TransparentProxyProvider


class Doctor(TransparentProxyProvider):
    """Is asked about everything."""

    async def start_proxy(self, options: object) -> None:
        """Without a network a rule stands for everything except loopback, which has to be named."""
        rules = [
            NetworkRule.remote_and_local(direction="outbound"),
            NetworkRule.destination_network("127.0.0.0/8"),
            NetworkRule.destination_network("::1/128"),
        ]
        await self.set_tunnel_network_settings(TransparentProxyNetworkSettings(rules))

    async def handle_new_flow(self, flow: AppProxyFlow) -> bool:
        """Claim it."""
        remote = await flow.connect()
        await flow.open()
        await flow.relay(remote)
        return True
