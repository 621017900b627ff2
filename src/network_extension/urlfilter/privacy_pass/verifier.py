"""The origin: takes each token once (RFC 9577 §2.2, RFC 9576 §3.3)."""

from __future__ import annotations

from typing import Protocol

from .blind_rsa import verify
from .errors import RefusedToken
from .issuer_keys import IssuerKey, IssuerKeys
from .messages import Token


class SpentNonces(Protocol):
    """Who remembers the tokens that were used. It must be one memory for all instances of a service."""

    async def spend(self, nonce: bytes, until: float) -> bool:
        """Note a nonce; True for exactly one caller. It may be forgotten after `until`, seconds since 1970."""


class MemorySpentNonces:
    """Nonces in this process alone. For tests, and for services that may forget at a restart."""

    def __init__(self) -> None:
        self._until: dict[bytes, float] = {}

    async def spend(self, nonce: bytes, until: float) -> bool:
        """See `SpentNonces`."""
        if nonce in self._until:
            return False
        self._until[nonce] = until
        return True

    def expire(self, now: float) -> int:
        """Forget what need not be known any more; how many that were."""
        old = [nonce for nonce, until in self._until.items() if until <= now]
        for nonce in old:
            del self._until[nonce]
        return len(old)


def check_token(
    keys: IssuerKeys, token: Token, now: float, challenge_digests: frozenset[bytes] | None = None
) -> IssuerKey:
    """The key that a token was signed with; 0.05 ms of a processor. `RefusedToken`: a key that is unknown or no longer
    used, a false signature, or an answer to none of the challenges (None: any challenge is right).

    The signature is checked before the nonce is spent, or anybody could spend other people's.
    """
    key = keys.by_id(token.key_id)
    if key is None or key.last_use <= now:
        raise RefusedToken("No token key found with key id")  # Apple's words, which clients may look for
    if challenge_digests is not None and token.challenge_digest not in challenge_digests:
        raise RefusedToken("token: it answers another challenge")
    if not verify(key.public, token.signed_part(), token.authenticator):
        raise RefusedToken("token: its signature is false")
    return key


async def redeem(
    keys: IssuerKeys,
    token: Token,
    spent: SpentNonces,
    now: float,
    challenge_digests: frozenset[bytes] | None = None,
) -> str:
    """Take a token; the tier of who showed it. `RefusedToken`: it does not count, or not any more."""
    key = check_token(keys, token, now, challenge_digests)
    if not await spent.spend(token.key_id[:8] + token.nonce, key.last_use):
        raise RefusedToken("token: it was used before")
    return key.tier


__all__ = ["MemorySpentNonces", "SpentNonces", "check_token", "redeem"]
