"""What is served at a moment: for each use case its versions, the newest first.

A catalogue never changes. A reload makes another one, and requests that are under way keep theirs, so that no request
sees half of an update. The last versions stay, because devices name the version that they ask (configuration_hash), and
fetch a new one only when they are told that theirs is gone (410).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ...pir.proto.api_pb2 import PIRConfig
from ...pir.proto.he_pb2 import EvaluationKeyConfig
from ...pir.proto.pir_pb2 import EncryptedIndices, PIRResponse
from .refusals import Refusal, bad_request

if TYPE_CHECKING:
    from ...pir.he.keys import EvaluationKey


class ServedShard(Protocol):
    """What `pir.shard.Shard` does, as far as the service needs it."""

    def answer(self, query: EncryptedIndices, key: EvaluationKey, threads: int = 1) -> PIRResponse:
        """Compute the answer. Raises `PirError` for a query or a key that does not fit."""


@dataclass(frozen=True, slots=True)
class Prefilter:
    """The Bloom filter that belongs to a version."""

    content: bytes = field(repr=False)
    """Apple's property list."""
    tag: str


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """One version of one use case's database."""

    use_case: str
    label: str
    """For people: version 3, or the file's stem."""
    config: PIRConfig
    config_id: bytes
    key_config: EvaluationKeyConfig
    key_identifier: bytes
    """The hash of `key_config`: the name of the evaluation keys that fit."""
    shards: tuple[ServedShard, ...] = field(repr=False)
    prefilter: Prefilter | None = None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Versions by use case, the newest first, at least one each."""

    versions: Mapping[str, tuple[ServedVersion, ...]] = field(default_factory=dict)

    def newest(self, use_case: str) -> ServedVersion:
        """What /config describes. Raises `Refusal` 404."""
        try:
            return self.versions[use_case][0]
        except KeyError:
            raise Refusal(404, "Use case not found") from None

    def asked(self, use_case: str, config_id: bytes) -> ServedVersion:
        """The version that a query means. Raises `Refusal`: 400 for an unknown use case, 410 for a version that is
        not served any more.
        """
        if use_case not in self.versions:
            raise bad_request("Unknown use case", next_step="see that both sides name the same use case")
        for version in self.versions[use_case]:
            if version.config_id == config_id:
                return version
        raise Refusal(410, "The configuration is not served any more: fetch it again")

    def with_key(self, identifier: bytes) -> ServedVersion | None:
        """A version whose evaluation keys have this name; all of these take the same keys."""
        for versions in self.versions.values():
            for version in versions:
                if version.key_identifier == identifier:
                    return version
        return None
