"""Where a gateway's requests go: to an application in the same process, or to an origin on the network."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from starlette.types import ASGIApp

from ...errors import ConfigurationError
from ..remote_answers import AnswerTooLarge, read_whole
from .binary_http import LARGEST_CONTENT, BinaryRequest, BinaryResponse, is_authority
from .gateway import Target, end_to_end, plain

if TYPE_CHECKING:
    import aiohttp

_NOT_ADDED = ("Accept", "Content-Type", "User-Agent")
"""Fields that aiohttp would add: the target is to see what the client sealed."""


def in_process(application: ASGIApp) -> Target:
    """A target that is an ASGI application of this process; no socket is between."""

    async def ask(request: BinaryRequest) -> BinaryResponse:
        return await call_application(application, request)

    return ask


async def call_application(application: ASGIApp, request: BinaryRequest) -> BinaryResponse:
    """Ask an ASGI application (HTTP, specification 3.0). Raises what it raises, and `AnswerTooLarge`."""
    incoming = [{"type": "http.request", "body": request.content, "more_body": False}]
    status, headers, content = 500, list[tuple[str, str]](), bytearray()
    is_answered = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if incoming:
            return incoming.pop()
        # The client is there until it has its answer: told sooner, applications break off what they stream.
        await is_answered.wait()
        return {"type": "http.disconnect"}

    async def send(message: Mapping[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            headers.extend(
                (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in message["headers"]
            )
        elif message["type"] == "http.response.body":
            content.extend(message.get("body", b""))
            if len(content) > LARGEST_CONTENT:
                raise AnswerTooLarge(f"an answer of more than {LARGEST_CONTENT >> 20} MiB")
            if not message.get("more_body", False):
                is_answered.set()

    run: Callable[..., Awaitable[None]] = application
    await run(_scope(request), receive, send)
    return BinaryResponse(status, tuple(headers), bytes(content))


def _scope(request: BinaryRequest) -> dict[str, Any]:
    path, _, query = request.path.partition("?")
    fields = [(name.encode(), value.encode("latin-1")) for name, value in end_to_end(request.headers)]
    host, length = request.authority.encode("latin-1"), str(len(request.content)).encode()
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.scheme,
        "path": unquote(path) or "/",
        "raw_path": (path or "/").encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [*fields, (b"host", host), (b"content-length", length)],
        "client": None,
        "server": None,
    }


def checked_origin(text: str) -> str:
    """Scheme, host and port, without a slash at the end. `ConfigurationError`: it is more, or less."""
    origin = text.rstrip("/")
    parts = urlsplit(origin)
    is_web = parts.scheme in ("http", "https") and parts.hostname
    if not is_web or origin != f"{parts.scheme}://{parts.netloc}" or not is_authority(parts.netloc):
        raise ConfigurationError(f"target {text}: an origin is wanted, such as https://service.example:8443")
    return origin


def at_origin(origin: str, session: Callable[[], aiohttp.ClientSession]) -> Target:
    """A target that is asked over the network: `https://service.example`, whatever scheme the message has.

    `session` gives the connections to use. Redirects are answers, and go back as such. `ConfigurationError`: `origin`
    is more, or less, than scheme, host and port.
    """
    origin = checked_origin(origin)

    async def ask(request: BinaryRequest) -> BinaryResponse:
        import aiohttp
        from yarl import URL

        path = request.path or "/"
        if not path.startswith("/"):  # it would become a part of the host's name
            return plain(400, "the path of a request to this target begins with a slash")
        try:
            fields = [(name, value.encode("latin-1").decode()) for name, value in end_to_end(request.headers)]
        except UnicodeDecodeError:
            return plain(400, "a field's value is neither ASCII nor UTF-8")
        try:
            async with session().request(
                request.method,
                URL(origin + path, encoded=True),
                headers=[field for field in fields if field[0] != "accept-encoding"],
                data=request.content or None,
                skip_auto_headers=_NOT_ADDED,
                allow_redirects=False,
            ) as response:
                content = await read_whole(response, LARGEST_CONTENT)
                # What aiohttp has decompressed is not compressed any more.
                kept = [(name.decode("latin-1").lower(), value) for name, value in response.raw_headers]
                headers = [(name, value.decode("latin-1")) for name, value in kept if name != "content-encoding"]
                return BinaryResponse(response.status, tuple(headers), content)
        except aiohttp.ClientError as error:
            raise OSError(str(error)) from error

    return ask
