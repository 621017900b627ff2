"""What an operator may change, with defaults that need no change on a machine of any size."""

from __future__ import annotations

import os
from dataclasses import dataclass

from . import bodies, evaluation_keys


def usable_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """Limits of one instance."""

    workers: int = 0
    """Lookups computed at a time; 0: one for each core."""
    queue_limit: int = 128
    """Lookups that wait; at 15 a second, the last one waits for 9 seconds."""
    patience: float = 20.0
    """Seconds that a lookup waits at most. Clients have given up by then."""
    tokens_per_hour: int = 0
    """Tokens that one user token gets in an hour; 0: as many as it asks for."""
    key_cache_bytes: int = evaluation_keys.CACHE_BYTES
    body_bytes: int = bodies.MOST_BYTES
    all_bodies_bytes: int = bodies.ALL_BYTES
    body_seconds: float = bodies.SECONDS
    watch_seconds: float = 2.0
    """How often to look whether DIR/current is another version."""
    housekeeping_seconds: float = 600.0
    """How often to forget what has expired."""

    @property
    def lookups_at_a_time(self) -> int:
        """`workers`, or the number of cores."""
        return self.workers or usable_cores()
