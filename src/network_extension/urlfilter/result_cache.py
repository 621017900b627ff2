"""The answers of the service that a client remembers, so that it asks once about what is visited often. Sans-IO."""

from __future__ import annotations

from collections import OrderedDict

MOST_RESULTS = 1000
RESULT_LIFETIME = 4320 * 60.0
"""Seconds: three days (§3.3)."""


class ResultCache:
    """Strings and whether the service has them. The least recently used goes first."""

    __slots__ = ("_lifetime", "_most", "_results")

    def __init__(self, most: int = MOST_RESULTS, lifetime: float = RESULT_LIFETIME) -> None:
        self._most, self._lifetime = most, lifetime
        self._results: OrderedDict[str, tuple[bool, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._results)

    def get(self, text: str, now: float) -> bool | None:
        """Whether the service has it; None if that is not known, or not any more."""
        found = self._results.get(text)
        if found is None:
            return None
        is_listed, expires = found
        if expires <= now:
            del self._results[text]
            return None
        self._results.move_to_end(text)
        return is_listed

    def put(self, text: str, is_listed: bool, now: float) -> None:
        """Remember an answer."""
        self._results[text] = (is_listed, now + self._lifetime)
        self._results.move_to_end(text)
        while len(self._results) > self._most:
            self._results.popitem(last=False)

    def clear(self) -> None:
        """Forget all (resetPIRCache)."""
        self._results.clear()
