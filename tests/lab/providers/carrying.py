"""Claims every flow, and reads and writes each byte and datagram itself, as a rewriting proxy does."""

import asyncio
import socket
import struct

from network_extension import Endpoint, FlowError, FlowErrorCode, TransparentProxyProvider, UDPFlow

RESET = struct.pack("ii", 1, 0)


class Carrying(TransparentProxyProvider):
    async def handle_new_flow(self, flow):
        remote = await flow.connect()
        with remote:
            await flow.open()
            await (carry_datagrams if isinstance(flow, UDPFlow) else carry_stream)(flow, remote)
        return True


async def carry_stream(flow, remote):
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(send(flow, remote))
            group.create_task(receive(flow, remote))
    except* FlowError:  # the program's side broke: so does the other
        remote.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        flow.close(FlowErrorCode.PEER_RESET)
    except* OSError:
        flow.close(FlowErrorCode.PEER_RESET)
    else:
        flow.close()


async def send(flow, remote):
    loop = asyncio.get_running_loop()
    async for chunk in flow:
        await loop.sock_sendall(remote, chunk)
    remote.shutdown(socket.SHUT_WR)


async def receive(flow, remote):
    loop = asyncio.get_running_loop()
    while chunk := await loop.sock_recv(remote, 65536):
        await flow.write(chunk)
    flow.close_write()


async def carry_datagrams(flow, remote):
    loop = asyncio.get_running_loop()
    incoming = loop.create_task(receive_datagrams(flow, remote))
    try:
        while datagrams := await flow.read_datagrams():
            for data, destination in datagrams:
                try:
                    await loop.sock_sendto(remote, data, tuple(destination))
                except OSError:
                    continue
        flow.close()
    finally:
        incoming.cancel()


async def receive_datagrams(flow, remote):
    loop = asyncio.get_running_loop()
    while True:
        try:
            data, source = await loop.sock_recvfrom(remote, 65535)
        except OSError:
            continue
        await flow.write_datagrams([(data, Endpoint(source[0], source[1]))])
