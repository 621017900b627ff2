r"""A caching HTTP proxy on top of a library: h11 (`pip install h11`) knows HTTP, this file knows what may be kept.

    netext run --provider examples/caching_proxy.py --config ports=[8000] \
        -- sh -c 'curl -sSi http://192.0.2.1:8000/; curl -sSi http://192.0.2.1:8000/'

Responses to GET are kept in memory, as long as their Cache-Control says (`max-age`; never with `no-store`, `no-cache`
or `private`), and at most `size` bytes of them (16 MiB), the least recently used going first. Each response tells in
`X-Cache` whether it was a HIT or a MISS. Requests that ask for `no-cache`, carry credentials or ask for a part go to
the server, as do all other methods. The rules are those of RFC 9111, without revalidation: what is too old is fetched.

A server is contacted when it is needed, so what is kept is there while the server is not. A server that cannot be
reached is therefore a "502 Bad Gateway" here, and no error of connect().
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import h11

from network_extension import (
    AppProxyFlow,
    FlowError,
    NetworkRule,
    TCPFlow,
    TransparentProxyNetworkSettings,
    TransparentProxyProvider,
)

Headers = list[tuple[bytes, bytes]]
Key = tuple[str, int, bytes, bytes]
HOP_BY_HOP = {b"connection", b"keep-alive", b"upgrade", b"http2-settings", b"expect"}
NOT_FROM_CACHE = {b"authorization", b"cookie", b"range"}
NOT_INTO_CACHE = {b"set-cookie", b"vary"}
SAFE = {b"GET", b"HEAD", b"OPTIONS", b"TRACE"}


class CachingProxy(TransparentProxyProvider):
    """Answers from memory what it has fetched before."""

    async def start_proxy(self, options: Mapping[str, Any] | None) -> None:
        """Make the store, and ask for TCP flows to the ports of web servers."""
        self.store = Store(int(self.configuration.get("size", 16 << 20)))
        rules = [
            NetworkRule.destination_network(network, protocol="tcp", port=port)
            for network in ("0.0.0.0", "::", "127.0.0.0/8", "::1")  # the first two are everything except loopback
            for port in self.configuration.get("ports", [80])
        ]
        await self.set_tunnel_network_settings(TransparentProxyNetworkSettings(rules))

    async def handle_new_flow(self, flow: AppProxyFlow) -> bool:
        """One connection of a program: requests and their responses, one after the other."""
        assert isinstance(flow, TCPFlow)  # the rules name nothing else
        await flow.open()
        program = Side(h11.SERVER, flow.read, flow.write)
        while await self.serve_request(flow, program):
            program.http.start_next_cycle()
        flow.close()
        return True

    async def serve_request(self, flow: TCPFlow, program: Side) -> bool:
        """Answer one request; whether there can be another."""
        request = await program.next_event()
        if not isinstance(request, h11.Request):
            return False  # the program has closed the connection
        headers = dict(request.headers)
        key = (*flow.remote_endpoint, headers.get(b"host", b""), request.target)
        if request.method not in SAFE:
            self.store.forget(key)  # RFC 9111 §4.4
        cacheable = request.method == b"GET" and not NOT_FROM_CACHE & headers.keys()
        unwanted = cache_control(request.headers).keys() & {b"no-cache", b"no-store"}
        entry = self.store.get(key, time.monotonic()) if cacheable and not unwanted else None
        if entry is not None:
            await answer_from(entry, program)
        else:
            await self.fetch(flow, program, request, key if cacheable and b"no-store" not in unwanted else None)
        return program.http.our_state is program.http.their_state is h11.DONE

    async def fetch(self, flow: TCPFlow, program: Side, request: h11.Request, key: Key | None) -> None:
        """Have the server answer, and keep the answer under `key` if it may be kept."""
        try:
            remote = await flow.connect()
        except FlowError as error:
            await answer_bad_gateway(program, error)
            return
        with remote:
            loop = asyncio.get_running_loop()
            server = Side(h11.CLIENT, partial(loop.sock_recv, remote, 65536), partial(loop.sock_sendall, remote))
            await pass_request(request, program, server, str(flow.remote_endpoint))
            await self.pass_response(program, server, key)

    async def pass_response(self, program: Side, server: Side, key: Key | None) -> None:
        """Pass the response on as it comes, and keep a copy."""
        while isinstance(event := await server.next_event(), h11.InformationalResponse):
            pass
        assert isinstance(event, h11.Response)
        status, reason = event.status_code, event.reason
        headers: Headers = [(name, value) for name, value in event.headers if name not in HOP_BY_HOP]
        await program.send(h11.Response(status_code=status, headers=[*headers, (b"x-cache", b"MISS")], reason=reason))
        lifetime = freshness(event) if key else 0
        body = bytearray()
        while isinstance(event := await server.next_event(), h11.Data):
            if lifetime and len(body) <= self.store.largest:
                body += event.data
            await program.send(event)
        await program.send(h11.EndOfMessage())
        if key and lifetime:
            self.store.put(key, Entry(headers, bytes(body), time.monotonic(), lifetime))


async def pass_request(request: h11.Request, program: Side, server: Side, host: str) -> None:
    """Send a request to the server, on a connection for this one only."""
    if program.http.they_are_waiting_for_100_continue:
        await program.send(h11.InformationalResponse(status_code=100, headers=[]))
    headers: Headers = [(name, value) for name, value in request.headers if name not in HOP_BY_HOP]
    headers.append((b"connection", b"close"))
    if not any(name == b"host" for name, _ in headers):  # HTTP/1.0
        headers.append((b"host", host.encode()))
    await server.send(h11.Request(method=request.method, target=request.target, headers=headers))
    while isinstance(event := await program.next_event(), h11.Data):
        await server.send(event)
    await server.send(h11.EndOfMessage())


async def answer_from(entry: Entry, program: Side) -> None:
    """Answer from memory."""
    while isinstance(await program.next_event(), h11.Data):
        pass  # a body, which a GET has no use for
    headers = [*entry.headers, (b"age", str(entry.age(time.monotonic())).encode()), (b"x-cache", b"HIT")]
    await program.send(h11.Response(status_code=200, headers=headers, reason=b"OK"))
    await program.send(h11.Data(data=entry.body))
    await program.send(h11.EndOfMessage())


async def answer_bad_gateway(program: Side, error: FlowError) -> None:
    """Say that the server cannot be reached."""
    headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
    await program.send(h11.Response(status_code=502, headers=headers, reason=b"Bad Gateway"))
    await program.send(h11.Data(data=f"{error}\n".encode()))
    await program.send(h11.EndOfMessage())


class Entry(NamedTuple):
    """A response that is kept; times are in seconds."""

    headers: Headers
    body: bytes
    stored_at: float
    lifetime: int

    def age(self, now: float) -> int:
        """How long it has been here."""
        return int(now - self.stored_at)

    @property
    def size(self) -> int:
        """Roughly, in bytes."""
        return len(self.body) + sum(len(name) + len(value) for name, value in self.headers) + 200


class Store:
    """Responses, at most `limit` bytes of them."""

    def __init__(self, limit: int) -> None:
        self.limit, self.largest, self.size = limit, limit // 4, 0
        self._entries: OrderedDict[Key, Entry] = OrderedDict()

    def get(self, key: Key, now: float) -> Entry | None:
        """What is kept under a key and still fresh."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now - entry.stored_at >= entry.lifetime:
            self.forget(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def put(self, key: Key, entry: Entry) -> None:
        """Keep a response, unless it is too large, and forget those that were not used for longest."""
        self.forget(key)
        if entry.size > self.largest:
            return
        self._entries[key] = entry
        self.size += entry.size
        while self.size > self.limit:
            self.forget(next(iter(self._entries)))

    def forget(self, key: Key) -> None:
        """Keep it no longer."""
        if (entry := self._entries.pop(key, None)) is not None:
            self.size -= entry.size


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


def freshness(response: h11.Response) -> int:
    """For how many seconds a response may be given again (RFC 9111 §4.2); 0 if it must not be kept."""
    headers = dict(response.headers)
    control = cache_control(response.headers)
    if response.status_code != 200 or NOT_INTO_CACHE & headers.keys():
        return 0
    if control.keys() & {b"no-store", b"no-cache", b"private"}:
        return 0
    return max(0, number(control.get(b"max-age")) - number(headers.get(b"age")))


def cache_control(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The directives of Cache-Control (RFC 9111 §5.2), in lower case; there may be several such headers."""
    parts = b",".join(value for name, value in headers if name == b"cache-control").lower().split(b",")
    return {name.strip(): value.strip(b' "') for name, _, value in (part.partition(b"=") for part in parts)}


def number(text: bytes | None) -> int:
    """A number of seconds; 0 if it is none."""
    return int(text) if text and text.isdigit() else 0
