"""Public keys of issuers as bytes: SubjectPublicKeyInfo with the id of RSASSA-PSS (RFC 9578; specification §1.4).

Hash identifiers have no NULL parameters and there is no trailer field, 342 bytes in all. A key's id is the SHA-256 of
these bytes, so they must be the same everywhere; `cryptography` writes a key as plain rsaEncryption, and its id would
be another.
"""

from __future__ import annotations

from hashlib import sha256

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from .blind_rsa import MODULUS_SIZE
from .errors import MalformedMessage

SPKI_SIZE = 342
_EXPONENT = 65537
_HEAD = bytes.fromhex(
    "30820152"  # SubjectPublicKeyInfo
    "303d06092a864886f70d01010a"  # id-RSASSA-PSS
    "3030"
    "a00d300b0609608648016503040202"  # SHA-384
    "a11a301806092a864886f70d010108300b0609608648016503040202"  # MGF1 with SHA-384
    "a203020130"  # salt of 48 bytes
    "0382010f00"  # BIT STRING
    "3082010a0282010100"  # RSAPublicKey, modulus
)
_TAIL = bytes.fromhex("0203010001")


def encode_public_key(key: RSAPublicKey) -> bytes:
    """The 342 bytes of a key. `ValueError`: it has not 2,048 bits, or its exponent is not 65537."""
    numbers = key.public_numbers()
    if numbers.n.bit_length() != 8 * MODULUS_SIZE or numbers.e != _EXPONENT:
        raise ValueError(f"issuer key: {numbers.n.bit_length()} bits, exponent {numbers.e}; 2048 and 65537 are wanted")
    return _HEAD + numbers.n.to_bytes(MODULUS_SIZE, "big") + _TAIL


def decode_public_key(data: bytes) -> RSAPublicKey:
    """The key of 342 bytes. `MalformedMessage`: any other bytes; there is one encoding."""
    if len(data) != SPKI_SIZE or not data.startswith(_HEAD) or not data.endswith(_TAIL):
        raise MalformedMessage(
            f"issuer key: {len(data)} bytes that are no RSASSA-PSS key of 2048 bits with SHA-384; ask its operator"
        )
    modulus = int.from_bytes(data[len(_HEAD) : -len(_TAIL)], "big")
    try:
        if modulus.bit_length() != 8 * MODULUS_SIZE:
            raise ValueError("too small")
        return RSAPublicNumbers(_EXPONENT, modulus).public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedMessage(f"issuer key: its modulus cannot be ({error}); ask the issuer's operator") from None


def key_id(encoded: bytes) -> bytes:
    """The 32 bytes that name an encoded key; the last of them is its truncated id."""
    return sha256(encoded).digest()


__all__ = ["SPKI_SIZE", "decode_public_key", "encode_public_key", "key_id"]
