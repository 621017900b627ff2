"""Plays every peer of a UDP flow itself. Ports from 2000 on are refused with FlowErrorCode port - 2000."""

from network_extension import AppProxyProvider, Endpoint, FlowError, FlowErrorCode, UDPFlow


class Answering(AppProxyProvider):
    async def handle_new_flow(self, flow):
        if not isinstance(flow, UDPFlow):
            return False
        if flow.remote_endpoint.port >= 2000:
            flow.close(FlowErrorCode(flow.remote_endpoint.port - 2000))
            return True
        await flow.open()
        while datagrams := await flow.read_datagrams():
            for data, peer in datagrams:
                try:
                    await flow.write_datagrams([answer(data.decode(), peer)])
                except FlowError as error:
                    await flow.write_datagrams([(f"{error.code.name} {error}".encode(), peer)])
        flow.close()
        return True


def answer(text, peer):
    """What goes back: by size, from another endpoint, or with the peer's name."""
    word, _, rest = text.partition(" ")
    if word == "size":
        return bytes(int(rest)), peer
    if word == "from":
        host, port = rest.split()
        return b"a word", Endpoint(host, int(port))
    return f"{peer.host} {peer.port}: {text}".encode(), peer
