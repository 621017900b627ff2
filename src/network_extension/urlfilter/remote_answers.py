"""Answers that come over the network, whole, and bounded in size."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp

LARGEST_ANSWER = 17 << 20
"""Bytes: a prefilter has several MiB, and what encloses a sealed answer is small."""


class AnswerTooLarge(OSError):
    """An answer of more bytes than the reader takes."""


async def read_whole(response: aiohttp.ClientResponse, most: int = LARGEST_ANSWER) -> bytes:
    """All of the body: a single `read(n)` gives only what has come so far. `AnswerTooLarge`."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > most:
            raise AnswerTooLarge(f"an answer of more than {most >> 20} MiB")
    return bytes(body)
