"""Plays the servers of 127.0.0.1 itself."""

from network_extension import NetworkRule, TransparentProxyNetworkSettings, TransparentProxyProvider


class TellingLoopback(TransparentProxyProvider):
    async def start_proxy(self, options):
        rule = NetworkRule.destination_network("127.0.0.1", 32, "tcp")
        await self.set_tunnel_network_settings(TransparentProxyNetworkSettings([rule]))

    async def handle_new_flow(self, flow):
        await flow.open()
        remote = flow.remote_endpoint
        await flow.write(f"{flow.remote_hostname} {remote.host} {remote.port}\n".encode())
        flow.close()
        return True
