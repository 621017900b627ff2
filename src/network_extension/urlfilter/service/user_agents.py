"""What a system can read, by its User-Agent (specification §1.2)."""

from __future__ import annotations

import re

_SYSTEMS = (
    (re.compile(r"iOS/(\d{1,4})\.(\d{1,4})"), (18, 2)),
    (re.compile(r"Macintosh; OS X (\d{1,4})\.(\d{1,4})"), (15, 2)),
)
"""Where the version stands, and the first one that reads `repeated_shard_config` and shards by double_mod."""


def reads_repeated_shards(user_agent: str) -> bool:
    """Whether this system takes one description for all shards, and other sharding than by SHA-256. What is not
    Apple's is a client that was made for this protocol: it does.
    """
    for pattern, first in _SYSTEMS:
        if found := pattern.search(user_agent):
            return (int(found[1]), int(found[2])) >= first
    return True
