"""The door of the service with Privacy Pass: an issuer for the service's own users, and who takes its tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from .. import privacy_pass as pp
from ..stores import Store
from .key_documents import renewed_document
from .refusals import Refusal, unauthorized

DOCUMENT = "issuer-keys"
LOOK_AGAIN = 1.0
"""Seconds between two looks for other instances' keys: anybody can send tokens of keys that never were."""


class IssuerGate:
    """A `TokenGate` whose keys and spent nonces are the store's. `clock` gives seconds since 1970."""

    def __init__(self, store: Store, issuer_name: str, clock: Callable[[], float]) -> None:
        self._store, self._clock = store, clock
        self._challenge = pp.TokenChallenge(issuer_name)
        self._keys = pp.IssuerKeys()
        self._tiers: set[str] = set()
        self._looking = asyncio.Lock()
        self._looked_at = float("-inf")

    async def open(self, tiers: set[str]) -> None:
        """Have a key for each tier: those of the store, or new ones. Raises `StoreUnavailable`."""
        self._tiers = tiers

        def renew(keys: pp.IssuerKeys) -> pp.IssuerKeys:
            return keys.renewed(sorted(tiers), self._clock())

        self._keys = await renewed_document(
            self._store, DOCUMENT, pp.IssuerKeys.from_bytes, pp.IssuerKeys(), renew, pp.IssuerKeys.to_bytes
        )

    async def redeem(self, authorization: str) -> None:
        """Spend the token of an Authorization header. Raises `Refusal` 401, and `StoreUnavailable`."""
        try:
            token = pp.read_authorization(authorization)
            if self._keys.by_id(token.key_id) is None:  # another instance may have made it since
                await self._look_again()
            await pp.redeem(self._keys, token, self._store, self._clock())
        except pp.PrivacyPassError as error:
            raise self.challenged(unauthorized(str(error))) from None

    async def _look_again(self) -> None:
        async with self._looking:  # whoever comes meanwhile waits for this look, and needs none of its own
            now = self._clock()
            if abs(now - self._looked_at) >= LOOK_AGAIN:
                await self.open(self._tiers)
                self._looked_at = now

    def challenged(self, refusal: Refusal) -> Refusal:
        """The refusal, with the challenge that tells a client which token to get."""
        newest = self._keys.keys[-1:]
        if newest:
            refusal.headers["WWW-Authenticate"] = pp.www_authenticate(self._challenge, newest[0].encoded)
        return refusal

    def directory(self) -> Mapping[str, object]:
        """The issuer's directory, for JSON."""
        return pp.directory(self._keys)

    def public_key(self, tier: str) -> bytes:
        """The tier's key as DER. Raises `Refusal`."""
        try:
            return pp.public_key(self._keys, tier, self._clock())
        except pp.PrivacyPassError as error:
            raise Refusal(error.status, str(error)) from None

    async def issue(self, tier: str, body: bytes) -> bytes:
        """A TokenResponse. Raises `Refusal` 401 and 422."""
        try:
            return await asyncio.to_thread(pp.issue, self._keys, tier, body, self._clock())
        except pp.PrivacyPassError as error:
            raise Refusal(error.status, str(error)) from None
