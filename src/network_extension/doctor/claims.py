"""Entitlements as rules ask for them, wherever they stand: in a signature, or in a file of the sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .provider_kinds import ENTITLEMENT

__all__ = ["MISSPELT_ENTITLEMENTS", "Claims", "EntitlementsFile"]

MISSPELT_ENTITLEMENTS = (
    "com.apple.developer.networkextension",
    "com.apple.developer.network-extension",
    "com.apple.developer.network-extensions",
    "com.apple.developer.networking.network-extension",
    "com.apple.developer.networking.network-extensions",
    "com.apple.developer.networking.networkextensions",
    "com.apple.developer.networking.networkExtension",
    "com.apple.networkextension",
)
"""Keys that were written where the entitlement's was meant."""


class Claims:
    """Entitlements, wherever they stand: in a signature, or in a file of the sources."""

    path: str
    """For findings."""
    entitlements: Mapping[str, Any]

    def claims(self, key: str) -> bool:
        """Whether a boolean entitlement is true."""
        return self.entitlements.get(key) is True

    @property
    def values(self) -> list[str]:
        """Values of the Network Extension entitlement that are texts; [] where it is no array."""
        return _texts(self.entitlements.get(ENTITLEMENT))

    @property
    def misspelt(self) -> list[str]:
        """Keys that are claimed in place of the entitlement's."""
        return [key for key in MISSPELT_ENTITLEMENTS if key in self.entitlements]

    @property
    def groups(self) -> list[str]:
        """App groups that are claimed."""
        return _texts(self.entitlements.get("com.apple.security.application-groups"))


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


@dataclass(eq=False)
class EntitlementsFile(Claims):
    """An .entitlements file of the sources: variables in it are not filled in yet."""

    path: str
    entitlements: Mapping[str, Any]
    comment_line: int = 0
    """Where the first comment stands, from 1; 0: there is none."""
