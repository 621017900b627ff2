"""The ClientHello in the first datagrams of a QUIC connection (RFC 9000, RFC 9001 §5, RFC 9369).

A client's Initial packets are encrypted with keys that follow from the connection id that they carry: this hides
nothing from whoever sees the first packet, and keeps others from changing it. Taking the protection off (header first,
RFC 9001 §5.4) gives frames; the CRYPTO frames give the handshake, in any order and over several packets: browsers cut
it into small pieces on purpose.

The two ciphers come from the library `cryptography` (extra `quic`). Without it QUIC flows have no name.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, NamedTuple

from ..errors import PeerError
from .client_hello import ClientHello, read_handshake
from .variable_length import decode_integer

VERSION_1, VERSION_2 = 0x00000001, 0x6B3343CF
MAX_DATAGRAMS = 4
MAX_CRYPTO = 65536
MAX_PIECES = 256
MAX_FRAMES = 4096
_SALTS = {
    VERSION_1: bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"),
    VERSION_2: bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9"),
}
_LABELS = {VERSION_1: "quic", VERSION_2: "quicv2"}
_INITIAL_TYPE = {VERSION_1: 0, VERSION_2: 1}
_LONG_HEADER, _FIXED_BIT = 0x80, 0x40
_PADDING, _PING, _ACK, _ACK_ECN, _CRYPTO, _CLOSE = 0, 1, 2, 3, 6, 0x1C


class NotQUICError(PeerError):
    """A datagram that is no client's first one in a version of QUIC that is known here."""


class InitialKeys(NamedTuple):
    """What protects a client's Initial packets."""

    key: bytes
    iv: bytes
    header: bytes


_ciphers: Any = None


def unavailable() -> str | None:
    """Why QUIC cannot be read here; None if it can."""
    global _ciphers
    if _ciphers is None:
        try:
            from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError:
            return "the library cryptography is missing; next step: pip install 'network-extension[quic]'"
        _ciphers = (Cipher, algorithms.AES, modes.ECB, AESGCM)
    return None


def initial_keys(connection_id: bytes, version: int = VERSION_1) -> InitialKeys:
    """The keys of a client (RFC 9001 §5.2) that follow from the first destination connection id that it chose."""
    secret = hmac.digest(_SALTS[version], connection_id, "sha256")
    client, label = _expand(secret, "client in", 32), _LABELS[version]
    return InitialKeys(
        _expand(client, f"{label} key", 16), _expand(client, f"{label} iv", 12), _expand(client, f"{label} hp", 16)
    )


def _expand(secret: bytes, label: str, length: int) -> bytes:
    """HKDF-Expand-Label (RFC 8446 §7.1) of at most 32 bytes, which take one block."""
    name = b"tls13 " + label.encode()
    info = length.to_bytes(2, "big") + bytes([len(name)]) + name + b"\0"
    return hmac.new(secret, info + b"\1", hashlib.sha256).digest()[:length]


class InitialReader:
    """Reads the first datagrams that a client sends on one UDP flow."""

    __slots__ = ("_datagrams", "_keys", "_pieces", "_retried", "_token", "_version", "done")

    def __init__(self) -> None:
        self._keys: InitialKeys | None = None
        self._version = 0
        self._datagrams = 0
        self._token = b""
        self._retried = False
        self._pieces: dict[int, bytes] = {}
        self.done = False
        """Nothing more can come of it."""

    def feed(self, datagram: bytes) -> ClientHello | None:
        """The next datagram; the ClientHello as soon as it is complete.

        Raises PeerError (NotQUICError, NotTLSError) when no more datagrams could give one.
        """
        if self.done:
            return None
        self._datagrams += 1
        self.done = self._datagrams >= MAX_DATAGRAMS
        if unavailable() is not None:
            self.done = True
            return None
        try:
            self._packets(datagram)
        except IndexError:
            if self._keys is None or not self._pieces:
                raise NotQUICError("a datagram that is cut off") from None
        hello = read_handshake(self._contiguous())
        self.done = self.done or hello is not None
        return hello

    def _packets(self, data: bytes) -> None:
        """The packets of a datagram, of which there may be several (RFC 9000 §12.2); Initials come first."""
        at = 0
        while at < len(data):
            first = data[at]
            if not first & _LONG_HEADER or not first & _FIXED_BIT:
                if at == 0 and self._keys is None:
                    raise NotQUICError("no long header")
                return
            version = int.from_bytes(data[at + 1 : at + 5], "big")
            if version not in _SALTS:
                if self._keys is None:
                    raise NotQUICError(f"QUIC version {version:#x}")
                return
            destination, cursor = _connection_id(data, at + 5)
            _, cursor = _connection_id(data, cursor)
            if first >> 4 & 3 != _INITIAL_TYPE[version]:
                if self._keys is None:
                    raise NotQUICError("no Initial packet")
                return
            size, cursor = decode_integer(data, cursor)
            token = data[cursor : cursor + size]
            cursor += size
            length, cursor = decode_integer(data, cursor)
            end = cursor + length
            if end > len(data):
                raise NotQUICError("a packet that is longer than its datagram")
            if self._keys is None:
                self._keys, self._version, self._token = initial_keys(destination, version), version, token
            elif token != self._token and not self._retried:
                self._begin_again(initial_keys(destination, version), token)
            self._frames(self._open(data, at, cursor, end))
            at = end

    def _begin_again(self, keys: InitialKeys, token: bytes) -> None:
        """The server has answered by a Retry, whose token comes back: the connection id that it chose gives new keys
        (RFC 9001 §5.2), and the client sends its hello from the start (RFC 9000 §17.2.5.3)."""
        self._keys, self._token, self._retried = keys, token, True
        self._pieces.clear()
        self._datagrams, self.done = 1, False

    def _open(self, data: bytes, start: int, number_at: int, end: int) -> bytes:
        """Take the protection off one packet (RFC 9001 §5.3, §5.4)."""
        cipher, aes, ecb, aesgcm = _ciphers
        assert self._keys is not None
        sample = data[number_at + 4 : number_at + 20]
        if len(sample) < 16:
            raise NotQUICError("a packet too short for its protection")
        encryptor = cipher(aes(self._keys.header), ecb()).encryptor()
        mask = encryptor.update(sample)
        first = data[start] ^ mask[0] & 0x0F
        size = (first & 3) + 1
        number = bytes(data[number_at + i] ^ mask[1 + i] for i in range(size))
        header = bytes([first]) + data[start + 1 : number_at] + number
        nonce = (int.from_bytes(self._keys.iv, "big") ^ int.from_bytes(number, "big")).to_bytes(12, "big")
        try:
            opened: bytes = aesgcm(self._keys.key).decrypt(nonce, data[number_at + size : end], header)
        except Exception as error:  # InvalidTag, or ValueError for too few bytes
            raise NotQUICError(f"a packet that its keys do not open ({type(error).__name__})") from None
        return opened

    def _frames(self, data: bytes) -> None:
        """Keep the pieces of the handshake; other frames that an Initial may have are skipped (RFC 9000 §12.4)."""
        at = 0
        for _ in range(MAX_FRAMES):
            while at < len(data) and data[at] == _PADDING:
                at += 1
            if at >= len(data):
                return
            kind, at = decode_integer(data, at)
            if kind == _CRYPTO:
                offset, at = decode_integer(data, at)
                length, at = decode_integer(data, at)
                self._piece(offset, data[at : at + length], length)
                at += length
            elif kind in (_ACK, _ACK_ECN):
                at = _skip_ack(data, at, kind == _ACK_ECN)
            elif kind == _CLOSE:
                self.done = True
                return
            elif kind != _PING:
                raise NotQUICError(f"a frame of type {kind:#x} in an Initial packet")

    def _piece(self, offset: int, piece: bytes, length: int) -> None:
        if len(piece) < length:
            raise NotQUICError("a CRYPTO frame that is longer than its packet")
        if offset + length > MAX_CRYPTO or len(self._pieces) >= MAX_PIECES:
            raise NotQUICError("more of a handshake than is looked at")
        if len(piece) > len(self._pieces.get(offset, b"")):
            self._pieces[offset] = piece

    def _contiguous(self) -> bytes:
        """The handshake from its start to the first gap."""
        stream = bytearray()
        for offset in sorted(self._pieces):
            if offset > len(stream):
                break
            stream += self._pieces[offset][len(stream) - offset :]
        return bytes(stream)


def _connection_id(data: bytes, at: int) -> tuple[bytes, int]:
    length = data[at]
    if length > 20:
        raise NotQUICError(f"a connection id of {length} bytes")
    end = at + 1 + length
    if end > len(data):
        raise IndexError(end)
    return data[at + 1 : end], end


def _skip_ack(data: bytes, at: int, has_counts: bool) -> int:
    _, at = decode_integer(data, at)
    _, at = decode_integer(data, at)
    ranges, at = decode_integer(data, at)
    if ranges > MAX_FRAMES:
        raise NotQUICError(f"an acknowledgement of {ranges} ranges")
    _, at = decode_integer(data, at)
    for _ in range(2 * ranges + 3 * has_counts):
        _, at = decode_integer(data, at)
    return at
