"""The relay: hides from the gateway who asks (RFC 9458 §4, §6.2).

It leads to one gateway and passes on the body and its type, nothing else: no address, no cookie, no field of the
client's. Apple runs the relay of production itself; this one is for development and tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from ..remote_answers import AnswerTooLarge, read_whole
from .gateway import NotTaken, read_sealed

if TYPE_CHECKING:
    import aiohttp

_PASSED_BACK = ("content-type", "retry-after")
"""Fields of the gateway's answer that the client needs: what it is, and when to ask again."""


class Relay:
    """Passes requests on to the gateway at `gateway_url`; `session` gives the connections to use."""

    def __init__(self, gateway_url: str, session: Callable[[], aiohttp.ClientSession]) -> None:
        self._gateway_url, self._session = gateway_url, session

    async def exchange(self, request: Request) -> Response:
        """POST of an encapsulated request."""
        import aiohttp

        try:
            kind, body = await read_sealed(request)
        except NotTaken as refusal:
            return refusal.response
        try:
            async with self._session().post(
                self._gateway_url, data=body, headers={"content-type": kind}, allow_redirects=False
            ) as answer:
                content = await read_whole(answer)
                headers = {name: answer.headers[name] for name in _PASSED_BACK if name in answer.headers}
                return Response(content, answer.status, headers)
        except TimeoutError:
            return Response("the gateway did not answer in time\n", 504)
        except AnswerTooLarge:
            return Response("the gateway's answer is too large\n", 502)
        except (aiohttp.ClientError, OSError):
            return Response("the gateway cannot be reached\n", 502)
