"""How many tokens a user gets: who shares a user token with the world must not empty the service."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from .refusals import Refusal

HOUR = 3600.0
FEW = 1024


class IssuanceLimit:
    """`per_hour` tokens for each user, all at once if none were taken for an hour; 0: without a limit.

    Users are as many as the configuration names; who is away for an hour is forgotten. `clock` gives seconds.
    """

    def __init__(self, per_hour: int, clock: Callable[[], float]) -> None:
        self._per_hour, self._clock = per_hour, clock
        self._full_at: dict[bytes, float] = {}
        """When a user may take all of them again: each token puts it off."""
        self._look_at = FEW

    def take(self, user: bytes) -> None:
        """One token. Raises `Refusal` 429 with the time after which there is another one."""
        if not self._per_hour:
            return
        now, each = self._clock(), HOUR / self._per_hour
        full_at = max(self._full_at.get(user, now), now) + each
        if full_at > now + HOUR + each / 1000:
            raise Refusal(429, "Too many tokens for this user", retry_after=ceil(full_at - now - HOUR))
        self._full_at[user] = full_at
        if len(self._full_at) > self._look_at:
            self._full_at = {name: at for name, at in self._full_at.items() if at > now}
            self._look_at = max(FEW, 2 * len(self._full_at))
