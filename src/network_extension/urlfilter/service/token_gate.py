"""Tokens at the door."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from .refusals import Refusal


class TokenGate(Protocol):
    """Issues tokens and takes them."""

    async def open(self, tiers: set[str]) -> None:
        """Have a key for each tier: those of the store, or new ones. Raises `StoreUnavailable`."""

    async def redeem(self, authorization: str) -> None:
        """Spend the token of an Authorization header. Raises `Refusal` 401 and 422, and `StoreUnavailable`."""

    def challenged(self, refusal: Refusal) -> Refusal:
        """The refusal, with the challenge that tells a client which token to get."""

    def directory(self) -> Mapping[str, object]:
        """The issuer's directory, for JSON."""

    def public_key(self, tier: str) -> bytes:
        """The tier's key as DER. Raises `Refusal`."""

    async def issue(self, tier: str, body: bytes) -> bytes:
        """A TokenResponse. Raises `Refusal` 422."""
