"""Who may have Privacy Pass tokens: users, by the token that their app gives to setConfiguration."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ...errors import ConfigurationError
from .configuration import is_user_token
from .refusals import unauthorized

DEVELOPMENT_TIER = "tier1"


class UserTokens:
    """Tiers by user token. How long a look-up takes tells nothing of the tokens: they are found by a keyed hash, whose
    key is this process's own, and then compared in constant time.
    """

    def __init__(self, tiers: Mapping[str, str], key: bytes = b"") -> None:
        self._key = key or os.urandom(32)
        self._tiers = {self._hash(token): (token.encode(), tier) for token, tier in tiers.items()}

    def changed(self, tiers: Mapping[str, str]) -> UserTokens:
        """Other tiers; users keep their names."""
        return UserTokens(tiers, self._key)

    def tier(self, authorization: str) -> str:
        """The tier of the user whose token is in an Authorization header. Raises `Refusal` 401."""
        return self.user(authorization)[0]

    def user(self, authorization: str) -> tuple[str, bytes]:
        """The same, and a name of the user that tells nothing of the token. Raises `Refusal` 401."""
        scheme, _, token = authorization.strip().partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise unauthorized("A user token is needed: Authorization: Bearer <token>")
        token = token.strip()
        name = self._hash(token)
        known, tier = self._tiers.get(name, (b"", ""))
        if not known or not hmac.compare_digest(known, token.encode()):
            raise unauthorized(
                "Unknown user token",
                next_step="compare the app's pirAuthenticationToken with users in the configuration",
            )
        return tier, name

    def _hash(self, token: str) -> bytes:
        return hashlib.blake2b(token.encode(), key=self._key).digest()


def development_token(path: Path) -> tuple[str, bool]:
    """The user token of the file `path`, and whether it was just made. Raises `ConfigurationError`."""
    try:
        made = not path.exists() and _make(path)
        token = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; make its directory writable") from error
    if not is_user_token(token):
        raise ConfigurationError(f"{path}: holds no base64 token; delete it, and a new one is made")
    return token, made


def _make(path: Path) -> bool:
    """Write a new token, whole or not at all; False when another process was quicker."""
    # 24 bytes need no padding in base64: some tools cut it off.
    token = base64.b64encode(os.urandom(24)).decode()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=".", dir=path.parent)  # 0600
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(token + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
    return True
