"""On which processors an engine and its providers run. Sans-IO: times that the kernel counts come in, a set goes out.

Engine and provider hand each flow to and fro. On one processor that is a switch between two processes; on two it is an
interrupt to another processor each time, which a virtual machine pays for with exits. Side by side on one of two they
carried a fifth more connections here, and each a tenth sooner. The price: together they never have more than one
processor's time. So they are together while that is enough, and apart when it is not and there is more to have.

    TOGETHER on one processor ──▶ APART      they fill it, and half of another one is idle
    TOGETHER on one processor ──▶ another    others need it, and half a processor less another one
    APART                     ──▶ TOGETHER   they need little more than half a processor
    anything                  ──▶ APART      a provider has threads or processes of its own: they would be held too
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

FULL, LITTLE, WORTH_IT = 0.9, 0.6, 0.5
"""Shares of one processor's time."""
NOTHING = 0.05


class Look(NamedTuple):
    """What the processors did between two looks, in shares of that time."""

    busy: Mapping[int, float]
    """How busy each processor was that may be used."""
    own: float
    """What engine and providers took, of all processors."""
    alone: bool
    """Whether the providers have no threads or processes of their own."""


class ProcessorChoice:
    """Chooses among `allowed` processors."""

    def __init__(self, allowed: frozenset[int]) -> None:
        self._allowed = allowed
        self.chosen = allowed

    @property
    def is_together(self) -> bool:
        """Whether one processor is chosen out of several."""
        return len(self.chosen) == 1 < len(self._allowed)

    def look(self, look: Look) -> frozenset[int]:
        """The processors to run on from now on."""
        if len(self._allowed) > 1:
            busy = {number: look.busy.get(number, 1.0) for number in self._allowed}
            self.chosen = self._choose(busy, look)
        return self.chosen

    def _choose(self, busy: dict[int, float], look: Look) -> frozenset[int]:
        if not look.alone:
            return self._allowed
        if not self.is_together:
            return frozenset({_idlest(busy)}) if look.own < LITTLE else self._allowed
        (here,) = self.chosen
        if look.own < NOTHING:
            return self.chosen
        there = _idlest({number: share for number, share in busy.items() if number != here})
        if look.own > FULL and busy[there] < 1 - WORTH_IT:
            return self._allowed
        others = busy[here] - look.own
        return frozenset({there}) if others > busy[there] + WORTH_IT else self.chosen


def _idlest(busy: dict[int, float]) -> int:
    return min(busy, key=lambda number: (busy[number], number))
