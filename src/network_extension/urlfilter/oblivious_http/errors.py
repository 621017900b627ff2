"""What goes wrong with Oblivious HTTP. A message never holds what a request carries."""

from __future__ import annotations

from ...errors import PeerError


class ObliviousError(PeerError):
    """Base class: the other side sent what the protocol does not allow."""


class MalformedMessage(ObliviousError):
    """Bytes that are no encapsulated message, key configuration or Binary HTTP message, or too large a one."""


class UnknownKey(ObliviousError):
    """A request for a key, or with algorithms, that the gateway does not have: the client fetches the keys again."""


class DecryptionFailed(ObliviousError):
    """What came is not what was sent: another key, or changed on the way."""
