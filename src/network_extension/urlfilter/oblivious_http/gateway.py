"""The gateway: opens requests, passes them on to targets that are allowed, seals the answers (RFC 9458 §4, §5).

An ASGI application. A target is another ASGI application in the same process, or an origin on the network. There is no
target but those that are named, so that the gateway is nobody's open proxy. What the client sent is inside the
message: nothing of the outer request reaches the target, and nothing that goes back names the gateway's peers.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from . import chunked, encapsulation
from .binary_http import BinaryRequest, BinaryResponse, decode_request, encode_response
from .errors import DecryptionFailed, ObliviousError, UnknownKey
from .hpke import Aead
from .key_configurations import KEYS_TYPE, GatewayKeys

PATHS = ("/.well-known/ohttp-gateway", "/gateway")
"""Where requests are posted (the first is RFC 9540's, which gives the keys to a GET as well)."""
KEYS_PATH = "/ohttp-keys"
LARGEST_BODY = (10 << 20) + (1 << 16)
"""10 MiB is what Apple's service takes, and what encloses it."""
TARGET_SECONDS = 30.0
HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer")
    + ("transfer-encoding", "upgrade", "host", "content-length")
)
"""Fields of one connection (RFC 9110 §7.6.1), and those that are made anew from what the message says."""
KEY_PROBLEM = "https://iana.org/assignments/http-problem-types#ohttp-key"

Random = Callable[[int], bytes]


class Target(Protocol):
    """Answers the requests of one origin. `OSError` and TimeoutError: it cannot be reached."""

    async def __call__(self, request: BinaryRequest) -> BinaryResponse:
        """The answer."""


class TooLarge(Exception):
    """A body of more than `LARGEST_BODY` bytes."""


class Gateway:
    """Opens, passes on, seals. `keys` gives the present keys; `targets` are by authority, in lower case; the authority
    `*` is what answers for every other name, and for requests without one.
    """

    def __init__(
        self, keys: Callable[[], GatewayKeys], targets: Mapping[str, Target], random: Random = os.urandom
    ) -> None:
        self._keys, self._targets, self._random = keys, dict(targets), random

    async def exchange(self, request: Request) -> Response:
        """POST of an encapsulated request."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in (encapsulation.REQUEST_TYPE, chunked.REQUEST_TYPE):
            return Response(f"content type {encapsulation.REQUEST_TYPE} is wanted\n", 415)
        try:
            body = await read_body(request)
        except TooLarge:
            return Response(f"more than {LARGEST_BODY} bytes\n", 413)
        try:
            message, seal, answer_type = self._open(body, kind)
        except (UnknownKey, DecryptionFailed) as error:
            return problem(str(error))
        except ObliviousError as error:
            return Response(f"{error}\n", 400)
        return Response(seal(encode_response(await self._answer(message))), media_type=answer_type)

    async def key_list(self, request: Request) -> Response:
        """GET of the key configurations."""
        headers = {"cache-control": "private, max-age=3600"}
        return Response(self._keys().public_list, media_type=KEYS_TYPE, headers=headers)

    def _open(self, body: bytes, kind: str) -> tuple[bytes, Callable[[bytes], bytes], str]:
        """The message, how its answer is sealed, and of what type that is."""
        if kind == chunked.REQUEST_TYPE:
            message, exchange = chunked.open_request(self._keys(), body)
            aead = _aead(body)
            return (
                message,
                lambda answer: exchange.seal_response([answer], self._nonce(aead)),
                chunked.RESPONSE_TYPE,
            )
        message, context = encapsulation.open_request(self._keys(), body)
        return message, lambda answer: context.seal(answer, self._nonce(_aead(body))), encapsulation.RESPONSE_TYPE

    def _nonce(self, aead: Aead) -> bytes:
        return self._random(encapsulation.response_nonce_size(aead))

    async def _answer(self, message: bytes) -> BinaryResponse:
        """What the target says, or why it is not asked: that goes back sealed, like any answer."""
        try:
            request = decode_request(message)
        except ObliviousError as error:
            return plain(400, str(error))
        target = self._targets.get(request.authority.lower()) or self._targets.get("*")
        if target is None:
            return plain(403, "this gateway does not lead to that target; ask its operator to allow it")
        try:
            async with asyncio.timeout(TARGET_SECONDS):
                answer = await target(request)
        except TimeoutError:
            return plain(504, "the target did not answer in time")
        except OSError:
            return plain(502, "the target cannot be reached")
        return BinaryResponse(answer.status, end_to_end(answer.headers), answer.content)


def _aead(body: bytes) -> Aead:
    """The request's cipher, from its header; it has been opened with it."""
    return Aead(int.from_bytes(body[5:7], "big"))


def end_to_end(fields: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The fields that are not of one connection only."""
    named = {word.strip().lower() for name, value in fields if name == "connection" for word in value.split(",")}
    return tuple((name, value) for name, value in fields if name not in HOP_BY_HOP and name not in named)


def plain(status: int, text: str) -> BinaryResponse:
    """An answer of the gateway's own."""
    return BinaryResponse(status, (("content-type", "text/plain; charset=utf-8"),), f"{text}\n".encode())


def problem(detail: str) -> Response:
    """A request that was sealed for another key (RFC 9458 §5.3): the client fetches the keys again."""
    body = json.dumps({"type": KEY_PROBLEM, "title": "key identifier unknown", "detail": detail})
    return Response(body, 400, media_type="application/problem+json")


async def read_body(request: Request, most: int = LARGEST_BODY) -> bytes:
    """The whole body. `TooLarge`."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most:
            raise TooLarge
    return bytes(body)
