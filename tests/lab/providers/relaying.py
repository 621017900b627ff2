"""Claims every flow, waits `delay` seconds, and lets the engine relay it."""

import asyncio

from network_extension import TransparentProxyProvider


class Relaying(TransparentProxyProvider):
    async def handle_new_flow(self, flow):
        await asyncio.sleep(self.configuration.get("delay", 0))
        remote = await flow.connect()
        await flow.open()
        await flow.relay(remote)
        return True
