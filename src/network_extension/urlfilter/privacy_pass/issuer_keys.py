"""An issuer's keys: one for each tier of users at a time, and those before it, whose tokens still count.

A token request names its key by one byte, so the truncated ids of all keys that are in use differ: keys are drawn until
they do. A token has no date, and whoever takes it must remember its nonce as long as the token could be shown again. So
a key signs for `KEY_LIFETIME`, and `TOKEN_LIFETIME` later nothing that it signed counts any more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ...errors import ConfigurationError
from .blind_rsa import MODULUS_SIZE, BlindSigner
from .public_key import encode_public_key, key_id

KEY_LIFETIME = 30 * 24 * 3600.0
"""Seconds for which a key signs at most."""
TOKEN_LIFETIME = 24 * 3600.0
"""Seconds after which devices throw a token away (specification §1.4)."""
_MOST_DRAWS = 64
_MOST_KEYS = 128
Generate = Callable[[], rsa.RSAPrivateKey]


def generate_private_key() -> rsa.RSAPrivateKey:
    """2,048 bits from the system's randomness; 50 to 200 ms."""
    return rsa.generate_private_key(65537, 8 * MODULUS_SIZE)


@dataclass(frozen=True)
class IssuerKey:
    """A key of one tier. Times are seconds since 1970."""

    tier: str
    private: rsa.RSAPrivateKey = field(repr=False)
    not_before: int
    """It signs from then on; before, clients may get ready for it."""
    not_after: int | None = None
    """When a newer one takes its place; None: it is the tier's last."""

    @property
    def last_use(self) -> float:
        """Until when its tokens count."""
        return self.not_before + KEY_LIFETIME + TOKEN_LIFETIME

    @cached_property
    def public(self) -> rsa.RSAPublicKey:
        """What verifies."""
        return self.private.public_key()

    @cached_property
    def encoded(self) -> bytes:
        """The public key as clients get it, 342 bytes."""
        return encode_public_key(self.public)

    @cached_property
    def id(self) -> bytes:
        """The 32 bytes that tokens carry."""
        return key_id(self.encoded)

    @cached_property
    def signer(self) -> BlindSigner:
        """What signs."""
        return BlindSigner(self.private)


@dataclass(frozen=True)
class IssuerKeys:
    """All keys of an issuer that are in use, the older first."""

    keys: tuple[IssuerKey, ...] = ()

    def current(self, tier: str, now: float) -> IssuerKey | None:
        """The key that signs for a tier; None: it has none that is neither too new nor too old."""
        signing = [
            key for key in self.keys if key.tier == tier and key.not_before <= now < key.not_before + KEY_LIFETIME
        ]
        return signing[-1] if signing else None

    def by_id(self, name: bytes) -> IssuerKey | None:
        """The key of a token; None: unknown, or given up."""
        return self._by_id.get(name)

    @cached_property
    def _by_id(self) -> dict[bytes, IssuerKey]:
        return {key.id: key for key in self.keys}

    def renewed(self, tiers: Iterable[str], now: float, generate: Generate = generate_private_key) -> IssuerKeys:
        """What an issuer of `tiers` uses at `now`: a key for each tier, a new one where the last has signed for more
        than half of its time, and none whose tokens have all expired. The same object if nothing is to change.
        """
        made = self
        if any(key.last_use <= now for key in self.keys):
            made = IssuerKeys(tuple(key for key in self.keys if key.last_use > now))
        for tier in tiers:
            last = max((key.not_before for key in made.keys if key.tier == tier), default=None)
            if last is None or last + KEY_LIFETIME / 2 <= now:
                made = made.rotated(tier, now, generate=generate)
        return made

    def rotated(
        self, tier: str, now: float, lead: float = 0.0, generate: Generate = generate_private_key
    ) -> IssuerKeys:
        """These, and a new key of `tier` that signs from `now + lead` on."""
        start = int(now + lead)
        older = tuple(
            IssuerKey(key.tier, key.private, key.not_before, start)
            if key.tier == tier and key.not_after is None
            else key
            for key in self.keys
        )
        return IssuerKeys((*older, self._drawn(tier, start, generate)))

    def _drawn(self, tier: str, not_before: int, generate: Generate) -> IssuerKey:
        taken = {key.id[-1] for key in self.keys}
        if len(taken) >= _MOST_KEYS:
            raise ConfigurationError(f"issuer keys: {len(taken)} are in use; {_MOST_KEYS} at most, use fewer tiers")
        for _ in range(_MOST_DRAWS):
            key = IssuerKey(tier, generate(), not_before)
            if key.id[-1] not in taken:
                return key
        raise ConfigurationError(f"issuer keys: none in {_MOST_DRAWS} has a truncated id of its own; is chance broken?")

    def to_bytes(self) -> bytes:
        """With the private keys (PKCS#8, unencrypted): for a place where nobody else reads."""
        return json.dumps({"format": 1, "keys": [_to_json(key) for key in self.keys]}).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> IssuerKeys:
        """What `to_bytes` gave. `ConfigurationError`: damaged."""
        try:
            document = json.loads(data)
            if document["format"] != 1:
                raise ValueError("unknown format")
            return cls(tuple(_from_json(item) for item in document["keys"]))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            what = "unknown format" if isinstance(error, ValueError) and str(error) == "unknown format" else "damaged"
            raise ConfigurationError(
                f"issuer keys: {what}; restore them from a backup, or remove them and let clients fetch new tokens"
            ) from None


def _to_json(key: IssuerKey) -> dict[str, Any]:
    pem = key.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {"tier": key.tier, "key": pem.decode(), "not-before": key.not_before, "not-after": key.not_after}


def _from_json(item: dict[str, Any]) -> IssuerKey:
    private = serialization.load_pem_private_key(item["key"].encode(), None)
    start, end = item["not-before"], item["not-after"]
    if not isinstance(private, rsa.RSAPrivateKey) or type(start) is not int or type(end) not in (int, type(None)):
        raise ValueError("damaged")
    return IssuerKey(str(item["tier"]), private, start, end)


__all__ = ["KEY_LIFETIME", "TOKEN_LIFETIME", "IssuerKey", "IssuerKeys", "generate_private_key"]
