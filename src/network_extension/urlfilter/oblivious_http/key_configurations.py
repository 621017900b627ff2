"""A gateway's keys as clients get them (RFC 9458 §3), and as the gateway keeps them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from ...errors import ConfigurationError
from .errors import MalformedMessage, UnknownKey
from .hpke import KDF_SHA256, KEM_X25519_SHA256, KEY_SIZE, Aead

KEYS_TYPE = "application/ohttp-keys"
LARGEST_LIST = 1 << 16
KEY_LIFETIME = 30 * 24 * 3600.0
"""Seconds after which a gateway makes a new key."""
KEY_OVERLAP = 7 * 24 * 3600.0
"""Seconds for which it still opens what was sealed for the one before: clients keep what they have fetched."""
_OFFERED = (Aead.AES_128_GCM, Aead.AES_256_GCM, Aead.CHACHA20_POLY1305)


@dataclass(frozen=True, slots=True)
class KeyConfiguration:
    """One public key, and the algorithms that go with it. Only X25519 with HKDF-SHA256 is known here."""

    key_id: int
    public: bytes
    aeads: tuple[Aead, ...] = _OFFERED

    def to_bytes(self) -> bytes:
        """As it stands in a list, without its length."""
        algorithms = b"".join(KDF_SHA256.to_bytes(2, "big") + aead.to_bytes(2, "big") for aead in self.aeads)
        head = bytes((self.key_id,)) + KEM_X25519_SHA256.to_bytes(2, "big") + self.public
        return head + len(algorithms).to_bytes(2, "big") + algorithms

    @classmethod
    def from_bytes(cls, data: bytes) -> KeyConfiguration | None:
        """One configuration; None: its algorithms are none of ours. `MalformedMessage`: it is no configuration."""
        if len(data) < 3:
            raise MalformedMessage(f"key configuration: {len(data)} bytes are none")
        if int.from_bytes(data[1:3], "big") != KEM_X25519_SHA256:
            return None
        end = 3 + KEY_SIZE
        size = int.from_bytes(data[end : end + 2], "big")
        if len(data) != end + 2 + size or size < 4 or size % 4:
            raise MalformedMessage(f"key configuration: {len(data)} bytes, of which {size} name algorithms")
        aeads = []
        for at in range(end + 2, len(data), 4):
            kdf, aead = int.from_bytes(data[at : at + 2], "big"), int.from_bytes(data[at + 2 : at + 4], "big")
            if kdf == KDF_SHA256 and aead in _OFFERED:
                aeads.append(Aead(aead))
        return cls(data[0], data[3:end], tuple(aeads)) if aeads else None


def encode_list(configurations: tuple[KeyConfiguration, ...]) -> bytes:
    """application/ohttp-keys: each configuration behind its length (RFC 9458 §3.2)."""
    encoded = (configuration.to_bytes() for configuration in configurations)
    return b"".join(len(each).to_bytes(2, "big") + each for each in encoded)


def decode_list(data: bytes) -> tuple[KeyConfiguration, ...]:
    """The configurations that can be used, in the gateway's order. `MalformedMessage`: no list, or nothing of use."""
    found, at = list[KeyConfiguration](), 0
    if len(data) > LARGEST_LIST:
        raise MalformedMessage(f"key configurations: {len(data)} bytes; {LARGEST_LIST} at most")
    while at < len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        if at + 2 + size > len(data):
            raise MalformedMessage("key configurations: the list is cut off")
        configuration = KeyConfiguration.from_bytes(data[at + 2 : at + 2 + size])
        if configuration is not None:
            found.append(configuration)
        at += 2 + size
    if not found:
        raise MalformedMessage("key configurations: none with X25519, HKDF-SHA256 and a known cipher")
    return tuple(found)


@dataclass(frozen=True)
class GatewayKey:
    """A gateway's key. Times are seconds since 1970."""

    key_id: int
    private: X25519PrivateKey = field(repr=False)
    not_before: float
    not_after: float | None = None
    """When a newer one took its place."""

    @cached_property
    def configuration(self) -> KeyConfiguration:
        """What clients get of it."""
        return KeyConfiguration(self.key_id, self.private.public_key().public_bytes_raw())


@dataclass(frozen=True)
class GatewayKeys:
    """All keys that a gateway opens requests with, the newest first."""

    keys: tuple[GatewayKey, ...] = ()

    @property
    def public_list(self) -> bytes:
        """application/ohttp-keys: the newest key alone, so that nobody takes one that is about to go."""
        return encode_list(tuple(key.configuration for key in self.keys[:1]))

    def by_id(self, key_id: int) -> GatewayKey:
        """`UnknownKey`: it is not, or no longer, in use."""
        for key in self.keys:
            if key.key_id == key_id:
                return key
        raise UnknownKey(f"encapsulated request: key {key_id} is not in use; fetch the key configuration again")

    def renewed(self, now: float, generate: Callable[[], X25519PrivateKey] = X25519PrivateKey.generate) -> GatewayKeys:
        """What a gateway uses at `now`: a new key when the last is old. The same object if nothing is to change."""
        kept = tuple(key for key in self.keys if key.not_after is None or key.not_after + KEY_OVERLAP > now)
        if kept and kept[0].not_before + KEY_LIFETIME > now:
            return self if len(kept) == len(self.keys) else GatewayKeys(kept)
        return GatewayKeys(kept).rotated(now, generate)

    def rotated(self, now: float, generate: Callable[[], X25519PrivateKey] = X25519PrivateKey.generate) -> GatewayKeys:
        """These behind a new key."""
        taken = {key.key_id for key in self.keys}
        last = self.keys[0].key_id if self.keys else 0
        number = next(((last + step) % 256 for step in range(1, 256) if (last + step) % 256 not in taken), None)
        if number is None:
            raise ConfigurationError("gateway keys: 255 are in use; wait until some have expired")
        older = tuple(replace(key, not_after=now) if key.not_after is None else key for key in self.keys)
        return GatewayKeys((GatewayKey(number, generate(), now), *older))

    def to_bytes(self) -> bytes:
        """With the private keys: for a place where nobody else reads."""
        items = [
            {
                "id": key.key_id,
                "key": key.private.private_bytes_raw().hex(),
                "from": key.not_before,
                "to": key.not_after,
            }
            for key in self.keys
        ]
        return json.dumps({"format": 1, "keys": items}).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> GatewayKeys:
        """What `to_bytes` gave. `ConfigurationError`: damaged."""
        try:
            document = json.loads(data)
            keys = [
                GatewayKey(
                    int(item["id"]) & 0xFF,
                    X25519PrivateKey.from_private_bytes(bytes.fromhex(item["key"])),
                    float(item["from"]),
                    None if item["to"] is None else float(item["to"]),
                )
                for item in document["keys"]
            ]
            if document["format"] != 1:
                raise ValueError("unknown format")
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise ConfigurationError(
                "gateway keys: damaged, or of another version; restore them, or remove them so that new ones are made"
            ) from error
        return cls(tuple(keys))
