"""Hybrid public key encryption, base mode (RFC 9180), as far as Oblivious HTTP needs it.

DHKEM(X25519, HKDF-SHA256) with HKDF-SHA256 and any of the three AEADs of RFC 9180 §7.3. `cryptography` has the parts;
its own HPKE has no exporter, and the answers of Oblivious HTTP are keyed by exported secrets.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from .errors import DecryptionFailed, MalformedMessage

KEM_X25519_SHA256 = 0x0020
KDF_SHA256 = 0x0001
KEY_SIZE = ENCAPSULATED_SIZE = 32
HASH_SIZE = 32
NONCE_SIZE = 12
TAG_SIZE = 16
_BASE_MODE = b"\0"


class Aead(IntEnum):
    """Authenticated encryption, by its registered number."""

    AES_128_GCM = 0x0001
    AES_256_GCM = 0x0002
    CHACHA20_POLY1305 = 0x0003

    @property
    def key_size(self) -> int:
        """Nk, in bytes."""
        return 16 if self is Aead.AES_128_GCM else 32

    def cipher(self, key: bytes) -> AESGCM | ChaCha20Poly1305:
        """The cipher with a key."""
        return ChaCha20Poly1305(key) if self is Aead.CHACHA20_POLY1305 else AESGCM(key)


def extract(salt: bytes, secret: bytes) -> bytes:
    """HKDF-Extract with SHA-256 (RFC 5869 §2.2)."""
    return hmac.digest(salt or bytes(HASH_SIZE), secret, "sha256")


def expand(key: bytes, info: bytes, size: int) -> bytes:
    """HKDF-Expand with SHA-256 (RFC 5869 §2.3)."""
    block = hmac.digest(key, info + b"\x01", "sha256")
    out, counter = block, 1
    while len(out) < size:
        counter += 1
        block = hmac.digest(key, block + info + bytes((counter,)), "sha256")
        out += block
    return out[:size]


def _labeled_extract(suite: bytes, salt: bytes, label: bytes, secret: bytes) -> bytes:
    return extract(salt, b"HPKE-v1" + suite + label + secret)


def _labeled_expand(suite: bytes, key: bytes, label: bytes, info: bytes, size: int) -> bytes:
    return expand(key, size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info, size)


_KEM_SUITE = b"KEM" + KEM_X25519_SHA256.to_bytes(2, "big")


def _shared_secret(agreed: bytes, encapsulated: bytes, public: bytes) -> bytes:
    """ExtractAndExpand (RFC 9180 §4.1)."""
    key = _labeled_extract(_KEM_SUITE, b"", b"eae_prk", agreed)
    return _labeled_expand(_KEM_SUITE, key, b"shared_secret", encapsulated + public, HASH_SIZE)


@dataclass
class Context:
    """One direction of an exchange: messages are sealed, or opened, one after the other (RFC 9180 §5.2)."""

    aead: Aead
    key: bytes = field(repr=False)
    base_nonce: bytes = field(repr=False)
    exporter_secret: bytes = field(repr=False)
    sequence: int = 0

    @property
    def _suite(self) -> bytes:
        return _suite(self.aead)

    @cached_property
    def _cipher(self) -> AESGCM | ChaCha20Poly1305:
        return self.aead.cipher(self.key)

    def seal(self, message: bytes, associated: bytes = b"") -> bytes:
        """The next message, encrypted."""
        sealed = self._cipher.encrypt(self._nonce(), message, associated)
        self.sequence += 1
        return sealed

    def open(self, sealed: bytes, associated: bytes = b"") -> bytes:
        """The next message. `DecryptionFailed`: it was made with another key, or changed."""
        try:
            message = self._cipher.decrypt(self._nonce(), sealed, associated)
        except InvalidTag:
            raise DecryptionFailed("encapsulated request: it cannot be decrypted with this key") from None
        self.sequence += 1
        return message

    def export(self, label: bytes, size: int) -> bytes:
        """A secret that both ends have and nobody else (RFC 9180 §5.3)."""
        return _labeled_expand(self._suite, self.exporter_secret, b"sec", label, size)

    def _nonce(self) -> bytes:
        number = int.from_bytes(self.base_nonce, "big") ^ self.sequence
        return number.to_bytes(NONCE_SIZE, "big")


def _suite(aead: Aead) -> bytes:
    return b"HPKE" + b"".join(number.to_bytes(2, "big") for number in (KEM_X25519_SHA256, KDF_SHA256, aead))


def _schedule(shared: bytes, info: bytes, aead: Aead) -> Context:
    """KeySchedule in base mode (RFC 9180 §5.1)."""
    suite = _suite(aead)
    names = _labeled_extract(suite, b"", b"psk_id_hash", b""), _labeled_extract(suite, b"", b"info_hash", info)
    context = _BASE_MODE + b"".join(names)
    secret = _labeled_extract(suite, shared, b"secret", b"")
    return Context(
        aead,
        _labeled_expand(suite, secret, b"key", context, aead.key_size),
        _labeled_expand(suite, secret, b"base_nonce", context, NONCE_SIZE),
        _labeled_expand(suite, secret, b"exp", context, HASH_SIZE),
    )


def set_up_sender(public: bytes, info: bytes, aead: Aead, ephemeral: X25519PrivateKey) -> tuple[bytes, Context]:
    """The encapsulated key, and a context that seals for the owner of `public` (RFC 9180 §5.1.1).

    `ephemeral` is a fresh key, used for this alone. `MalformedMessage`: `public` is no key.
    """
    try:
        agreed = ephemeral.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise MalformedMessage("key configuration: its public key is none; fetch the keys again") from None
    encapsulated = ephemeral.public_key().public_bytes_raw()
    return encapsulated, _schedule(_shared_secret(agreed, encapsulated, public), info, aead)


def set_up_receiver(encapsulated: bytes, private: X25519PrivateKey, public: bytes, info: bytes, aead: Aead) -> Context:
    """A context that opens what was sealed for `private`; `public` is its public key.

    `MalformedMessage`: the encapsulated key is none.
    """
    try:
        agreed = private.exchange(X25519PublicKey.from_public_bytes(encapsulated))
    except ValueError:
        raise MalformedMessage("encapsulated request: its key is none") from None
    return _schedule(_shared_secret(agreed, encapsulated, public), info, aead)
