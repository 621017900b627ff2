"""What every store does, so that the service does not know which one it has.

What a call has acknowledged by returning survives the end of the process, however it ends (kill -9 included); what the
machine's power failure leaves is each store's own matter and said there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ...errors import NetworkExtensionError


class StoreUnavailable(NetworkExtensionError):
    """The store does not answer, or cannot write. The request failed and nothing of it is kept or acknowledged; the
    same request may succeed later. The message names the store without its password, the cause, and the next step.
    """

    code = 503


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is known of a stored evaluation key without reading it (it has 0.3 to 0.8 MB)."""

    timestamp: int
    """When it was stored, in seconds since 1970: KeyStatus.timestamp of /config (specification §1.3)."""
    digest: bytes
    """16 bytes that are others as soon as the owner stores another key: what a parsed copy in memory is checked by."""


class Store(Protocol):
    """State that outlives the process. Each call is atomic, and each may raise `StoreUnavailable`.

    `until` and `now` are seconds since 1970. What has expired may be there still, until `expire` is called.
    """

    async def document(self, name: str) -> bytes | None:
        """A small value by its name (a set of keys); None when there is none."""

    async def replace_document(self, name: str, old: bytes | None, new: bytes) -> bool:
        """Write `new` if the value is still `old` (None: absent); False when another instance was quicker."""

    async def put_key(self, owner: bytes, record: KeyRecord, key: bytes, until: float) -> None:
        """Keep a serialized evaluation key in place of the owner's last one."""

    async def key_record(self, owner: bytes) -> KeyRecord | None:
        """What is known of the owner's key; None when there is none."""

    async def key(self, owner: bytes) -> tuple[KeyRecord, bytes] | None:
        """The owner's key as it was stored; None when there is none."""

    async def spend(self, nonce: bytes, until: float) -> bool:
        """Mark a token's nonce as used. True for exactly one caller, over all instances; False for all others."""

    async def expire(self, now: float) -> int:
        """Forget what was to be kept until before `now`; how many keys and nonces that were."""

    async def check(self) -> None:
        """Nothing, if the store would answer."""

    async def warnings(self) -> list[str]:
        """What endangers keys and tokens, or has cost some since the last time, each with what mends it."""

    async def close(self) -> None:
        """Finish what was begun and let go of files and connections."""
