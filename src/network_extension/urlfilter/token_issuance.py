"""Tokens for a client: the user's token goes to the issuer, anonymous tokens come back (specification §1.4).

    GET  /.well-known/private-token-issuer-directory    where tokens are asked for
    GET  /token-key-for-user-token                      the key of the user's tier
    POST /issue                                         a blinded request, a blind signature

The issuer knows the user and not the token, since it signs it blindly; the service that takes the token knows the token
and not the user.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

from .lookup_exchange import StepFailed, exchange
from .lookup_recovery import Outcome
from .privacy_pass import PrivacyPassError, TokenClaim
from .web_exchange import Transport, WebRequest

DIRECTORY_PATH = "/.well-known/private-token-issuer-directory"
KEY_PATH = "/token-key-for-user-token"
REQUEST_TYPE = "application/private-token-request"
_LONGEST_KEY = 4096


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """What tokens are asked for with: the key (a SubjectPublicKeyInfo) and where."""

    encoded: bytes = field(repr=False)
    request_url: str

    def __str__(self) -> str:
        return f"key of {len(self.encoded)} bytes, tokens at {self.request_url}"


class IssuerAccount:
    """One user's account at an issuer. A `TokenSource` of lookups."""

    def __init__(
        self, url: str, user_token: str, transport: Transport, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        """`url` is the issuer's, without a path; `user_token` base64, as it stands behind "Bearer"."""
        self.url, self._transport, self._random = url, transport, random
        self._authorization = ("Authorization", f"Bearer {user_token}")

    async def fetch_key(self) -> IssuerKey:
        """The key of the user's tier. Raises StepFailed."""
        directory = await exchange(self._transport, WebRequest("GET", self.url + DIRECTORY_PATH))
        request_url = self._request_url(directory.body)
        answer = await exchange(self._transport, WebRequest("GET", self.url + KEY_PATH, (self._authorization,)))
        if not 0 < len(answer.body) <= _LONGEST_KEY:
            raise StepFailed(Outcome.UNREADABLE, f"GET {KEY_PATH}: {len(answer.body)} bytes are no key")
        return IssuerKey(answer.body, request_url)

    def _request_url(self, directory: bytes) -> str:
        """Where the directory says that tokens are asked for: at the issuer itself (§1.2 has it relative)."""
        try:
            path = json.loads(directory)["issuer-request-uri"]
            url = str(urljoin(self.url + DIRECTORY_PATH, path))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise StepFailed(Outcome.UNREADABLE, f"GET {DIRECTORY_PATH}: this is no issuer's directory") from None
        if urlsplit(url)[:2] != urlsplit(self.url)[:2]:  # the user token goes to nobody else
            raise StepFailed(Outcome.UNREADABLE, f"GET {DIRECTORY_PATH}: it sends to another host for tokens")
        return url

    async def fetch_tokens(self, key: IssuerKey, count: int) -> list[bytes]:
        """That many tokens, each of 354 bytes. Raises StepFailed."""
        return list(await asyncio.gather(*(self._fetch_token(key) for _ in range(count))))

    async def _fetch_token(self, key: IssuerKey) -> bytes:
        # Apple's clients name the host only, so that the challenge is the same for all clients of an issuer.
        name = urlsplit(self.url).hostname or ""
        try:
            claim = await asyncio.to_thread(TokenClaim.begin, key.encoded, name, self._random)
            headers = (self._authorization, ("Content-Type", REQUEST_TYPE))
            answer = await exchange(
                self._transport, WebRequest("POST", key.request_url, headers, claim.request.to_bytes())
            )
            token = await asyncio.to_thread(claim.finish, answer.body)
        except PrivacyPassError as error:
            raise StepFailed(Outcome.UNREADABLE, f"POST {urlsplit(key.request_url).path}: {error}") from error
        return token.to_bytes()
