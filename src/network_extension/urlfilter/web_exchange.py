"""One request and its answer over the web, as the client needs it: small values, and a way to send them.

`DirectTransport` asks a server itself, over HTTP/1.1. `ObliviousTransport` (oblivious_transport.py) hides who asks.
Both are bounded: in time, and in what they take.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import urlsplit

from ..errors import PeerError
from .remote_answers import read_whole

if TYPE_CHECKING:
    import aiohttp

MOST_ANSWER = 32 << 20
"""Bytes of an answer: a reply of many queries has some hundred kilobytes, a prefilter several megabytes."""
EXCHANGE_TIMEOUT = 15.0
"""Seconds for one exchange: the upload of a key takes 0.8 MB."""


class ExchangeLost(PeerError):
    """No answer came: refused, reset, timed out, no such host, a certificate that does not fit, or far too much."""


class WebRequest(NamedTuple):
    """A request. Header names in any case."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class WebAnswer(NamedTuple):
    """An answer. Header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def retry_after(self) -> float | None:
        """The seconds of Retry-After (RFC 9110 §10.2.3); None without, or where it is a date."""
        text = self.headers.get("retry-after", "")
        return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else None


class Transport(Protocol):
    """A way to send requests."""

    async def exchange(self, request: WebRequest) -> WebAnswer:
        """Send, and wait for the whole answer. Raises ExchangeLost."""

    async def close(self) -> None:
        """Let go of all connections."""


class DirectTransport:
    """Requests straight to the server. `ca_file` is trusted instead of the system's authorities."""

    def __init__(self, ca_file: str | None = None, timeout: float = EXCHANGE_TIMEOUT) -> None:
        self._tls = ssl.create_default_context(cafile=ca_file) if ca_file else None
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            connector = aiohttp.TCPConnector(limit=16, ssl=self._tls if self._tls is not None else True)
            timeout = aiohttp.ClientTimeout(total=self._timeout)
            # Cookies would link what tokens keep apart.
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), raise_for_status=False
            )
        return self._session

    async def exchange(self, request: WebRequest) -> WebAnswer:
        """Send, and wait for the whole answer. Redirects are answers like any other. Raises ExchangeLost."""
        import aiohttp

        try:
            async with self._open().request(
                request.method, request.url, headers=request.headers, data=request.body or None, allow_redirects=False
            ) as response:
                body = await read_whole(response, MOST_ANSWER)
                headers = {name.lower(): value for name, value in response.headers.items()}
                return WebAnswer(response.status, headers, body)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            parts = urlsplit(request.url)
            raise ExchangeLost(f"{request.method} {parts.scheme}://{parts.netloc}: {_reason(error)}") from error

    async def close(self) -> None:
        """Let go of all connections."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()
            await asyncio.sleep(0)  # connections close with the next turn of the loop


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    return " ".join(str(error).split())[:300] or type(error).__name__
