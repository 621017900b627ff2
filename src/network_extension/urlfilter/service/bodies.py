"""Bodies of requests, bounded in size, in time, and all of them together in memory."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from .refusals import Refusal, busy

MOST_BYTES = 10 << 20
"""One body, as Apple's service has it (specification §1.2)."""
ALL_BYTES = 256 << 20
"""All that are being read or served at a time."""
SECONDS = 30.0
"""For one body to arrive: what the slowest mobile network needs for an evaluation key, with reserve."""


class BodyReader:
    """Reads bodies; what it holds counts until `release`."""

    def __init__(self, most: int = MOST_BYTES, all_together: int = ALL_BYTES, seconds: float = SECONDS) -> None:
        self._most = most
        self._room = all_together
        self._seconds = seconds

    async def read(self, request: Request) -> bytes:
        """The whole body. Raises `Refusal`: 413 too large, 408 too slow, 503 no memory for it now, 400 broken off.

        Whoever has got one gives its length back by `release` when it is served.
        """
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self._most:
            raise self._too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(self._seconds):
                async for chunk in request.stream():
                    self._take(len(chunk))
                    body += chunk
                    if len(body) > self._most:
                        raise self._too_large()
        except BaseException as error:
            self.release(len(body))
            if isinstance(error, TimeoutError):
                raise Refusal(408, f"The body took longer than {self._seconds:g} s") from None
            if isinstance(error, ClientDisconnect):
                raise Refusal(400, "The body broke off", next_step="none: the client went away") from None
            raise
        return bytes(body)

    def release(self, count: int) -> None:
        """A body of `count` bytes is not held any more."""
        self._room += count

    def _take(self, count: int) -> None:
        if count > self._room:
            raise busy("The service is busy", cause="too many large bodies at a time", retry_after=2)
        self._room -= count

    def _too_large(self) -> Refusal:
        return Refusal(413, f"The body is too large: {self._most} bytes at most")
