"""The four messages of Privacy Pass for token type 0x0002, Blind RSA (RFC 9577 §2, RFC 9578 §6)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from hashlib import sha256

from .blind_rsa import MODULUS_SIZE
from .errors import MalformedMessage, WrongRequest

TOKEN_TYPE = 0x0002
NONCE_SIZE = 32
TOKEN_SIZE = 2 + 3 * 32 + MODULUS_SIZE
REQUEST_SIZE = 2 + 1 + MODULUS_SIZE
LONGEST_CHALLENGE = 1 << 16
_TYPE = struct.Struct(">H")


@dataclass(frozen=True, slots=True)
class TokenChallenge:
    """What an origin asks for. Devices fill in type and issuer only, so that all tokens of an issuer are alike."""

    issuer_name: str
    redemption_context: bytes = b""
    """Empty, or 32 bytes."""
    origin_info: str = ""
    """Names of origins with commas between; empty: any."""

    def to_bytes(self) -> bytes:
        """As it is hashed into a token. `ValueError`: a field that is too long, or no issuer."""
        issuer, origin = self.issuer_name.encode("ascii"), self.origin_info.encode("ascii")
        if not issuer or max(len(issuer), len(origin)) > 0xFFFF or len(self.redemption_context) not in (0, 32):
            raise ValueError("token challenge: an issuer's name is needed, and a context of 0 or 32 bytes")
        context = self.redemption_context
        return b"".join(
            (_TYPE.pack(TOKEN_TYPE), _TYPE.pack(len(issuer)), issuer, bytes((len(context),)), context)
            + (_TYPE.pack(len(origin)), origin)
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> TokenChallenge:
        """`MalformedMessage`: not a challenge of this type."""
        try:
            (kind,) = _TYPE.unpack_from(data)
            issuer, at = _sized(data, 2, 2)
            context, at = _sized(data, at, 1)
            origin, at = _sized(data, at, 2)
            if kind != TOKEN_TYPE or at != len(data) or not issuer or len(context) not in (0, 32):
                raise ValueError
            return cls(issuer.decode("ascii"), context, origin.decode("ascii"))
        except (ValueError, struct.error):
            raise MalformedMessage(f"token challenge: {len(data)} bytes that are none of type 2") from None

    @property
    def digest(self) -> bytes:
        """What a token carries of it: 32 bytes."""
        return sha256(self.to_bytes()).digest()


def _sized(data: bytes, at: int, width: int) -> tuple[bytes, int]:
    if at + width > len(data):
        raise ValueError
    size = int.from_bytes(data[at : at + width], "big")
    end = at + width + size
    if end > len(data):
        raise ValueError
    return data[at + width : end], end


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What a client sends to the issuer."""

    truncated_key_id: int
    """The last byte of the key's id."""
    blinded: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """259 bytes."""
        return _TYPE.pack(TOKEN_TYPE) + bytes((self.truncated_key_id,)) + self.blinded

    @classmethod
    def from_bytes(cls, data: bytes) -> TokenRequest:
        """`WrongRequest`: another type of token, or another size."""
        if len(data) >= 2 and _TYPE.unpack_from(data)[0] != TOKEN_TYPE:
            raise WrongRequest(f"token request: type {_TYPE.unpack_from(data)[0]}; this issuer has type {TOKEN_TYPE}")
        if len(data) != REQUEST_SIZE:
            raise WrongRequest(f"token request: {len(data)} bytes instead of {REQUEST_SIZE}")
        return cls(data[2], data[3:])


@dataclass(frozen=True, slots=True)
class Token:
    """What a client shows to the origin, once."""

    nonce: bytes = field(repr=False)
    challenge_digest: bytes
    key_id: bytes
    authenticator: bytes = field(repr=False, default=b"")

    def signed_part(self) -> bytes:
        """What the authenticator signs."""
        return _TYPE.pack(TOKEN_TYPE) + self.nonce + self.challenge_digest + self.key_id

    def to_bytes(self) -> bytes:
        """354 bytes."""
        return self.signed_part() + self.authenticator

    @classmethod
    def from_bytes(cls, data: bytes) -> Token:
        """`MalformedMessage`: another type or size."""
        if len(data) != TOKEN_SIZE or _TYPE.unpack_from(data)[0] != TOKEN_TYPE:
            raise MalformedMessage(f"token: {len(data)} bytes that are no token of type {TOKEN_TYPE}")
        return cls(data[2:34], data[34:66], data[66:98], data[98:])


__all__ = ["NONCE_SIZE", "REQUEST_SIZE", "TOKEN_SIZE", "TOKEN_TYPE", "Token", "TokenChallenge", "TokenRequest"]
