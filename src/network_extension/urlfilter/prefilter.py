"""The prefilter: the Bloom filter by which a device decides which URLs it asks the server about.

Specification §3.1, which was verified against Apple's sample and the released system:

    h1 = FNV-1a of the string's UTF-8          h2 = MurmurHash3_x86_32 of the same, with the filter's seed
    index_i = ((h1 + i * h2) mod 2^32) mod bit_count,   i = 0 … hash_count - 1
    bit     = data[index >> 3] & (1 << (index & 7))

A string all of whose bits are set may be in the list; one with a bit that is not set is certainly not.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field

from ..errors import ConfigurationError
from .bloom_hashes import BloomHash, bit_indices, hash_pair

LARGEST_BIT_COUNT = 0xFFFFFFFF
"""Devices count bits in 32 bits."""
LARGEST_HASH_COUNT = 1024
"""Far beyond what is of use: a rate of 1e-9 takes 30. A bound for files from elsewhere."""
DEFAULT_TOLERANCE = 0.001
"""Apple's sample's: one URL of a thousand that is on no list is asked about all the same."""


class PrefilterError(ConfigurationError):
    """A prefilter, or a file that is to be one, that no device would take; the message says which part of it."""


@dataclass(frozen=True, slots=True)
class TestedBit:
    """One of the bits that a string stands or falls with."""

    number: int
    """i of the formula, from 0 on."""
    index: int
    """The bit's index in the filter."""
    byte: int
    """The byte that holds it, and `mask` the bit in that byte."""
    mask: int
    is_set: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a string fares in a filter, bit by bit."""

    text: str
    first_hash: int
    """FNV-1a, or FNV-1 in a filter of the beta's."""
    second_hash: int
    """MurmurHash3."""
    bits: tuple[TestedBit, ...]

    @property
    def is_member(self) -> bool:
        """Whether every bit is set: the device asks the server."""
        return all(bit.is_set for bit in self.bits)


@dataclass(frozen=True, slots=True)
class Prefilter:
    """A Bloom filter as devices take it (NEURLFilterPrefilter).

    Raises PrefilterError for what a device refuses as "Invalid params" (a seed, a number of bits or of hashes of 0, no
    data) or what contradicts itself. `tag` names the content: two filters with the same bits and parameters have the
    same. `hash` is BloomHash.FNV_1 only in a filter that was read from a file of the beta's.
    """

    data: bytes = field(repr=False)
    bit_count: int
    hash_count: int
    murmur_seed: int
    tag: str = ""
    item_count: int | None = None
    """How many strings were put in, where the file says so."""
    tolerance: float | None = None
    """The rate of false positives that it was made for, where the file says so."""
    hash: BloomHash = BloomHash.FNV_1A

    def __post_init__(self) -> None:
        self._check("bit_count", self.bit_count, LARGEST_BIT_COUNT)
        self._check("hash_count", self.hash_count, LARGEST_HASH_COUNT)
        self._check("murmur_seed", self.murmur_seed, 0xFFFFFFFF)
        if len(self.data) != (self.bit_count + 7) // 8:
            raise PrefilterError(
                f"prefilter of {self.bit_count} bits with {len(self.data)} bytes of data instead of"
                f" {(self.bit_count + 7) // 8}: truncated, or the parameters are another filter's"
            )
        if not self.tag:
            object.__setattr__(self, "tag", self._content_tag())

    @staticmethod
    def _check(name: str, value: object, largest: int) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= largest:
            shown = value if isinstance(value, int) and abs(value) < 1 << 64 else type(value).__name__
            raise PrefilterError(f"prefilter with {name} {shown}: devices take 1 to {largest}, and refuse all else")

    def _content_tag(self) -> str:
        parameters = struct.pack("<III", self.bit_count, self.hash_count, self.murmur_seed)
        return hashlib.sha256(parameters + hashlib.sha256(self.data).digest()).hexdigest()

    def __contains__(self, text: str | bytes) -> bool:
        first, second = hash_pair(_as_bytes(text), self.murmur_seed, self.hash)
        return all(
            self.data[index >> 3] & (1 << (index & 7))
            for index in bit_indices(first, second, self.hash_count, self.bit_count)
        )

    def explain(self, text: str) -> Explanation:
        """Each bit of one string; membership is the same as `text in prefilter`."""
        first, second = hash_pair(_as_bytes(text), self.murmur_seed, self.hash)
        bits = tuple(
            TestedBit(number, index, index >> 3, 1 << (index & 7), bool(self.data[index >> 3] & (1 << (index & 7))))
            for number, index in enumerate(bit_indices(first, second, self.hash_count, self.bit_count))
        )
        return Explanation(text, first, second, bits)

    @property
    def fill(self) -> float:
        """The part of all bits that is set, 0 to 1; a filter of the best size has 0.5."""
        return int.from_bytes(self.data, "little").bit_count() / self.bit_count

    @property
    def false_positive_rate(self) -> float:
        """The part of strings on no list that it lets through to the server, by its present bits."""
        rate: float = self.fill**self.hash_count
        return rate


def _as_bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
