"""Whether a profile allows what a signature claims (Apple TN3125, "Entitlements on the allowlist").

A profile lists what may be claimed. A claim is allowed when its key is listed and each of its values matches:

    listed                  claimed             allowed
    true                    true, false         yes; false claims nothing
    false                   true                no
    "TEAM.*"                "TEAM.com.example"  yes; a star stands at the end only
    ["TEAM.*", "other"]     "other"             yes: any of the list
    ["a", "b"]              ["b"]               yes: each claimed value matches one of the list
    "*"                     ["a", "b"]          yes
    {"k": ["a"]}            {"k": ["a"]}        yes: key by key

Which entitlements need no profile at all is another question, and not asked here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["MAX_DEPTH", "MAX_STEPS", "allows"]

MAX_DEPTH = 32
MAX_STEPS = 200_000
"""Comparisons; what needs more of them, a thousand claims against a thousand patterns, is not an entitlement."""


def allows(listed: Any, claimed: Any) -> bool:
    """Whether the value `listed` in a profile's Entitlements allows the value `claimed` by a signature. False for
    values beyond MAX_DEPTH and MAX_STEPS.
    """
    return _matches(listed, claimed, iter(range(MAX_STEPS)), MAX_DEPTH)


def _matches(listed: Any, claimed: Any, steps: Iterator[int], depth: int) -> bool:
    if depth == 0 or next(steps, None) is None:
        return False
    if isinstance(claimed, bool) or isinstance(listed, bool):
        return claimed is False or (claimed is True and listed is True)
    if isinstance(claimed, (list, tuple)):
        return all(_matches(listed, item, steps, depth - 1) for item in claimed)
    if isinstance(listed, (list, tuple)):
        return any(_matches(item, claimed, steps, depth - 1) for item in listed)
    if isinstance(claimed, Mapping):
        return isinstance(listed, Mapping) and all(
            key in listed and _matches(listed[key], item, steps, depth - 1) for key, item in claimed.items()
        )
    if isinstance(listed, str) and isinstance(claimed, str):
        return claimed.startswith(listed[:-1]) if listed.endswith("*") else claimed == listed
    return type(listed) is type(claimed) and bool(listed == claimed)
