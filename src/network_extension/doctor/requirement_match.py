"""What a code requirement compares with: operands, comparisons, and how `codesign -d -r-` writes them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum

__all__ = [
    "ANCHOR",
    "APPLE_EPOCH",
    "LEAF",
    "Comparison",
    "Match",
    "text_of_data",
    "text_of_hash",
    "text_of_position",
]

LEAF, ANCHOR = 0, -1
"""Positions in a chain: the signer's own certificate, and the root. Others count from either end."""
APPLE_EPOCH = datetime(2001, 1, 1, tzinfo=UTC)
"""Times in requirements count seconds from here."""


class Comparison(IntEnum):
    """How a value is compared with the operand (requirement.h, MatchOperation)."""

    EXISTS = 0
    EQUAL = 1
    CONTAINS = 2
    BEGINS_WITH = 3
    ENDS_WITH = 4
    LESS_THAN = 5
    GREATER_THAN = 6
    LESS_EQUAL = 7
    GREATER_EQUAL = 8
    ON = 9
    BEFORE = 10
    AFTER = 11
    ON_OR_BEFORE = 12
    ON_OR_AFTER = 13
    ABSENT = 14

    @property
    def is_of_times(self) -> bool:
        """Whether the operand is a time: seconds since 2001."""
        return Comparison.ON <= self <= Comparison.ON_OR_AFTER


_MATCH_TEXT = {
    Comparison.EXISTS: " /* exists */",
    Comparison.ABSENT: " absent ",
    Comparison.EQUAL: " = {}",
    Comparison.CONTAINS: " ~ {}",
    Comparison.BEGINS_WITH: " = {}*",
    Comparison.ENDS_WITH: " = *{}",
    Comparison.LESS_THAN: " < {}",
    Comparison.GREATER_THAN: " > {}",
    Comparison.LESS_EQUAL: " <= {}",
    Comparison.GREATER_EQUAL: " >= {}",
    Comparison.ON: " = {}",
    Comparison.BEFORE: " < {}",
    Comparison.AFTER: " > {}",
    Comparison.ON_OR_BEFORE: " <= {}",
    Comparison.ON_OR_AFTER: " >= {}",
}


@dataclass(frozen=True, slots=True)
class Match:
    """A comparison; `operand` is None for EXISTS and ABSENT, a number for those of times."""

    comparison: Comparison
    operand: bytes | int | None = None

    def __str__(self) -> str:
        operand = self.operand
        text = text_of_data(operand) if isinstance(operand, bytes) else _time(operand or 0)
        return _MATCH_TEXT[self.comparison].format(text)


def text_of_position(number: int) -> str:
    """Of a certificate in its chain, with the blank in front."""
    return {LEAF: " leaf", ANCHOR: " root"}.get(number, f" {number}")


def text_of_hash(raw: bytes) -> str:
    """In hexadecimal, marked as a hash."""
    return f'H"{raw.hex()}"'


def text_of_data(raw: bytes, *, dots: bool = False) -> str:
    """A plain word without quotes, what can be printed with them, and all else in hexadecimal."""
    if not all(0x20 < byte < 0x7F or byte in b" \t\n\v\f\r" for byte in raw):
        return f"0x{raw.hex()}"
    text = raw.decode("ascii")
    plain = text.replace(".", "") if dots else text
    if text and (plain.isalnum() or not plain) and not text[0].isdigit():
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _time(seconds: int) -> str:
    try:
        moment = APPLE_EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return f"<{seconds} s since 2001>"
    return f"<{moment:%Y-%m-%d %H:%M:%S} +0000>"
