"""The server name in a TLS ClientHello (RFC 8446 §4.1.2, RFC 6066 §3), from the first bytes of a stream.

The bytes come as the network cut them: records end anywhere, and a ClientHello may be spread over several of them
(post-quantum key shares make it longer than a packet). So the answer to too few bytes is "more, please", and the answer
to bytes that cannot become a ClientHello comes as soon as they are seen: a stream that is not TLS must not wait.

Whoever routes by this name reads it as the server will. Hence what servers refuse is refused here too: duplicate
extensions, two names, lengths that do not add up, a name that is none. GREASE (RFC 8701) is skipped.
"""

from __future__ import annotations

from typing import NamedTuple, NoReturn

from ..errors import PeerError

MAX_LENGTH = 65536
"""Bytes of stream that are looked at; hellos of today have some 500 to 2,000."""

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_MAX_RECORD = 16384
_SERVER_NAME, _ALPN, _SUPPORTED_VERSIONS, _ENCRYPTED_CLIENT_HELLO = 0, 16, 43, 0xFE0D
_HOST_BYTES = b"abcdefghijklmnopqrstuvwxyz0123456789-_."


class NotTLSError(PeerError):
    """A stream that does not begin with a ClientHello that a server would take."""


class ClientHello(NamedTuple):
    """What a client says before it knows anything of the server."""

    server_name: str | None
    """Lower case, without a final dot. With a real encrypted hello, the name of the outer one (draft-ietf-tls-esni)."""
    application_protocols: tuple[str, ...]
    """ALPN (RFC 7301) in the client's order: "h2", "http/1.1"; bytes other than ASCII are escaped as in Python."""
    supported_versions: tuple[int, ...]
    """0x0304 is TLS 1.3; the legacy version alone where the extension is missing."""
    has_encrypted_client_hello: bool
    """Whether that extension is there. Browsers send a meaningless one, too, so it does not prove a hidden name."""


def read_client_hello(data: bytes) -> ClientHello | None:
    """Read the beginning of a stream; None when more bytes are needed.

    Raises NotTLSError when no more bytes could make it a ClientHello, or not within 64 KiB. Call it with all bytes so
    far, after each arrival; they stay the caller's, to be sent on.
    """
    hello = _handshake_message(data[:MAX_LENGTH])
    if hello is not None:
        return _Reader(hello).client_hello()
    if len(data) >= MAX_LENGTH:
        raise NotTLSError(f"no end of the ClientHello within {MAX_LENGTH} bytes")
    return None


def read_handshake(data: bytes) -> ClientHello | None:
    """As `read_client_hello`, for a handshake without TLS records: the CRYPTO stream of QUIC (RFC 9001 §4)."""
    if data and data[0] != _CLIENT_HELLO:
        raise NotTLSError(f"the first handshake message is of type {data[0]}, not a ClientHello")
    if len(data) < 4:
        return None
    end = 4 + int.from_bytes(data[1:4], "big")
    if end > MAX_LENGTH:
        raise NotTLSError(f"a ClientHello of {end} bytes")
    return _Reader(data[4:end]).client_hello() if len(data) >= end else None


def _handshake_message(data: bytes) -> bytes | None:
    """Take the first handshake message out of its records (RFC 8446 §5.1); None when its end is not there yet."""
    at, message = 0, bytearray()
    while at < len(data):
        head = data[at : at + 5]
        # All versions of SSL 3 and TLS have 3 as their major number; SSL 2 had other records.
        if head[0] != _HANDSHAKE or head[1:2] not in (b"", b"\x03"):
            raise NotTLSError(f"no TLS handshake record: {head[:2].hex(' ')} at byte {at}")
        if len(head) < 5:
            break
        length = int.from_bytes(head[3:], "big")
        if not 0 < length <= _MAX_RECORD:
            raise NotTLSError(f"a TLS record of {length} bytes")
        message += data[at + 5 : at + 5 + length]
        at += 5 + length
        if message and message[0] != _CLIENT_HELLO:
            raise NotTLSError(f"the first handshake message is of type {message[0]}, not a ClientHello")
        if len(message) >= 4:
            end = 4 + int.from_bytes(message[1:4], "big")
            if end > MAX_LENGTH:
                raise NotTLSError(f"a ClientHello of {end} bytes")
            if len(message) >= end:
                return bytes(message[4:end])
    return None


def _is_grease(value: int) -> bool:
    return value & 0x0F0F == 0x0A0A and value >> 8 == value & 0xFF


class _Reader:
    """A cursor over bytes that must hold what their lengths promise."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        start, self._at = self._at, self._at + size
        if self._at > len(self._data):
            self.fail("a length that runs past the end")
        return self._data[start : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> _Reader:
        """A vector with a length of `size` bytes before it."""
        return _Reader(self.take(self.number(size)))

    def only_vector(self, size: int) -> _Reader:
        """As `vector`, where nothing may come behind it."""
        vector = self.vector(size)
        if self:
            self.fail("bytes behind the end of a vector")
        return vector

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    def fail(self, why: str) -> NoReturn:
        raise NotTLSError(f"a malformed ClientHello: {why}")

    def client_hello(self) -> ClientHello:
        version = self.number(2)
        self.take(32)
        if len(self.vector(1).rest()) > 32:
            self.fail("a session id of more than 32 bytes")
        suites = self.vector(2).rest()
        if not suites or len(suites) & 1 or not self.vector(1):
            self.fail("no cipher suites, or no compression methods")
        found = self.extensions()
        return ClientHello(
            found[_SERVER_NAME].server_name() if _SERVER_NAME in found else None,
            found[_ALPN].application_protocols() if _ALPN in found else (),
            found[_SUPPORTED_VERSIONS].versions() if _SUPPORTED_VERSIONS in found else (version,),
            _ENCRYPTED_CLIENT_HELLO in found,
        )

    def extensions(self) -> dict[int, _Reader]:
        found: dict[int, _Reader] = {}
        if not self:  # TLS 1.2 and older: a hello may have none at all
            return found
        vector = self.only_vector(2)
        while vector:
            kind = vector.number(2)
            if kind in found:
                self.fail(f"two extensions of type {kind}")
            found[kind] = vector.vector(2)
        return found

    def server_name(self) -> str:
        names = self.only_vector(2)
        kind, name = names.number(1), names.vector(2).rest().lower()
        # One name of type host_name; nobody ever defined another type, and OpenSSL refuses both others and more.
        if kind or names:
            self.fail("not exactly one server name")
        name = name.removesuffix(b".")
        labels = name.split(b".")
        if len(name) > 253 or name.translate(None, _HOST_BYTES) or not all(0 < len(part) < 64 for part in labels):
            self.fail(f"no host name: {name[:80]!r}")
        return name.decode("ascii")

    def application_protocols(self) -> tuple[str, ...]:
        names, protocols = self.only_vector(2), []
        while names:
            name = names.vector(1).rest()
            if not name:
                self.fail("an application protocol without a name")
            if not (len(name) == 2 and _is_grease(int.from_bytes(name, "big"))):
                protocols.append(name.decode("ascii", "backslashreplace"))
        return tuple(protocols)

    def versions(self) -> tuple[int, ...]:
        vector, versions = self.only_vector(1), []
        while vector:
            versions.append(vector.number(2))
        return tuple(version for version in versions if not _is_grease(version))
