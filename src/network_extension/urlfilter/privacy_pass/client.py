"""The client of an issuer: asks for tokens, and keeps a few (RFC 9578 §6.1; specification §1.4).

request = TokenClaim.begin(encoded_key, "issuer.example", os.urandom)      → request.to_bytes() goes to /issue
token = request.finish(answer)                                             → authorization(token) goes to the origin
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from .blind_rsa import Blinded, Random, blind, finalize
from .issuer_keys import TOKEN_LIFETIME
from .messages import NONCE_SIZE, Token, TokenChallenge, TokenRequest
from .public_key import decode_public_key, key_id

FIRST_BATCH, SECOND_BATCH = 1, 3
FULL, LOW = 10, 5
"""Tokens that a device keeps, and below how many it asks for more."""


@dataclass(frozen=True, slots=True)
class TokenClaim:
    """A token on its way from the issuer."""

    request: TokenRequest
    _key: RSAPublicKey = field(repr=False)
    _token: Token = field(repr=False)
    _blinded: Blinded = field(repr=False)

    @classmethod
    def begin(cls, encoded_key: bytes, challenge: TokenChallenge | str, random: Random) -> TokenClaim:
        """A claim with the issuer's key, for a challenge or, as devices have it, for an issuer's name alone.

        `MalformedMessage`: the key is none.
        """
        key = decode_public_key(encoded_key)
        if isinstance(challenge, str):
            challenge = TokenChallenge(challenge)
        name = key_id(encoded_key)
        token = Token(random(NONCE_SIZE), challenge.digest, name)
        message, blinded = blind(key, token.signed_part(), random)
        return cls(TokenRequest(name[-1], message), key, token, blinded)

    def finish(self, answer: bytes) -> Token:
        """The token, from the issuer's 256 bytes. `PrivacyPassError`: they are no signature of its key."""
        return replace(self._token, authenticator=finalize(self._key, self._blinded, answer))


class TokenStock:
    """Tokens that wait for use, the oldest first. Times are seconds since 1970."""

    def __init__(self, full: int = FULL, low: int = LOW, lifetime: float = TOKEN_LIFETIME) -> None:
        self._tokens = deque[tuple[float, Token]]()
        self._full, self._low, self._lifetime = full, low, lifetime
        self._batches = 0

    def __len__(self) -> int:
        return len(self._tokens)

    def wanted(self, now: float) -> int:
        """How many to ask for: one to begin with, so that the first lookup does not wait, then three, then as many as
        fill the stock when it has run low.
        """
        self._forget_old(now)
        if len(self._tokens) >= self._low:
            return 0
        batch = (FIRST_BATCH, SECOND_BATCH)[self._batches] if self._batches < 2 else self._full
        return min(batch, self._full - len(self._tokens))

    def add(self, tokens: Iterable[Token], now: float) -> None:
        """Tokens have come."""
        self._tokens.extend((now, token) for token in tokens)
        self._batches += 1

    def take(self, now: float) -> Token | None:
        """A token to be used now, and never again; None: there is none."""
        self._forget_old(now)
        return self._tokens.popleft()[1] if self._tokens else None

    def clear(self) -> None:
        """The origin has refused a token of ours: all are of the same key, and the next ones are to come at once."""
        self._tokens.clear()
        self._batches = 0

    def _forget_old(self, now: float) -> None:
        while self._tokens and self._tokens[0][0] + self._lifetime <= now:
            self._tokens.popleft()


__all__ = ["FULL", "LOW", "TokenClaim", "TokenStock"]
