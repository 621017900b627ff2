"""The state of a flow in three bits of its connection's mark, and how a verdict carries it there (`filter_chains`)."""

from __future__ import annotations

from enum import IntEnum

from .nfqueue import ACCEPT, REPEAT

MARK_SHIFT, MARK_MASK = 28, 0x70000000
"""The bits, unless others are asked for."""


class FlowMark(IntEnum):
    """The state of a flow, in the bits `mask` of its connection's mark."""

    UNDECIDED = 0
    ALLOWED = 1
    HOLD_OUT = 2
    HOLD_IN = 3
    HOLD_BOTH = 4
    DROPPED = 5
    REFUSED = 6
    OFFERED = 7
    """Set by `install` only, with `established="offer"`."""


def verdict(packet_mark: int, state: FlowMark, mask: int = MARK_MASK) -> tuple[int, int | None]:
    """The queue's verdict and packet mark that give a flow a state and then do with the packet what the state says.

    The packet on which a flow is put into a HOLD state passes. `UNDECIDED` stands for "as it is": this packet passes.
    """
    if state is FlowMark.UNDECIDED:
        return ACCEPT, None
    return REPEAT, packet_mark & ~mask & 0xFFFFFFFF | state << shift(mask)


def shift(mask: int) -> int:
    """The number of the lowest bit of a mask."""
    return (mask & -mask).bit_length() - 1
