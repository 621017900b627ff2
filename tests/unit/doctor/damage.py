"""Bytes that are damaged as files are: bits flipped, parts cut out, repeated, put elsewhere, or all made up."""

from __future__ import annotations

import struct

from hypothesis import strategies as st

NUMBERS = (0, 1, 7, 8, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@st.composite
def damaged(draw: st.DrawFn, data: bytes, within: int | None = None) -> bytes:
    """`data` with one to four faults in its first `within` bytes."""
    raw = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(min(within or len(raw), len(raw)) - 1, 0)))
        length = draw(st.integers(0, 64))
        match draw(st.sampled_from(["flip", "flip", "number", "number", "cut", "repeat", "move", "end"])):
            case "flip" if raw:
                raw[at] ^= 1 << draw(st.integers(0, 7))
            case "number":
                number = draw(st.sampled_from(NUMBERS) | st.integers(0, 1 << 16))
                raw[at : at + 4] = struct.pack(draw(st.sampled_from("<>")) + "I", number)[: len(raw) - at]
            case "cut":
                del raw[at : at + length]
            case "repeat":
                raw[at:at] = raw[at : at + length]
            case "move":
                other = draw(st.integers(0, len(raw)))
                raw[at : at + length] = raw[other : other + length]
            case "end":
                del raw[at:]
    return bytes(raw)
