"""Where a gateway's requests go: to an application in the same process, or to an origin on the network."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp

from .binary_http import BinaryRequest, BinaryResponse
from .gateway import Target, end_to_end

if TYPE_CHECKING:
    import aiohttp

LARGEST_ANSWER = 16 << 20


def in_process(application: ASGIApp) -> Target:
    """A target that is an ASGI application of this process; no socket is between."""

    async def ask(request: BinaryRequest) -> BinaryResponse:
        return await call_application(application, request)

    return ask


async def call_application(application: ASGIApp, request: BinaryRequest) -> BinaryResponse:
    """Ask an ASGI application (HTTP, specification 3.0)."""
    path, _, query = request.path.partition("?")
    fields = [(name.encode(), value.encode("latin-1")) for name, value in end_to_end(request.headers)]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.scheme,
        "path": path or "/",
        "raw_path": (path or "/").encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [
            *fields,
            (b"host", request.authority.encode()),
            (b"content-length", str(len(request.content)).encode()),
        ],
        "client": None,
        "server": None,
    }
    incoming = [{"type": "http.request", "body": request.content, "more_body": False}]
    status, headers, content = 500, list[tuple[str, str]](), bytearray()

    async def receive() -> dict[str, Any]:
        return incoming.pop() if incoming else {"type": "http.disconnect"}

    async def send(message: Mapping[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            headers.extend(
                (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in message["headers"]
            )
        elif message["type"] == "http.response.body":
            content.extend(message.get("body", b""))

    run: Callable[..., Awaitable[None]] = application
    await run(scope, receive, send)
    return BinaryResponse(status, tuple(headers), bytes(content))


def at_origin(origin: str, session: Callable[[], aiohttp.ClientSession]) -> Target:
    """A target that is asked over the network: `https://service.example`, whatever scheme the message has.

    `session` gives the connections to use. Redirects are answers, and go back as such.
    """

    async def ask(request: BinaryRequest) -> BinaryResponse:
        import aiohttp

        fields = [field for field in end_to_end(request.headers) if field[0] != "accept-encoding"]
        try:
            async with session().request(
                request.method,
                origin.rstrip("/") + (request.path or "/"),
                headers=fields,
                data=request.content or None,
                allow_redirects=False,
            ) as response:
                content = await response.content.read(LARGEST_ANSWER + 1)
                if len(content) > LARGEST_ANSWER or not response.content.at_eof():
                    raise OSError("the answer is too large")
                # What aiohttp has decompressed is not compressed any more.
                kept = [(name.lower(), value) for name, value in response.headers.items()]
                headers = tuple(field for field in kept if field[0] != "content-encoding")
                return BinaryResponse(response.status, headers, content)
        except aiohttp.ClientError as error:
            raise OSError(str(error)) from error

    return ask
