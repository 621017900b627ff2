"""The HTTP authentication scheme PrivateToken (RFC 9577 §2.2): headers, as devices write them and as they may."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

from .errors import MalformedMessage
from .messages import Token, TokenChallenge

LONGEST_HEADER = 1 << 14
_PARAMETER = re.compile(r'\s*([A-Za-z-]+)\s*=\s*(?:"([A-Za-z0-9_\-+/=]*)"|([A-Za-z0-9_\-+/=]*))\s*(,|$)')
_STANDARD_TO_URL = str.maketrans("+/", "-_")


def authorization(token: Token) -> str:
    """The value of Authorization: base64url with padding, of which a token needs none."""
    return f"PrivateToken token={base64.urlsafe_b64encode(token.to_bytes()).decode()}"


def read_authorization(value: str) -> Token:
    """The token of an Authorization header. `MalformedMessage`: another scheme, or no token in it.

    Quoted or not, base64url with padding or without, other parameters beside it.
    """
    return Token.from_bytes(_decoded(_parameters(value), "token"))


def www_authenticate(challenge: TokenChallenge, public_key: bytes) -> str:
    """The value of WWW-Authenticate: what is asked for, and the issuer's key."""
    encoded = (base64.urlsafe_b64encode(part).decode() for part in (challenge.to_bytes(), public_key))
    return 'PrivateToken challenge="{}", token-key="{}"'.format(*encoded)


def read_www_authenticate(value: str) -> tuple[TokenChallenge, bytes]:
    """The challenge and the encoded key of a WWW-Authenticate header. `MalformedMessage`: it is of another kind."""
    parameters = _parameters(value)
    return TokenChallenge.from_bytes(_decoded(parameters, "challenge")), _decoded(parameters, "token-key")


def _parameters(value: str) -> Mapping[str, str]:
    scheme, _, rest = value.strip().partition(" ")
    if scheme.lower() != "privatetoken" or len(value) > LONGEST_HEADER:
        raise MalformedMessage("authentication: the scheme is not PrivateToken; send PrivateToken token=…")
    found, at = dict[str, str](), 0
    while at < len(rest):
        match = _PARAMETER.match(rest, at)
        if match is None:
            raise MalformedMessage("authentication: PrivateToken with parameters that cannot be read")
        found.setdefault(match[1].lower(), match[2] if match[2] is not None else match[3])
        at = match.end()
    return found


def _decoded(parameters: Mapping[str, str], name: str) -> bytes:
    text = parameters.get(name, "").translate(_STANDARD_TO_URL).rstrip("=")
    if not text:
        raise MalformedMessage(f"authentication: PrivateToken without {name}")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise MalformedMessage(f"authentication: {name} of PrivateToken is no base64") from None


__all__ = ["authorization", "read_authorization", "read_www_authenticate", "www_authenticate"]
