"""Privacy Pass (RFC 9576 to 9578) with publicly verifiable tokens, type 2: issuer, origin and client.

A user shows the issuer who they are and gets tokens that the issuer cannot recognise; the origin takes each token once
and learns only that its owner is somebody's user.
"""

from __future__ import annotations

from .client import TokenClaim, TokenStock
from .errors import MalformedMessage, PrivacyPassError, RefusedToken, WrongRequest
from .headers import authorization, read_authorization, read_www_authenticate, www_authenticate
from .issuer import directory, issue, public_key
from .issuer_keys import KEY_LIFETIME, TOKEN_LIFETIME, IssuerKey, IssuerKeys
from .messages import Token, TokenChallenge, TokenRequest
from .verifier import MemorySpentNonces, SpentNonces, check_token, redeem

__all__ = [
    "KEY_LIFETIME",
    "TOKEN_LIFETIME",
    "IssuerKey",
    "IssuerKeys",
    "MalformedMessage",
    "MemorySpentNonces",
    "PrivacyPassError",
    "RefusedToken",
    "SpentNonces",
    "Token",
    "TokenChallenge",
    "TokenClaim",
    "TokenRequest",
    "TokenStock",
    "WrongRequest",
    "authorization",
    "check_token",
    "directory",
    "issue",
    "public_key",
    "read_authorization",
    "read_www_authenticate",
    "redeem",
    "www_authenticate",
]
