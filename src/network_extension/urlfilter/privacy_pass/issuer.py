"""The issuer: tells which keys there are, and signs what it cannot see (RFC 9578 §6; specification §1.2, §1.4)."""

from __future__ import annotations

import base64
from typing import Any

from .errors import RefusedToken, WrongRequest
from .issuer_keys import IssuerKey, IssuerKeys
from .messages import TOKEN_TYPE, TokenRequest

REQUEST_URI = "/issue"


def directory(keys: IssuerKeys, request_uri: str = REQUEST_URI) -> dict[str, Any]:
    """The issuer's directory (RFC 9578 §4): keys that sign now or will, the newest first."""
    usable = [key for key in reversed(keys.keys) if key.not_after is None]
    return {"issuer-request-uri": request_uri, "token-keys": [_described(key) for key in usable]}


def _described(key: IssuerKey) -> dict[str, Any]:
    encoded = base64.urlsafe_b64encode(key.encoded).decode()
    return {"token-type": TOKEN_TYPE, "token-key": encoded, "not-before": key.not_before}


def public_key(keys: IssuerKeys, tier: str, now: float) -> bytes:
    """The encoded key of a user's tier. `RefusedToken`: the tier has none."""
    return _signing(keys, tier, now).encoded


def issue(keys: IssuerKeys, tier: str, request: bytes, now: float) -> bytes:
    """The blind signature for a user of `tier`, 256 bytes; some 0.6 ms of a processor.

    A request for the key before the present one is still met: the client fetched it a moment ago. `WrongRequest`:
    another type, size or key; `RefusedToken`: the tier has no key.
    """
    parsed = TokenRequest.from_bytes(request)
    _signing(keys, tier, now)
    mine = [key for key in keys.keys if key.tier == tier and key.not_before <= now]
    for key in reversed(mine):
        if key.id[-1] == parsed.truncated_key_id:
            return key.signer.sign(parsed.blinded)
    raise WrongRequest("token request: its key is not one of the user's tier; fetch the key again")


def _signing(keys: IssuerKeys, tier: str, now: float) -> IssuerKey:
    key = keys.current(tier, now)
    if key is None:
        raise RefusedToken(f"token request: tier {tier} has no key yet")
    return key


__all__ = ["REQUEST_URI", "directory", "issue", "public_key"]
