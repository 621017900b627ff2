"""The relay: what the gateway gets from it, and what it never gets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp
from starlette.applications import Starlette
from starlette.routing import Route

from network_extension.urlfilter import oblivious_http as oh
from network_extension.urlfilter.oblivious_http import chunked, gateway
from network_extension.urlfilter.oblivious_http.relay import Relay
from network_extension.urlfilter.oblivious_http.targets import call_application
from network_extension.urlfilter.remote_answers import LARGEST_ANSWER

SEALED = b"sealed bytes"


class FakeGateway:
    """Answers all with the same bytes; keeps heads and bodies."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        length = next(int(line[15:]) for line in head.lower().splitlines() if line.startswith(b"content-length:"))
        self.bodies.append(await reader.readexactly(length))
        writer.write(self._answer)
        writer.close()
        await writer.wait_closed()


def http(body: bytes, *fields: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


def relayed(
    answer: bytes, kind: str = "message/ohttp-req", body: bytes = SEALED, *fields: tuple[str, str], path: str = "/"
) -> tuple[oh.BinaryResponse, FakeGateway]:
    fake = FakeGateway(answer)

    async def work() -> oh.BinaryResponse:
        server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            relay = Relay(f"http://127.0.0.1:{port}/gateway", lambda: session)
            app = Starlette(routes=[Route("/{path:path}", relay.exchange, methods=["POST"])])
            request = oh.BinaryRequest("POST", "https", "relay", path, (("content-type", kind), *fields), body)
            return await call_application(app, request)

    return asyncio.run(work()), fake


IDENTIFYING = (
    ("cookie", "id=1"), ("authorization", "Bearer t"), ("user-agent", "device/1 iOS/26.4"), ("user-identifier", "u-1"),
    ("x-forwarded-for", "192.0.2.7"), ("forwarded", "for=192.0.2.7"), ("accept-language", "mi"), ("referer", "https://r"),
    ("via", "1.1 192.0.2.7"), ("date", "Mon, 01 Jan 2029 00:00:00 GMT"),
)  # fmt: skip


def test_the_gateway_sees_the_sealed_bytes_and_nothing_of_the_client() -> None:
    answer, fake = relayed(
        http(b"answer", "Content-Type: message/ohttp-res", "Set-Cookie: id=1", "Server: g"),
        "message/ohttp-req; device=7", SEALED, *IDENTIFYING, path="/user-1?device=7",
    )  # fmt: skip
    assert fake.bodies == [SEALED]
    first, *lines = fake.heads[0].decode().splitlines()
    assert first == "POST /gateway HTTP/1.1"
    seen = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines if line}
    assert seen.keys() == {"host", "accept", "accept-encoding", "content-length", "content-type", "user-agent"}
    assert seen["content-type"] == "message/ohttp-req" and "aiohttp" in seen["user-agent"]
    assert (answer.status, answer.content) == (200, b"answer")
    assert answer.headers == (("content-type", "message/ohttp-res"), ("content-length", "6"))


def test_two_clients_look_the_same() -> None:
    def head(*fields: tuple[str, str]) -> list[bytes]:
        lines = relayed(http(b""), "message/ohttp-req", SEALED, *fields)[1].heads[0].splitlines()
        return [line for line in lines if not line.startswith(b"Host:")]  # the gateway's port

    assert head(*IDENTIFYING) == head()


def test_a_large_answer_is_whole() -> None:
    body = bytes(range(256)) * 12_000
    assert relayed(http(body))[0].content == body


def test_messages_in_pieces_pass() -> None:
    answer, fake = relayed(http(b"answer", f"Content-Type: {chunked.RESPONSE_TYPE}"), chunked.REQUEST_TYPE)
    assert f"content-type: {chunked.REQUEST_TYPE}" in fake.heads[0].decode().lower()
    assert dict(answer.headers)["content-type"] == chunked.RESPONSE_TYPE


def test_what_the_gateway_refuses_reaches_the_client() -> None:
    """The key's problem, so that the client fetches the keys again, and when to come back."""
    problem = http(b'{"type": "x"}', "Content-Type: application/problem+json", status="400 Bad Request")
    answer, _ = relayed(problem)
    assert answer.status == 400 and dict(answer.headers)["content-type"] == "application/problem+json"
    answer, _ = relayed(http(b"later", "Retry-After: 2", status="503 Service Unavailable"))
    assert answer.status == 503 and dict(answer.headers)["retry-after"] == "2"


def test_refusals_of_its_own() -> None:
    answer, fake = relayed(http(b""), "text/plain")
    assert answer.status == 415 and not fake.heads
    answer, fake = relayed(http(b""), body=bytes(gateway.LARGEST_BODY + 1))
    assert answer.status == 413 and not fake.heads
    assert relayed(http(bytes(LARGEST_ANSWER + 1)))[0].status == 502
    assert relayed(b"no HTTP\r\n\r\n")[0].status == 502


def test_redirects_are_not_followed() -> None:
    """They would lead the relay elsewhere."""
    answer, fake = relayed(http(b"", "Location: http://127.0.0.1:9/", status="307 Temporary Redirect"))
    assert answer.status == 307 and len(fake.heads) == 1 and "location" not in dict(answer.headers)


def _with_session(url: str, session: Callable[[], aiohttp.ClientSession]) -> Starlette:
    return Starlette(routes=[Route("/", Relay(url, session).exchange, methods=["POST"])])


def test_a_gateway_that_is_gone() -> None:
    async def work() -> oh.BinaryResponse:
        server = await asyncio.start_server(FakeGateway(b"").serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        async with aiohttp.ClientSession() as session:
            app = _with_session(f"http://127.0.0.1:{port}/", lambda: session)
            fields = (("content-type", "message/ohttp-req"),)
            return await call_application(app, oh.BinaryRequest("POST", "https", "relay", "/", fields, SEALED))

    assert asyncio.run(work()).status == 502
