"""Does something wrong, by the flow's port: 30000 + 10 * WHEN + WHAT. Other ports are relayed.

WHEN: 1 before anything, 2 after the claim, 3 after open and the first bytes, 4 after relay has begun, 5 with datagrams
in hand, 7 in a handler that is no coroutine. WHAT: 1 raises, 2 os._exit, 3 kills itself, 4 hangs the loop, 5 waits for
ever, 6 returns a wrong type. With the configuration `at=start` or `at=stop` and `what=…` it happens there.
"""

import asyncio
import os
import signal
import time

from network_extension import TransparentProxyProvider, UDPFlow


class Faulty(TransparentProxyProvider):
    async def start_proxy(self, options):
        if self.configuration.get("at") == "start":
            await self.wrong(self.configuration["what"])

    async def stop_proxy(self, reason):
        if self.configuration.get("at") == "stop":
            await self.wrong(self.configuration["what"])

    def handle_new_flow(self, flow):
        when, what = divmod(flow.remote_endpoint.port - 30000, 10)
        if when == 7:  # not even a coroutine
            return self.misbehave(what)
        return self.handle(flow, when, what)

    async def handle(self, flow, when, what):
        if when == 1:
            return await self.wrong(what)
        remote = await flow.connect()
        if when == 2:
            return await self.wrong(what)
        await flow.open()
        if when == 3:
            await flow.read()
            return await self.wrong(what)
        if when == 5 and isinstance(flow, UDPFlow):
            await flow.read_datagrams()
            return await self.wrong(what)
        if when == 4:
            self.spawn(self.later(what))
        await flow.relay(remote)
        return True

    async def later(self, what):
        await asyncio.sleep(0.1)
        await self.wrong(what)

    async def wrong(self, what):
        if what == 5:
            await asyncio.sleep(1000)
        return self.misbehave(what)

    def misbehave(self, what):
        if what == 1:
            raise RuntimeError("as told")
        if what == 2:
            os._exit(3)
        if what == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if what == 4:
            time.sleep(1000)  # noqa: TID251 -- this is the fault
        return "neither True nor False"
