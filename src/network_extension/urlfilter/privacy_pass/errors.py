"""What goes wrong with tokens. A message never holds a token, a nonce or a user token."""

from __future__ import annotations

from ...errors import PeerError


class PrivacyPassError(PeerError):
    """Base class: the other side sent what Privacy Pass does not allow. `status` is what a server answers with."""

    status = 400


class MalformedMessage(PrivacyPassError):
    """Bytes or a header that are no such message."""


class WrongRequest(PrivacyPassError):
    """A token request of another type, for another key, or of another size (RFC 9578 §5.2 and 6.2: 422)."""

    status = 422


class RefusedToken(PrivacyPassError):
    """A token that does not count: of an unknown key, with a false signature, or spent before."""

    status = 401
