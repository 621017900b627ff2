"""Which hash was a filter made with? What is wrong with a filter of which its maker says it works?

A list and a filter made of it say so together: every string of the list is a member under the right reading, and
almost none under any other. The wrong readings tried here are those that tools are known to write (specification §3.1,
pir-service-example issue 100): FNV-1 for FNV-1a, bits from the top of each byte, strings in another form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

from .bloom_hashes import BloomHash
from .bloom_kernels import count_members, hash_strings
from .prefilter import Prefilter

SAMPLE = 10_000
"""Strings of the list that are tried: enough for any verdict."""
SATURATED = 0.9
"""From this part of set bits on nearly everything is a member."""

_FORMS: dict[str, Callable[[str], str]] = {
    "as they are": lambda row: row,
    "with https:// before": lambda row: f"https://{row}",
    "with http:// before": lambda row: f"http://{row}",
    "with www. before": lambda row: f"www.{row}",
    "with / behind": lambda row: f"{row}/",
    "with a newline behind": lambda row: f"{row}\n",
    "in capitals": str.upper,
}


class Reading(NamedTuple):
    """One way to read a filter, and the part of the list (0 to 1) whose strings are members so."""

    hash: BloomHash
    high_bit_first: bool
    form: str
    members: float

    @property
    def is_right(self) -> bool:
        """Whether released devices read filters so."""
        return self.hash is BloomHash.FNV_1A and not self.high_bit_first and self.form == "as they are"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a filter turned out to be. `reading` is the one that explains it, None where none does."""

    verdict: str
    """One sentence for people."""
    reading: Reading | None
    is_sound: bool
    """Whether a released device finds in it what was put in, and little else."""


def diagnose(prefilter: Prefilter, rows: Iterable[str]) -> Diagnosis:
    """Tell how a filter was made, by the strings of its list (the first SAMPLE of them)."""
    sample = list(islice(rows, SAMPLE))
    if not sample:
        return Diagnosis("the list is empty, so it says nothing about the filter", None, False)
    if prefilter.fill >= SATURATED:
        return Diagnosis(
            f"{prefilter.fill:.0%} of its bits are set: it takes nearly every URL for a member, and devices ask the"
            " server about all of them. It was made for far fewer strings than it holds, or its bits are no filter",
            None,
            False,
        )
    readings = _readings(prefilter, sample)
    best = max(readings, key=lambda reading: (reading.members, reading.is_right))
    if best.members < 1:
        return _of_another_list(prefilter, readings[0])
    return Diagnosis(_sentence(best), best, best.is_right)


def _readings(prefilter: Prefilter, sample: list[str]) -> list[Reading]:
    """All of them, the right one first."""
    data = np.frombuffer(prefilter.data, np.uint8)
    readings = []
    for form, spell in _FORMS.items():
        strings = [spell(row).encode("utf-8", "surrogateescape") for row in sample]
        ends = np.cumsum(np.fromiter(map(len, strings), np.int64, len(strings)))
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
        buffer = np.frombuffer(b"".join(strings), np.uint8)
        for kind in BloomHash:
            pairs = hash_strings(buffer, starts, ends, prefilter.murmur_seed, kind is BloomHash.FNV_1A)
            for high_bit_first in (False, True):
                members = count_members(pairs, prefilter.hash_count, prefilter.bit_count, data, high_bit_first)
                readings.append(Reading(kind, high_bit_first, form, members / len(strings)))
    return readings


def _sentence(reading: Reading) -> str:
    if reading.is_right:
        return "made with FNV-1a and MurmurHash3 as released systems test it; the whole list is in it"
    faults = []
    if reading.hash is BloomHash.FNV_1:
        faults.append("it was made with FNV-1 (multiply, then xor), as betas of iOS 26 tested it, instead of FNV-1a")
    if reading.high_bit_first:
        faults.append("its bits are counted from the top of each byte instead of from the bottom")
    if reading.form != "as they are":
        faults.append(f"its strings were put in {reading.form}, and devices test them without")
    return f"released systems find nothing of the list in it: {'; '.join(faults)}"


def _of_another_list(prefilter: Prefilter, right: Reading) -> Diagnosis:
    chance = prefilter.false_positive_rate
    if right.members > 2 * chance + 0.01:
        return Diagnosis(
            f"made with FNV-1a, but of another list: {1 - right.members:.1%} of the strings given are not in it",
            right,
            False,
        )
    return Diagnosis(
        "no known way of making a filter explains it: not of this list, of another seed, or with a hash of its own",
        None,
        False,
    )
