"""Where a gateway leads, and where it must not: targets in this process, and origins on the network."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from network_extension import ConfigurationError
from network_extension.urlfilter import oblivious_http as oh
from network_extension.urlfilter.oblivious_http.binary_http import LARGEST_CONTENT
from network_extension.urlfilter.oblivious_http.gateway import Gateway, Target
from network_extension.urlfilter.oblivious_http.targets import at_origin, call_application, in_process

KEYS = oh.GatewayKeys().renewed(0.0)
CONFIGURATION = oh.decode_list(KEYS.public_list)[0]


def get(path: str, authority: str = "a.example", *fields: tuple[str, str], method: str = "GET") -> oh.BinaryRequest:
    return oh.BinaryRequest(method, "https", authority, path, fields)


async def through(targets: dict[str, Target], request: oh.BinaryRequest) -> oh.BinaryResponse:
    """Sealed, opened by a gateway, answered, sealed and opened: the outer answer is 200 whatever the target does."""
    gateway = Gateway(lambda: KEYS, targets)
    outer = Starlette(routes=[Route("/", gateway.exchange, methods=["POST"])])
    sealed, client = oh.seal_request(CONFIGURATION, oh.encode_request(request), X25519PrivateKey.generate())
    fields = (("content-type", "message/ohttp-req"),)
    answer = await call_application(outer, oh.BinaryRequest("POST", "https", "gateway", "/", fields, sealed))
    assert answer.status == 200, answer
    return oh.decode_response(client.open(answer.content))


def ask(targets: dict[str, Target], request: oh.BinaryRequest) -> oh.BinaryResponse:
    return asyncio.run(through(targets, request))


def leads_to(handler: Callable[[Request], Awaitable[Response]]) -> dict[str, Target]:
    methods = ["GET", "POST", "OPTIONS"]
    return {"a.example": in_process(Starlette(routes=[Route("/{path:path}", handler, methods=methods)]))}


async def _host_and_path(request: Request) -> Response:
    return PlainTextResponse(f"{request.headers['host']} {request.url.path}")


class TestInThisProcess:
    def test_a_streamed_answer_is_whole(self) -> None:
        """Applications that are told too soon that the client has gone break off what they stream, with status 200."""

        async def streamed(request: Request) -> Response:
            async def pieces() -> AsyncIterator[bytes]:
                for number in range(3):
                    yield b"piece %d " % number
                    await asyncio.sleep(0)

            return StreamingResponse(pieces())

        assert ask(leads_to(streamed), get("/")).content == b"piece 0 piece 1 piece 2 "

    def test_percent_encoding_is_undone_as_asgi_has_it(self) -> None:
        assert ask(leads_to(_host_and_path), get("/a%20b/%E6%97%A5")).content == "a.example /a b/日".encode()

    def test_a_target_that_fails_is_told_to_the_operator_and_the_client_gets_a_sealed_answer(self) -> None:
        async def failing(request: Request) -> Response:
            raise RuntimeError("a defect")

        told = list[dict[str, Any]]()

        async def work() -> oh.BinaryResponse:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
            return await through(leads_to(failing), get("/"))

        answer = asyncio.run(work())
        assert (answer.status, answer.content) == (500, b"the target failed\n")
        assert [repr(context["exception"]) for context in told] == ["RuntimeError('a defect')"]

    def test_an_answer_that_is_no_http(self) -> None:
        async def target(request: oh.BinaryRequest) -> oh.BinaryResponse:
            return oh.BinaryResponse(999)

        assert ask({"*": target}, get("/")).status == 502

    def test_an_answer_without_end(self) -> None:
        async def endless(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": bytes(LARGEST_CONTENT // 8), "more_body": True})

        assert ask({"*": in_process(endless)}, get("/")).status == 502


class TestNames:
    @pytest.mark.parametrize(
        "request_",
        [
            get("/", "A.Example"),
            get("/", "a.example:443"),
            get("/", "", ("host", "a.example")),  # RFC 9292 §3.4: no authority, but a Host
            get("/", "a.example", ("host", "b.example")),  # the authority counts, and the target sees no other
        ],
    )
    def test_of_the_target(self, request_: oh.BinaryRequest) -> None:
        assert ask(leads_to(_host_and_path), request_).content == b"a.example /"

    @pytest.mark.parametrize("name", ["b.example", "a.example:80", "a.example:8443", "a.example.b.example", ""])
    def test_of_others(self, name: str) -> None:
        answer = ask(leads_to(_host_and_path), get("/", name))
        assert answer.status == 403 and b"does not lead" in answer.content

    @pytest.mark.parametrize(
        "request_",
        [
            get("/", "", ("host", "a.example"), ("host", "b.example")),
            get("/", "", ("host", "u@a.example")),
            get("@b.example/"),
            get("/#fragment"),
            get("*"),
        ],
    )
    def test_what_is_no_request(self, request_: oh.BinaryRequest) -> None:
        assert ask(leads_to(_host_and_path), request_).status == 400

    def test_the_whole_server_may_be_asked_for_its_options(self) -> None:
        async def target(request: oh.BinaryRequest) -> oh.BinaryResponse:
            return oh.BinaryResponse(204)

        assert ask({"*": target}, get("*", method="OPTIONS")).status == 204

    def test_no_tunnels(self) -> None:
        assert ask(leads_to(_host_and_path), get("", method="CONNECT")).status == 501


class Origin:
    """A web server that answers all with the same bytes, and keeps the heads of requests."""

    def __init__(self, head: str = "", body: bytes = b"allowed") -> None:
        self._answer = (
            f"HTTP/1.1 200 OK\r\n{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
        )
        self.heads: list[str] = []
        self.port = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Origin]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
        writer.write(self._answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


def from_origin(request: oh.BinaryRequest, origin: Origin, path: str = "") -> tuple[oh.BinaryResponse, Origin]:
    """What a gateway that leads to `origin` answers; and a second server there, which nobody may reach."""
    other = Origin(body=b"another server's")

    async def work() -> oh.BinaryResponse:
        async with origin.listening(), other.listening(), aiohttp.ClientSession() as session:
            target = at_origin(f"http://127.0.0.1:{origin.port}", lambda: session)
            aimed = oh.BinaryRequest(
                request.method, request.scheme, request.authority,
                path.replace("PORT", str(other.port)) or request.path, request.headers, request.content,
            )  # fmt: skip
            by_gateway = await through({"a.example": target}, aimed)
            directly = await target(aimed)
            assert directly.status == by_gateway.status
            return directly

    return asyncio.run(work()), other


class TestOnTheNetwork:
    @pytest.mark.parametrize("path", ["@127.0.0.1:PORT/x", ":PORT/x", ".b.example/", "?@127.0.0.1:PORT/", "*"])
    def test_no_path_leads_to_another_host(self, path: str) -> None:
        """The path of a sealed request is the client's: it must not become a part of the host's name."""
        origin = Origin()
        answer, other = from_origin(get("/"), origin, path)
        assert answer.status == 400 and not origin.heads and not other.heads

    @pytest.mark.parametrize("path", ["//127.0.0.1:PORT/x", "/\\127.0.0.1:PORT/", "/http://127.0.0.1:PORT/"])
    def test_paths_that_look_like_hosts(self, path: str) -> None:
        origin = Origin()
        answer, other = from_origin(get("/"), origin, path)
        assert answer.content == b"allowed" and not other.heads
        assert origin.heads[0].startswith(f"GET {path[0]}")

    @given(st.from_regex(r"[\x21-\x7e]{0,40}", fullmatch=True))
    def test_whatever_the_path_the_host_is_the_origins(self, path: str) -> None:
        asked = list[str]()

        class Session:
            def request(self, method: str, url: Any, **_: Any) -> Any:
                asked.append(str(url.origin()))
                raise aiohttp.ClientError

        session: Any = Session()
        target = at_origin("https://service.example:8443", lambda: session)
        try:
            asyncio.run(target(get(path)))
        except OSError:
            pass
        assert asked in ([], ["https://service.example:8443"])

    def test_a_large_answer_is_whole(self) -> None:
        """It comes in many pieces."""
        body = bytes(range(256)) * 12_000
        assert from_origin(get("/"), Origin(body=body))[0].content == body

    def test_an_answer_that_is_too_large(self) -> None:
        async def work() -> oh.BinaryResponse:
            async with (
                Origin(body=bytes(LARGEST_CONTENT + 1)).listening() as origin,
                aiohttp.ClientSession() as session,
            ):
                return await through({"*": at_origin(f"http://127.0.0.1:{origin.port}", lambda: session)}, get("/"))

        assert asyncio.run(work()).status == 502

    def test_fields_pass_and_none_are_added(self) -> None:
        origin = Origin("X-Name: café\r\nX-Space: 1  \r\nConnection: x-hop\r\nX-Hop: 1\r\n")
        request = get(
            "/p?x=%20", "a.example", ("user-identifier", "u"), ("x-name", "cafÃ©"), ("expect", "100-continue")
        )
        answer, _ = from_origin(request, origin)
        head = origin.heads[0]
        assert head.splitlines()[0] == "GET /p?x=%20 HTTP/1.1"
        names = sorted(line.partition(":")[0].lower() for line in head.splitlines()[1:] if line)
        assert names == ["accept-encoding", "host", "user-identifier", "x-name"]
        assert "x-name: cafÃ©" in head  # the bytes of UTF-8, as they were sealed
        assert dict(answer.headers)["x-name"] == "cafÃ©" and dict(answer.headers)["x-space"] == "1"

    def test_an_answer_that_was_compressed_on_the_way(self) -> None:
        answer, _ = from_origin(get("/"), Origin("Content-Encoding: gzip\r\n", gzip.compress(b"content" * 50)))
        assert answer.content == b"content" * 50 and "content-encoding" not in dict(answer.headers)

    @pytest.mark.parametrize(
        "origin", ["service.example", "https://a.example/path", "ftp://a.example", "https://u@a.example"]
    )
    def test_what_is_no_origin(self, origin: str) -> None:
        with pytest.raises(ConfigurationError, match="an origin is wanted"):
            at_origin(origin, aiohttp.ClientSession)
