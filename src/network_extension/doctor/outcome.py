"""How one check of a signature, a chain or a profile ended."""

from __future__ import annotations

from enum import Enum

__all__ = ["Outcome"]


class Outcome(Enum):
    """The result of a check. A check never raises: a broken signature is a finding, not a failure to read."""

    HOLDS = "holds"
    FAILS = "fails"
    ABSENT = "absent"
    """What would have been checked is not there: an attribute, a certificate, the content."""
    UNSUPPORTED = "unsupported"
    """An algorithm or a key that Apple's formats do not use, and this reader does not know."""

    def __bool__(self) -> bool:
        return self is Outcome.HOLDS

    @classmethod
    def of(cls, holds: bool) -> Outcome:
        """HOLDS or FAILS."""
        return cls.HOLDS if holds else cls.FAILS

    @classmethod
    def all(cls, outcomes: list[Outcome]) -> Outcome:
        """The worst of `outcomes`: FAILS before UNSUPPORTED before ABSENT before HOLDS; HOLDS when there are none."""
        return next((worst for worst in (cls.FAILS, cls.UNSUPPORTED, cls.ABSENT) if worst in outcomes), cls.HOLDS)
