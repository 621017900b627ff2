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
from dataclasses import replace
from typing import Protocol

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from . import chunked, encapsulation
from .binary_http import BinaryRequest, BinaryResponse, decode_request, encode_response, is_authority
from .errors import DecryptionFailed, MalformedMessage, ObliviousError, UnknownKey
from .hpke import Aead
from .key_configurations import KEYS_TYPE, GatewayKeys

PATHS = ("/.well-known/ohttp-gateway", "/gateway")
"""Where requests are posted (the first is RFC 9540's, which gives the keys to a GET as well)."""
KEYS_PATH = "/ohttp-keys"
LARGEST_BODY = (10 << 20) + (1 << 16)
"""10 MiB is what Apple's service takes, and what encloses it."""
BODY_SECONDS = 30.0
"""For a client to send its request."""
TARGET_SECONDS = 30.0
HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer")
    + ("transfer-encoding", "upgrade", "host", "content-length", "expect")
)
"""Fields of one connection (RFC 9110 §7.6.1), and those that are made anew from what the message says; nobody waits for
the 100 that Expect asks for.
"""
_DEFAULT_PORTS = {"https": ":443", "http": ":80"}
KEY_PROBLEM = "https://iana.org/assignments/http-problem-types#ohttp-key"

Random = Callable[[int], bytes]


class Target(Protocol):
    """Answers the requests of one origin. `OSError` and TimeoutError: it cannot be reached. What else it raises is told
    to the event loop's exception handler.
    """

    async def __call__(self, request: BinaryRequest) -> BinaryResponse:
        """The answer."""


class NotTaken(Exception):
    """An outer request that is refused before anything is opened."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status

    @property
    def response(self) -> Response:
        """The refusal."""
        return Response(f"{self}\n", self.status)


class Gateway:
    """Opens, passes on, seals. `keys` gives the present keys; `targets` are by their names as `authority_of` has them;
    the one named `*` answers for every other name, and for requests without one.
    """

    def __init__(
        self, keys: Callable[[], GatewayKeys], targets: Mapping[str, Target], random: Random = os.urandom
    ) -> None:
        self._keys, self._targets, self._random = keys, dict(targets), random

    async def exchange(self, request: Request) -> Response:
        """POST of an encapsulated request."""
        try:
            kind, body = await read_sealed(request)
        except NotTaken as refusal:
            return refusal.response
        try:
            message, seal, answer_type = self._open(body, kind)
        except (UnknownKey, DecryptionFailed) as error:
            return problem(str(error))
        except ObliviousError as error:
            return Response(f"{error}\n", 400)
        answer = await self._answer(message)
        try:
            encoded = encode_response(answer)
        except ValueError:
            encoded = encode_response(plain(502, "the target's answer is none that HTTP allows"))
        return Response(seal(encoded), media_type=answer_type)

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
            request = _routed(decode_request(message))
        except ObliviousError as error:
            return plain(400, str(error))
        target = self._targets.get(request.authority) or self._targets.get("*")
        if target is None:
            return plain(403, "this gateway does not lead to that target; ask its operator to allow it")
        if request.method == "CONNECT":
            return plain(501, "no tunnel can be sealed in a message")
        try:
            async with asyncio.timeout(TARGET_SECONDS):
                answer = await target(request)
        except TimeoutError:
            return plain(504, "the target did not answer in time")
        except OSError:
            return plain(502, "the target cannot be reached, or answers too much")
        except Exception as error:  # the target's own fault, whatever it is: the client gets a sealed answer
            report = {"message": "Oblivious HTTP: a target failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(report)
            return plain(500, "the target failed")
        return BinaryResponse(answer.status, end_to_end(answer.headers), answer.content)


def _routed(request: BinaryRequest) -> BinaryRequest:
    """The request with the name of its target: Host's where there is no authority (RFC 9292 §3.4), in lower case and
    without the scheme's own port. `MalformedMessage`.
    """
    hosts = [value for name, value in request.headers if name == "host"]
    if len(hosts) > 1:
        raise MalformedMessage("binary request: more than one Host")
    named = request.authority or "".join(hosts)
    if not is_authority(named):
        raise MalformedMessage("binary request: its Host is none")
    is_whole_server = request.method == "OPTIONS" and request.path == "*"
    if "#" in request.path or not (request.path.startswith("/") or not request.path or is_whole_server):
        raise MalformedMessage("binary request: its path does not begin with a slash, or has a fragment")
    return replace(request, authority=authority_of(named, request.scheme))


def authority_of(name: str, scheme: str) -> str:
    """A target's name as `Gateway` has it: in lower case, without the port that the scheme has anyway."""
    return name.lower().removesuffix(_DEFAULT_PORTS.get(scheme.lower(), ""))


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


async def read_sealed(request: Request, most: int = LARGEST_BODY) -> tuple[str, bytes]:
    """The type and the whole body of a sealed request. `NotTaken`: of another type, too large, too slow, broken off."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (encapsulation.REQUEST_TYPE, chunked.REQUEST_TYPE):
        raise NotTaken(415, f"content type {encapsulation.REQUEST_TYPE} is wanted")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > most:
                    raise NotTaken(413, f"more than {most} bytes")
    except TimeoutError:
        raise NotTaken(408, "the request did not come in time") from None
    except ClientDisconnect:
        raise NotTaken(400, "the request was broken off") from None
    return kind, bytes(body)
