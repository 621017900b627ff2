"""Plays every TCP server itself: tells the program what is known about its flow."""

import os

from network_extension import TCPFlow, TransparentProxyProvider


class Telling(TransparentProxyProvider):
    async def handle_new_flow(self, flow):
        if not isinstance(flow, TCPFlow):
            return False
        await flow.open()
        remote, process = flow.remote_endpoint, flow.metadata.process
        name = os.path.basename(process.arguments[0]) if process else "?"
        await flow.write(f"{flow.remote_hostname} {remote.host} {remote.port} {name}\n".encode())
        flow.close()
        return True
