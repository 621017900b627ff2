"""Requests by way of an Oblivious HTTP relay and gateway (RFC 9458): the service does not learn who asks.

Without a relay the sealed requests go to the gateway itself, for trying it out: it then sees the client's address.
"""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from .oblivious_http.binary_http import BinaryRequest
from .oblivious_http.client import ObliviousClient
from .oblivious_http.errors import ObliviousError
from .oblivious_http.gateway import KEYS_PATH, PATHS
from .web_exchange import DirectTransport, ExchangeLost, WebAnswer, WebRequest


class ObliviousTransport:
    """A `Transport` through a relay to a gateway. `ca_file` is trusted instead of the system's authorities."""

    def __init__(self, gateway_url: str, relay_url: str | None = None, ca_file: str | None = None) -> None:
        """`gateway_url` is where the gateway takes requests, or its host alone; its keys are at KEYS_PATH there."""
        self._carrier = DirectTransport(ca_file)
        if urlsplit(gateway_url).path in ("", "/"):
            gateway_url = urljoin(gateway_url, PATHS[0])
        keys_url = urljoin(gateway_url, KEYS_PATH)
        self._client = ObliviousClient(relay_url or gateway_url, keys_url, self._carry)

    async def _carry(self, method: str, url: str, content_type: str, body: bytes) -> tuple[int, str, bytes]:
        name = "Accept" if method == "GET" else "Content-Type"
        answer = await self._carrier.exchange(WebRequest(method, url, ((name, content_type),), body))
        return answer.status, answer.headers.get("content-type", ""), answer.body

    async def exchange(self, request: WebRequest) -> WebAnswer:
        """Send, and wait for the whole answer. Raises ExchangeLost, also for a relay or gateway that refuses."""
        parts = urlsplit(request.url)
        path = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
        headers = tuple((name.lower(), value) for name, value in request.headers)
        inner = BinaryRequest(request.method, parts.scheme, parts.netloc, path, headers, request.body)
        try:
            response = await self._client.exchange(inner)
        except ObliviousError as error:
            raise ExchangeLost(str(error)) from error
        fields = dict(response.headers)
        return WebAnswer(response.status, fields, response.content)

    async def close(self) -> None:
        """Let go of all connections."""
        await self._carrier.close()
