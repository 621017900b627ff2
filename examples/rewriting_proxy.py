r"""A transparent proxy that changes what web servers say: it replaces one text by another in HTTP responses.

    netext run --provider examples/rewriting_proxy.py -- curl -sS http://127.0.0.1/
    netext run --provider examples/rewriting_proxy.py --config ports=[8000] --config find=cat --config replace=lion \
        -- curl -sS http://192.0.2.1:8000/

Configuration: `find` and `replace` are the two texts, of any lengths; `ports` lists the ports on which servers speak
plain HTTP (80 and 8080). Loopback is included, because a proxy only sees it if its rules say so.

Only text is changed, as it streams by, also where a match is cut in two by the network. The new length is not known
before the end, so a changed response loses its Content-Length and is sent in chunks; h11 (`pip install h11`) does that.
Requests ask for nothing that could not be read here: no compression, no ranges, no change of protocol (WebSocket).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import h11

from network_extension import (
    AppProxyFlow,
    ConfigurationError,
    NetworkRule,
    TCPFlow,
    TransparentProxyNetworkSettings,
    TransparentProxyProvider,
)

Headers = list[tuple[bytes, bytes]]
NOT_ASKED_FOR = {b"accept-encoding", b"range", b"if-range", b"upgrade", b"http2-settings", b"connection", b"expect"}
NOT_TRUE_ANY_MORE = {b"content-length", b"etag", b"accept-ranges"}
TEXT = (b"text/", b"application/json", b"application/javascript", b"application/xml", b"application/xhtml")


class RewritingProxy(TransparentProxyProvider):
    """Replaces `find` by `replace` in the text of HTTP responses."""

    async def start_proxy(self, options: Mapping[str, Any] | None) -> None:
        """Read the configuration, and ask for TCP flows to the ports of web servers."""
        self.find = str(self.configuration.get("find", "nginx")).encode()
        self.replace = str(self.configuration.get("replace", "network-extension")).encode()
        if not self.find:
            raise ConfigurationError("find: must not be empty")
        networks = ("0.0.0.0", "::", "127.0.0.0/8", "::1")  # the first two are everything except loopback
        rules = [
            NetworkRule.destination_network(network, protocol="tcp", port=port)
            for network in networks
            for port in self.configuration.get("ports", (80, 8080))
        ]
        await self.set_tunnel_network_settings(TransparentProxyNetworkSettings(rules))

    async def handle_new_flow(self, flow: AppProxyFlow) -> bool:
        """One connection: requests and their responses, one after the other."""
        assert isinstance(flow, TCPFlow)  # the rules name nothing else
        loop = asyncio.get_running_loop()
        with await flow.connect() as remote:
            await flow.open()
            program = Side(h11.SERVER, flow.read, flow.write)
            server = Side(h11.CLIENT, partial(loop.sock_recv, remote, 65536), partial(loop.sock_sendall, remote))
            while await self.exchange(program, server, str(flow.remote_endpoint)):
                pass
        flow.close()
        return True

    async def exchange(self, program: Side, server: Side, host: str) -> bool:
        """Pass one request on and its response back; whether both sides can go on to the next."""
        request = await program.next_event()
        if not isinstance(request, h11.Request):
            return False  # the program has closed the connection
        if program.http.they_are_waiting_for_100_continue:
            await program.send(h11.InformationalResponse(status_code=100, headers=[]))
        await server.send(plain_request(request, host))
        while isinstance(event := await program.next_event(), h11.Data):
            await server.send(event)
        await server.send(h11.EndOfMessage())
        await self.answer(program, server)
        if {program.http.our_state, server.http.our_state, server.http.their_state} != {h11.DONE}:
            return False
        program.http.start_next_cycle()
        server.http.start_next_cycle()
        return True

    async def answer(self, program: Side, server: Side) -> None:
        """Pass one response on, rewritten if it is text."""
        while isinstance(event := await server.next_event(), h11.InformationalResponse):
            pass
        assert isinstance(event, h11.Response)
        rewrite = is_plain_text(event)
        replacer = Replacer(self.find, self.replace)
        await program.send(without_length(event) if rewrite else event)
        while isinstance(event := await server.next_event(), h11.Data):
            await program.send(h11.Data(data=replacer.feed(bytes(event.data))) if rewrite else event)
        await program.send(h11.Data(data=replacer.rest()))
        await program.send(h11.EndOfMessage())


class Replacer:
    """Replaces in a stream: what may be the beginning of a match is kept back until the next piece."""

    def __init__(self, find: bytes, replace: bytes) -> None:
        self._find, self._replace, self._kept = find, replace, b""

    def feed(self, data: bytes) -> bytes:
        """The next piece, as far as it is certain."""
        *before, last = (self._kept + data).split(self._find)
        length = next(n for n in range(len(self._find) - 1, -1, -1) if last.endswith(self._find[:n]))
        sure, self._kept = last[: len(last) - length], last[len(last) - length :]
        return self._replace.join([*before, sure])

    def rest(self) -> bytes:
        """What was kept back, at the end of the stream."""
        kept, self._kept = self._kept, b""
        return kept


class Side:
    """HTTP to one side: h11, which never touches the network, and the two coroutines that do."""

    def __init__(
        self,
        role: type[h11.CLIENT | h11.SERVER],
        read: Callable[[], Awaitable[bytes]],
        write: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self.http, self._read, self._write = h11.Connection(role), read, write

    async def next_event(self) -> h11.Event:
        """The next event from there. Raises h11.RemoteProtocolError for what is not HTTP."""
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(await self._read())
        assert isinstance(event, h11.Event)
        return event

    async def send(self, event: h11.Event) -> None:
        """Send one event there."""
        if data := self.http.send(event):
            await self._write(data)


def plain_request(request: h11.Request, host: str) -> h11.Request:
    """The request, asking for a response that can be read here."""
    headers: Headers = [(name, value) for name, value in request.headers if name not in NOT_ASKED_FOR]
    headers.append((b"accept-encoding", b"identity"))
    if not any(name == b"host" for name, _ in headers):  # HTTP/1.0
        headers.append((b"host", host.encode()))
    return h11.Request(method=request.method, target=request.target, headers=headers)


def is_plain_text(response: h11.Response) -> bool:
    """Whether the body is text that is not compressed."""
    headers = dict(response.headers)
    return b"content-encoding" not in headers and headers.get(b"content-type", b"").lower().startswith(TEXT)


def without_length(response: h11.Response) -> h11.Response:
    """The response without what describes the bytes that the server sent; h11 then sends it in chunks."""
    headers: Headers = [(name, value) for name, value in response.headers if name not in NOT_TRUE_ANY_MORE]
    return h11.Response(status_code=response.status_code, headers=headers, reason=response.reason)
