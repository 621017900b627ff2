"""Signatures by the algorithms that Apple's formats use: RSA (PKCS #1 v1.5) and ECDSA, over SHA-1 to SHA-512.

Names are object identifiers with dots, as they stand in certificates (RFC 3279, RFC 5758) and in CMS (RFC 3370,
RFC 5754).
"""

from __future__ import annotations

import hashlib
import warnings
from typing import Any

from .outcome import Outcome

__all__ = ["DIGESTS", "check_signature", "digest"]

DIGESTS = {
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
"""Object identifier of a digest → its name in hashlib."""

_RSA, _ECDSA = "rsa", "ecdsa"
_SCHEMES: dict[str, tuple[str, str | None]] = {
    "1.2.840.113549.1.1.1": (_RSA, None),  # the digest is the one of the digest algorithm next to it
    "1.2.840.113549.1.1.5": (_RSA, "sha1"),
    "1.2.840.113549.1.1.11": (_RSA, "sha256"),
    "1.2.840.113549.1.1.12": (_RSA, "sha384"),
    "1.2.840.113549.1.1.13": (_RSA, "sha512"),
    "1.2.840.10045.2.1": (_ECDSA, None),
    "1.2.840.10045.4.1": (_ECDSA, "sha1"),
    "1.2.840.10045.4.3.2": (_ECDSA, "sha256"),
    "1.2.840.10045.4.3.3": (_ECDSA, "sha384"),
    "1.2.840.10045.4.3.4": (_ECDSA, "sha512"),
}


def digest(algorithm: str, data: bytes) -> bytes | None:
    """The digest of `data`; None for an algorithm that is not in DIGESTS."""
    name = DIGESTS.get(algorithm)
    return None if name is None else hashlib.new(name, data, usedforsecurity=False).digest()


def check_signature(
    public_key: bytes, algorithm: str, signature: bytes, message: bytes, digest_algorithm: str | None = None
) -> Outcome:
    """Whether `signature` over `message` is right. `public_key` is a DER SubjectPublicKeyInfo.

    `digest_algorithm` serves signature algorithms that do not name a digest themselves, as plain rsaEncryption.
    """
    kind, name = _SCHEMES.get(algorithm, (None, None))
    name = name or DIGESTS.get(digest_algorithm or "")
    if kind is None or name is None:
        return Outcome.UNSUPPORTED
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        with warnings.catch_warnings():  # a weak key is told as what it is: its signature holds or not
            warnings.simplefilter("ignore")
            return _check(_load(public_key), kind, name, signature, message)
    except InvalidSignature:
        return Outcome.FAILS
    except (ValueError, TypeError, UnsupportedAlgorithm):  # not a key, or a curve or size that is not implemented
        return Outcome.UNSUPPORTED


def _load(public_key: bytes) -> Any:
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    return load_der_public_key(public_key)


def _check(key: Any, kind: str, name: str, signature: bytes, message: bytes) -> Outcome:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    hash_algorithm: hashes.HashAlgorithm = getattr(hashes, name.upper())()
    if kind == _RSA and isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, message, padding.PKCS1v15(), hash_algorithm)
    elif kind == _ECDSA and isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, message, ec.ECDSA(hash_algorithm))
    else:  # a key of the other kind cannot have made this signature
        return Outcome.FAILS
    return Outcome.HOLDS
