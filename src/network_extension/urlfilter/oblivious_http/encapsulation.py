"""Requests that only the gateway can read, and answers that only the client can (RFC 9458 §4). No input or output.

                 client                              gateway
request          seal_request → bytes         →      open_request → request, RequestContext
answer           ClientContext.open  ← bytes  ←      RequestContext.seal
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from .errors import DecryptionFailed, MalformedMessage, UnknownKey
from .hpke import (
    ENCAPSULATED_SIZE,
    KDF_SHA256,
    KEM_X25519_SHA256,
    NONCE_SIZE,
    TAG_SIZE,
    Aead,
    Context,
    expand,
    extract,
    set_up_receiver,
    set_up_sender,
)
from .key_configurations import GatewayKeys, KeyConfiguration

REQUEST_TYPE, RESPONSE_TYPE = "message/ohttp-req", "message/ohttp-res"
REQUEST_LABEL, RESPONSE_LABEL = b"message/bhttp request", b"message/bhttp response"
_HEAD = struct.Struct(">BHHH")


@dataclass(frozen=True)
class ResponseKeys:
    """The answer's cipher: from a secret of the request's context and a nonce of the answer (RFC 9458 §4.4)."""

    aead: Aead
    key: bytes = field(repr=False)
    nonce: bytes = field(repr=False)

    @classmethod
    def derive(cls, context: Context, encapsulated: bytes, response_nonce: bytes, label: bytes) -> ResponseKeys:
        """The same at both ends."""
        secret = context.export(label, len(response_nonce))
        prk = extract(encapsulated + response_nonce, secret)
        return cls(context.aead, expand(prk, b"key", context.aead.key_size), expand(prk, b"nonce", NONCE_SIZE))


def response_nonce_size(aead: Aead) -> int:
    """Bytes at the beginning of an answer: max(Nn, Nk)."""
    return max(NONCE_SIZE, aead.key_size)


@dataclass(frozen=True)
class ClientContext:
    """What a client keeps until the answer has come."""

    context: Context
    encapsulated: bytes = field(repr=False)

    def open(self, response: bytes) -> bytes:
        """The answer. `MalformedMessage`: too short; `DecryptionFailed`: not the answer to this request."""
        size = response_nonce_size(self.context.aead)
        if len(response) < size + TAG_SIZE:
            raise MalformedMessage(f"encapsulated response: {len(response)} bytes are none")
        keys = ResponseKeys.derive(self.context, self.encapsulated, response[:size], RESPONSE_LABEL)
        try:
            return keys.aead.cipher(keys.key).decrypt(keys.nonce, response[size:], b"")
        except InvalidTag:
            raise DecryptionFailed("encapsulated response: it is not the answer to this request") from None


@dataclass(frozen=True)
class RequestContext:
    """What a gateway keeps until it answers."""

    context: Context
    encapsulated: bytes = field(repr=False)

    def seal(self, response: bytes, response_nonce: bytes) -> bytes:
        """The encapsulated answer; `response_nonce` is random, of `response_nonce_size` bytes."""
        keys = ResponseKeys.derive(self.context, self.encapsulated, response_nonce, RESPONSE_LABEL)
        return response_nonce + keys.aead.cipher(keys.key).encrypt(keys.nonce, response, b"")


def seal_request(
    configuration: KeyConfiguration, request: bytes, ephemeral: X25519PrivateKey, aead: Aead | None = None
) -> tuple[bytes, ClientContext]:
    """The encapsulated request, with the gateway's first cipher or `aead`. `ephemeral` is used for this alone."""
    head, encapsulated, context = begin_request(configuration, REQUEST_LABEL, ephemeral, aead)
    return head + encapsulated + context.seal(request), ClientContext(context, encapsulated)


def begin_request(
    configuration: KeyConfiguration, label: bytes, ephemeral: X25519PrivateKey, aead: Aead | None = None
) -> tuple[bytes, bytes, Context]:
    """Header, encapsulated key and context of a request."""
    chosen = configuration.aeads[0] if aead is None else aead
    head = _HEAD.pack(configuration.key_id, KEM_X25519_SHA256, KDF_SHA256, chosen)
    encapsulated, context = set_up_sender(configuration.public, label + b"\0" + head, chosen, ephemeral)
    return head, encapsulated, context


def open_request(keys: GatewayKeys, data: bytes) -> tuple[bytes, RequestContext]:
    """The request within `data`.

    `MalformedMessage`: too short; `UnknownKey`: for a key or algorithms that are not in use; `DecryptionFailed`.
    """
    encapsulated, sealed, context = begin_opening(keys, data, REQUEST_LABEL)
    return context.open(sealed), RequestContext(context, encapsulated)


def begin_opening(keys: GatewayKeys, data: bytes, label: bytes) -> tuple[bytes, bytes, Context]:
    """Encapsulated key, what follows it, and the context that opens that."""
    start = _HEAD.size + ENCAPSULATED_SIZE
    if len(data) < start + TAG_SIZE:
        raise MalformedMessage(f"encapsulated request: {len(data)} bytes are none")
    head, encapsulated = data[: _HEAD.size], data[_HEAD.size : start]
    key_id, kem, kdf, aead = _HEAD.unpack(head)
    if (kem, kdf) != (KEM_X25519_SHA256, KDF_SHA256) or aead not in tuple(Aead):
        raise UnknownKey("encapsulated request: its algorithms are not offered; fetch the key configuration again")
    key = keys.by_id(key_id)
    public = key.configuration.public
    return (
        encapsulated,
        data[start:],
        set_up_receiver(encapsulated, key.private, public, label + b"\0" + head, Aead(aead)),
    )
