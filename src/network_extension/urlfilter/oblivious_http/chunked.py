"""Chunked Oblivious HTTP (draft-ietf-ohai-chunked-ohttp): messages sealed piece by piece.

Each piece stands behind its length; the last behind a zero, sealed as the last, so that nothing can be cut off unseen.
Here pieces are put together before the request is served: the service reads whole bodies. What a client gains is that
it may begin to send before it knows how much.
"""

from __future__ import annotations

from collections.abc import Iterable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from ...core.variable_length import decode_integer, sized
from .encapsulation import ResponseKeys, begin_opening, begin_request, response_nonce_size
from .errors import DecryptionFailed, MalformedMessage
from .hpke import NONCE_SIZE, TAG_SIZE, Aead, Context
from .key_configurations import GatewayKeys, KeyConfiguration

REQUEST_TYPE, RESPONSE_TYPE = "message/ohttp-chunked-req", "message/ohttp-chunked-res"
REQUEST_LABEL, RESPONSE_LABEL = b"message/bhttp chunked request", b"message/bhttp chunked response"
LARGEST_MESSAGE = 16 << 20
MOST_CHUNKS = 1 << 14
_FINAL = b"final"


class ChunkedExchange:
    """Either end of one exchange, after the request's key is agreed on."""

    def __init__(self, context: Context, encapsulated: bytes) -> None:
        self._context, self._encapsulated = context, encapsulated

    def seal_response(self, pieces: Iterable[bytes], response_nonce: bytes) -> bytes:
        """The gateway's answer; `response_nonce` is random."""
        keys = self._keys(response_nonce)
        cipher, out = keys.aead.cipher(keys.key), [response_nonce]
        waiting, count = b"", 0
        for count, piece in enumerate(pieces):
            if count:
                out.append(sized(cipher.encrypt(_nonce(keys.nonce, count - 1), waiting, b"")))
            waiting = piece
        return b"".join((*out, b"\0", cipher.encrypt(_nonce(keys.nonce, count), waiting, _FINAL)))

    def open_response(self, data: bytes) -> bytes:
        """The answer, at the client. `MalformedMessage`, `DecryptionFailed`: it is none, or was cut off."""
        size = response_nonce_size(self._context.aead)
        keys = self._keys(data[:size])
        cipher, out = keys.aead.cipher(keys.key), bytearray()
        for number, (sealed, associated) in enumerate(_pieces(data, size)):
            try:
                out += cipher.decrypt(_nonce(keys.nonce, number), sealed, associated)
            except InvalidTag:
                raise DecryptionFailed("chunked response: it is not the answer to this request") from None
        return bytes(out)

    def _keys(self, response_nonce: bytes) -> ResponseKeys:
        if len(response_nonce) != response_nonce_size(self._context.aead):
            raise MalformedMessage("chunked response: too short to be one")
        return ResponseKeys.derive(self._context, self._encapsulated, response_nonce, RESPONSE_LABEL)


def seal_request(
    configuration: KeyConfiguration, pieces: Iterable[bytes], ephemeral: X25519PrivateKey, aead: Aead | None = None
) -> tuple[bytes, ChunkedExchange]:
    """The encapsulated request of some pieces."""
    head, encapsulated, context = begin_request(configuration, REQUEST_LABEL, ephemeral, aead)
    out, waiting = [head, encapsulated], list(pieces) or [b""]
    out += [sized(context.seal(piece)) for piece in waiting[:-1]]
    out += [b"\0", context.seal(waiting[-1], _FINAL)]
    return b"".join(out), ChunkedExchange(context, encapsulated)


def open_request(keys: GatewayKeys, data: bytes) -> tuple[bytes, ChunkedExchange]:
    """The request within `data`. Raises as `encapsulation.open_request`."""
    encapsulated, sealed, context = begin_opening(keys, data, REQUEST_LABEL)
    request = bytearray()
    for piece, associated in _pieces(sealed, 0):
        request += context.open(piece, associated)
    return bytes(request), ChunkedExchange(context, encapsulated)


def _pieces(data: bytes, at: int) -> Iterable[tuple[bytes, bytes]]:
    """Sealed pieces with their associated data; the last is all that is left."""
    if len(data) > LARGEST_MESSAGE:
        raise MalformedMessage(f"chunked message: {len(data)} bytes; {LARGEST_MESSAGE} at most")
    for _ in range(MOST_CHUNKS):
        try:
            size, at = decode_integer(data, at)
        except IndexError:
            raise MalformedMessage("chunked message: it ends without its last piece") from None
        if not size:
            yield data[at:], _FINAL
            return
        if size < TAG_SIZE or at + size > len(data):
            raise MalformedMessage("chunked message: a piece is cut off")
        yield data[at : at + size], b""
        at += size
    raise MalformedMessage(f"chunked message: more than {MOST_CHUNKS} pieces")


def _nonce(base: bytes, number: int) -> bytes:
    return (int.from_bytes(base, "big") ^ number).to_bytes(NONCE_SIZE, "big")
