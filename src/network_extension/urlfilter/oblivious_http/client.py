"""The client: seals requests for the gateway and sends them by the relay. How bytes travel is the caller's matter.

A gateway that does not know the key any more says so (RFC 9458 §5.3): then the keys are fetched again and the request
is sealed anew, at once, and once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from .binary_http import BinaryRequest, BinaryResponse, decode_response, encode_request
from .encapsulation import REQUEST_TYPE, RESPONSE_TYPE, seal_request
from .errors import ObliviousError
from .gateway import KEY_PROBLEM
from .key_configurations import KEYS_TYPE, KeyConfiguration, decode_list

_PADDED_TO = 256


class Carrier(Protocol):
    """Sends one request over the web: status, type of content and content. What it raises is passed on."""

    async def __call__(self, method: str, url: str, content_type: str, body: bytes) -> tuple[int, str, bytes]:
        """`content_type` is that of the body, and for a GET what is accepted."""


class ObliviousClient:
    """Asks by way of a relay. `keys_url` gives the gateway's key configurations; it must not be fetched by way of the
    relay from one that tells each client another key. A client belongs to one event loop.
    """

    def __init__(
        self,
        relay_url: str,
        keys_url: str,
        carrier: Carrier,
        generate: Callable[[], X25519PrivateKey] = X25519PrivateKey.generate,
    ) -> None:
        self._relay_url, self._keys_url, self._carrier, self._generate = relay_url, keys_url, carrier, generate
        self._configuration: KeyConfiguration | None = None
        self._fetching = asyncio.Lock()

    async def exchange(self, request: BinaryRequest) -> BinaryResponse:
        """The target's answer. `ObliviousError`: relay or gateway refuse, or their answer is none."""
        # Padded, so that a relay learns little from lengths.
        plain = encode_request(request)
        message = plain + bytes(-len(plain) % _PADDED_TO)
        refused: KeyConfiguration | None = None
        while True:
            configuration = await self._present(refused)
            sealed, context = seal_request(configuration, message, self._generate())
            status, kind, body = await self._carrier("POST", self._relay_url, REQUEST_TYPE, sealed)
            if status == 200 and kind.partition(";")[0].strip().lower() == RESPONSE_TYPE:
                return decode_response(context.open(body))
            if refused is not None or not (status == 400 and KEY_PROBLEM.encode() in body):
                raise ObliviousError(f"oblivious HTTP: the relay or gateway answers {status}; ask its operator")
            refused = configuration

    async def _present(self, refused: KeyConfiguration | None) -> KeyConfiguration:
        """The key to use: another one than was refused. Requests of the same time fetch it once."""
        async with self._fetching:
            if self._configuration is None or self._configuration is refused:
                self._configuration = None  # what is refused is not used again, should this not succeed
                self._configuration = await self._fetched()
            return self._configuration

    async def _fetched(self) -> KeyConfiguration:
        status, _, body = await self._carrier("GET", self._keys_url, KEYS_TYPE, b"")
        if status != 200:
            raise ObliviousError(f"oblivious HTTP: the key configuration's URL answers {status}; is it the gateway's?")
        return decode_list(body)[0]
