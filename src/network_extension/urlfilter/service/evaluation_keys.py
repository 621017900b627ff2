"""Evaluation keys: stored as they came, kept parsed in memory while there is room, and never another client's.

A key of 0.8 MB becomes 1.8 MB of arrays, and reading it takes a tenth of a lookup; so those that were used last stay
in memory. Before each use the store is asked whether the copy is still the owner's key: with several instances another
one may have got a newer key. The store knows owners by a hash only, so that it holds no User-Identifier.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from ...pir.errors import PirError
from ...pir.proto.api_pb2 import EvaluationKey as EvaluationKeyMessage
from ...pir.proto.he_pb2 import EvaluationKeyConfig, SerializedEvaluationKey
from ..stores import KeyRecord, Store
from .catalogue import Catalogue, ServedVersion
from .refusals import EVALUATION_KEY_NOT_FOUND, bad_request

if TYPE_CHECKING:
    from ...pir.he.keys import EvaluationKey

CACHE_BYTES = 512 << 20
KEPT_FOR = 9 * 86_400.0
"""Seconds. A device's key expires after 7 days and is replaced a day before (specification §3.3); two more, for clocks
and for queries that were under way.
"""


class KeyReader(Protocol):
    """From the wire to arrays."""

    def read_key(self, config: EvaluationKeyConfig, message: SerializedEvaluationKey) -> EvaluationKey:
        """The key. Raises `PirError` when it is not one of this configuration."""

    def key_bytes(self, key: EvaluationKey) -> int:
        """What it takes in memory."""


class EvaluationKeys:
    """Keys of all clients."""

    def __init__(
        self,
        store: Store,
        reader: KeyReader,
        clock: Callable[[], float],
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._store = store
        self._reader = reader
        self._clock = clock
        self._most_bytes = cache_bytes
        self._cache: OrderedDict[bytes, tuple[bytes, EvaluationKey, int]] = OrderedDict()
        self.cached_bytes = 0
        """What parsed keys take in memory now."""
        self.hits = self.misses = 0

    async def put(self, user: str, message: EvaluationKeyMessage, catalogue: Catalogue) -> None:
        """Store a client's key once it is known to fit. Raises `Refusal` 400 when it fits nothing that is served, and
        `StoreUnavailable`.
        """
        identifier = message.metadata.identifier
        version = catalogue.with_key(identifier)
        if version is None:
            raise bad_request("Evaluation key for a configuration that is not served: fetch the configuration again")
        parsed = await asyncio.to_thread(self._parsed, version, message.evaluation_key)
        content = message.evaluation_key.SerializeToString()
        digest = hashlib.sha256(content).digest()[:16]
        now = self._clock()
        owner = _owner(user, identifier)
        await self._store.put_key(owner, KeyRecord(int(now), digest), content, now + KEPT_FOR)
        self._remember(owner, digest, parsed)

    async def get(self, user: str, version: ServedVersion) -> EvaluationKey:
        """The client's key for this version. Raises `Refusal` 400 when it is not there, and `StoreUnavailable`."""
        owner = _owner(user, version.key_identifier)
        record = await self._store.key_record(owner)
        if record is None:
            raise bad_request(
                EVALUATION_KEY_NOT_FOUND,
                cause="the store has no evaluation key of this client for this configuration",
                next_step="none: the client sends it again",
            )
        if cached := self._cache.get(owner):
            if cached[0] == record.digest:
                self._cache.move_to_end(owner)
                self.hits += 1
                return cached[1]
            self._forget(owner)
        self.misses += 1
        return await self._fetch(owner, version)

    async def inline(self, message: EvaluationKeyMessage, version: ServedVersion) -> EvaluationKey:
        """A key that came with a query (PIRRequest.evaluation_key); it is used and not kept. Raises `Refusal` 400."""
        if message.metadata.identifier not in (b"", version.key_identifier):
            raise bad_request("The evaluation key in the request is for another configuration")
        return await asyncio.to_thread(self._parsed, version, message.evaluation_key)

    async def timestamps(self, user: str, versions: Iterable[ServedVersion]) -> dict[bytes, int]:
        """By identifier: when the client's key for these versions was stored. Those that are not there are left out."""
        found: dict[bytes, int] = {}
        for identifier in {version.key_identifier for version in versions}:
            if record := await self._store.key_record(_owner(user, identifier)):
                found[identifier] = record.timestamp
        return found

    async def _fetch(self, owner: bytes, version: ServedVersion) -> EvaluationKey:
        stored = await self._store.key(owner)
        if stored is None:
            raise bad_request(
                EVALUATION_KEY_NOT_FOUND, next_step="none: it has just expired; the client sends it again"
            )
        record, content = stored
        parsed = await asyncio.to_thread(self._parsed, version, SerializedEvaluationKey.FromString(content))
        self._remember(owner, record.digest, parsed)
        return parsed

    def _parsed(self, version: ServedVersion, message: SerializedEvaluationKey) -> EvaluationKey:
        try:
            return self._reader.read_key(version.key_config, message)
        except PirError as error:
            raise bad_request("The evaluation key does not fit its configuration", cause=str(error)) from error

    def _remember(self, owner: bytes, digest: bytes, key: EvaluationKey) -> None:
        self._forget(owner)
        size = self._reader.key_bytes(key)
        self._cache[owner] = (digest, key, size)
        self.cached_bytes += size
        while self.cached_bytes > self._most_bytes:
            self._forget(next(iter(self._cache)))

    def _forget(self, owner: bytes) -> None:
        if found := self._cache.pop(owner, None):
            self.cached_bytes -= found[2]


def _owner(user: str, identifier: bytes) -> bytes:
    """The name of a key in the store: Apple's "{User-Identifier}/{identifier}" (§1.3), hashed."""
    return hashlib.sha256(user.encode() + b"/" + identifier).digest()
