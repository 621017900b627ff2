"""Versions of operating systems and SDKs, as load commands and code directories pack them."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["OSVersion"]


class OSVersion(NamedTuple):
    """A version that compares by its numbers: 10.15 is before 11.0. `str()` leaves out a patch number of 0."""

    major: int
    minor: int = 0
    patch: int = 0

    @classmethod
    def unpacked(cls, packed: int) -> OSVersion:
        """From 32 bits xxxx.yy.zz (<mach-o/loader.h>, version_min_command)."""
        return cls(packed >> 16, packed >> 8 & 0xFF, packed & 0xFF)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}" if self.patch else f"{self.major}.{self.minor}"
