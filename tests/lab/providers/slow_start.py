"""Takes a minute to start."""

import asyncio

from network_extension import TransparentProxyProvider


class SlowStart(TransparentProxyProvider):
    async def start_proxy(self, options):
        await asyncio.sleep(60)

    async def handle_new_flow(self, flow):
        return False
