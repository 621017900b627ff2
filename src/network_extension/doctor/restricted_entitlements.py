"""Which entitlements need a provisioning profile that allows them (Apple TN3125)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["restricted"]

_ON_MAC = ("com.apple.developer.", "com.apple.private.", "com.apple.vm.networking", "com.apple.application-identifier")
_ON_MAC_ALONE = ("keychain-access-groups", "application-identifier")


def restricted(entitlements: Mapping[str, Any], on_mac: bool) -> list[str]:
    """The keys that a profile has to allow, in their order. A claim of false claims nothing.

    On iOS and its kin that is all of them. On a Mac the sandbox, the hardened runtime and a developer's own keys are
    free; app groups that begin with `group.` are judged by a rule of their own.
    """
    claimed = [key for key, value in entitlements.items() if value is not False]
    if not on_mac:
        return claimed
    return [key for key in claimed if key.startswith(_ON_MAC) or key in _ON_MAC_ALONE]
