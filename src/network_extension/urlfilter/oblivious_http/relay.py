"""The relay: hides from the gateway who asks (RFC 9458 §4, §6.2).

It leads to one gateway and passes on the body and its type, nothing else: no address, no cookie, no field of the
client's. Apple runs the relay of production itself; this one is for development and tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from . import chunked, encapsulation
from .gateway import LARGEST_BODY, TooLarge, read_body

if TYPE_CHECKING:
    import aiohttp

LARGEST_ANSWER = 17 << 20
_TYPES = frozenset((encapsulation.REQUEST_TYPE, chunked.REQUEST_TYPE))


class Relay:
    """Passes requests on to the gateway at `gateway_url`; `session` gives the connections to use."""

    def __init__(self, gateway_url: str, session: Callable[[], aiohttp.ClientSession]) -> None:
        self._gateway_url, self._session = gateway_url, session

    async def exchange(self, request: Request) -> Response:
        """POST of an encapsulated request."""
        import aiohttp

        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in _TYPES:
            return Response(f"content type {encapsulation.REQUEST_TYPE} is wanted\n", 415)
        try:
            body = await read_body(request)
        except TooLarge:
            return Response(f"more than {LARGEST_BODY} bytes\n", 413)
        try:
            async with self._session().post(
                self._gateway_url, data=body, headers={"content-type": kind}, allow_redirects=False
            ) as answer:
                content = await answer.content.read(LARGEST_ANSWER + 1)
                if len(content) > LARGEST_ANSWER or not answer.content.at_eof():
                    return Response("the gateway's answer is too large\n", 502)
                return Response(content, answer.status, media_type=answer.headers.get("content-type"))
        except TimeoutError:
            return Response("the gateway did not answer in time\n", 504)
        except (aiohttp.ClientError, OSError):
            return Response("the gateway cannot be reached\n", 502)
