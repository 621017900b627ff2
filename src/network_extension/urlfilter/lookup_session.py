"""What a client holds between lookups: tokens, configuration, evaluation key; and the step that is due. Sans-IO.

`need` is a table in the form of a ladder: the first thing that is missing is the next step. There is no other state, so
a client that has forgotten something, for whatever reason, is where it was before it had it.

Evaluation keys have a pseudonym each (the User-Identifier, which with the key's own identifier is its name at the
service, §1.3). A key that replaces another so never overwrites it: queries that are under way with the old key are
still answered under it, and nothing links the queries of one week with those of the next.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

from .lookup_recovery import Forget

MINUTE = 60.0
TOKEN_LIFETIME = 24 * 60 * MINUTE
"""Seconds after which a token is not used any more (§1.4)."""
FEW_TOKENS, ENOUGH_TOKENS = 5, 10
"""With fewer than 5 left the stock is filled to 10 (§1.4)."""
KEY_LIFETIME = 10_080 * MINUTE
KEY_ROTATION = 1_440 * MINUTE
"""Seconds: an evaluation key expires after a week, and its successor is made a day before (§3.3)."""

Configuration = TypeVar("Configuration")
Material = TypeVar("Material")
IssuerKey = TypeVar("IssuerKey")


class Need(Enum):
    """The next step."""

    ISSUER_KEY = "issuer key"
    TOKENS = "tokens"
    CONFIGURATION = "configuration"
    KEYS = "keys"
    """Made here; nothing is asked of anybody."""
    UPLOAD = "upload"
    NOTHING = "nothing"
    """All is there: ask."""


@dataclass(slots=True)
class HeldConfiguration(Generic[Configuration]):
    """The service's description of its database, as it was fetched."""

    identifier: bytes
    """config_id: each query names it."""
    key_hash: bytes
    """evaluation_key_config_hash: which evaluation keys fit."""
    content: Configuration


@dataclass(slots=True)
class HeldKeys(Generic[Material]):
    """A secret key with its evaluation key, and whether the service has the latter."""

    identifier: bytes
    """The hash of what they are for: the configuration's `key_hash`."""
    material: Material = field(repr=False)
    pseudonym: str = field(repr=False)
    made_at: float
    uploads: int = 0
    is_stored: bool = False


@dataclass(frozen=True, slots=True)
class Basis:
    """What one query was made with: only this may be forgotten when the query fails, not what others have renewed
    meanwhile.
    """

    configuration: object
    keys: object
    uploads: int
    epoch: int
    """Of the tokens: how often they had been forgotten."""


@dataclass(frozen=True, slots=True)
class _Token:
    value: bytes = field(repr=False)
    expires: float


class LookupSession(Generic[Configuration, Material, IssuerKey]):
    """All of it. With `uses_tokens` False (a development service without users) tokens are never needed."""

    def __init__(self, *, uses_tokens: bool = True) -> None:
        self.uses_tokens = uses_tokens
        self.issuer_key: IssuerKey | None = None
        self.configuration: HeldConfiguration[Configuration] | None = None
        self.keys: HeldKeys[Material] | None = None
        self.quiet_until = float("-inf")
        """The service has asked not to be asked before."""
        self._is_stale = False
        self._tokens: deque[_Token] = deque()
        self._epoch = 0  # counts the times that tokens were forgotten

    def need(self, now: float) -> Need:
        """The first thing that is missing at `now`."""
        if self.uses_tokens and not self._count(now):
            return Need.ISSUER_KEY if self.issuer_key is None else Need.TOKENS
        if self.configuration is None or self._is_stale:
            return Need.CONFIGURATION
        if (
            self.keys is None
            or self.keys.identifier != self.configuration.key_hash
            or self.key_age(now) >= KEY_LIFETIME
        ):
            return Need.KEYS
        return Need.NOTHING if self.keys.is_stored else Need.UPLOAD

    # Tokens

    def _count(self, now: float) -> int:
        while self._tokens and self._tokens[0].expires <= now:
            self._tokens.popleft()
        return len(self._tokens)

    def wanted_tokens(self, now: float) -> int:
        """How many tokens to fetch now; 0 while there are enough."""
        count = self._count(now)
        return ENOUGH_TOKENS - count if self.uses_tokens and count < FEW_TOKENS else 0

    def add_token(self, value: bytes, now: float) -> None:
        """Keep a token that was issued now."""
        self._tokens.append(_Token(value, now + TOKEN_LIFETIME))

    def take_token(self, now: float) -> bytes | None:
        """A token, which is spent with this; None when none is needed. Raises IndexError if `need` was not heeded."""
        if not self.uses_tokens:
            return None
        self._count(now)
        return self._tokens.popleft().value

    # Configuration and keys

    def configured(self, configuration: HeldConfiguration[Configuration]) -> None:
        """A configuration has been fetched. The same one again keeps its object, which queries under way refer to."""
        self._is_stale = False
        if self.configuration is None or self.configuration.identifier != configuration.identifier:
            self.configuration = configuration

    def refresh(self) -> None:
        """Have the configuration fetched anew before the next query (refreshPIRParameters)."""
        self._is_stale = True

    def server_lacks_keys(self) -> None:
        """The service said with its configuration that it does not have our key."""
        if self.keys is not None:
            self.keys.is_stored = False

    def key_age(self, now: float) -> float:
        """Seconds since the keys were made; 0 without any."""
        return now - self.keys.made_at if self.keys else 0.0

    def rotation_is_due(self, now: float) -> bool:
        """Whether the successor of the keys should be made now, while they are still good."""
        return self.keys is not None and self.key_age(now) >= KEY_LIFETIME - KEY_ROTATION

    def uploaded(self, keys: HeldKeys[Material]) -> None:
        """The service has stored these keys; they are in use from now on."""
        keys.is_stored = True
        keys.uploads += 1
        self.keys = keys

    # Failures

    def basis(self) -> Basis:
        """What a query that begins now rests on."""
        keys = self.keys
        return Basis(self.configuration, keys, keys.uploads if keys else 0, self._epoch)

    def forget(self, what: Forget, basis: Basis) -> None:
        """Forget what the service does not know any more, unless it has been renewed since `basis`."""
        if Forget.TOKENS in what and basis.epoch == self._epoch:
            self._tokens.clear()
            self.issuer_key = None
            self._epoch += 1
        if Forget.CONFIGURATION in what and self.configuration is basis.configuration:
            self.configuration = None
        keys = self.keys
        if Forget.UPLOAD in what and keys is not None and keys is basis.keys and keys.uploads == basis.uploads:
            keys.is_stored = False
