"""Which provider runs where, packed how, since when, and for whom: Apple's TN3134 (revision of 2025-08-19) as data."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Platform(StrEnum):
    """What a build is for."""

    IOS = "ios"
    """iPadOS too."""
    MACOS = "macos"
    TVOS = "tvos"
    VISIONOS = "visionos"
    CATALYST = "catalyst"
    IOS_ON_MAC = "ios-on-mac"


class Packaging(StrEnum):
    """What a provider is packed as."""

    APP_EXTENSION = "app extension"
    SYSTEM_EXTENSION = "system extension"
    NONE = "no extension"


class Channel(StrEnum):
    """How a build reaches its users."""

    DEVELOPMENT = "development"
    DEVELOPER_ID = "developer-id"
    APP_STORE = "app-store"
    """TestFlight too."""


class Deployment(NamedTuple):
    """One row of the table."""

    provider: str
    platform: Platform
    packaging: Packaging
    since: str
    """The first version of the system."""
    app_store_only: bool = False
    needs: str = ""
    """Which devices it runs on once it comes from TestFlight or the App Store; empty for all."""


_APPEX, _SYSEX = Packaging.APP_EXTENSION, Packaging.SYSTEM_EXTENSION
_IOS, _MAC, _TV, _VISION = Platform.IOS, Platform.MACOS, Platform.TVOS, Platform.VISIONOS
_CATALYST, _ON_MAC = Platform.CATALYST, Platform.IOS_ON_MAC
_MANAGED = "managed devices, whose apps MDM has installed"
_PER_APP = "per-app mode: managed devices"

TABLE: tuple[Deployment, ...] = (
    Deployment("packet-tunnel", _IOS, _APPEX, "9.0", needs=f"all devices; {_PER_APP}"),
    Deployment("packet-tunnel", _VISION, _APPEX, "1.0", needs=f"all devices; {_PER_APP}, since 1.1"),
    Deployment("packet-tunnel", _TV, _APPEX, "17.0", needs="all devices; no per-app mode"),
    Deployment("packet-tunnel", _MAC, _APPEX, "10.11", app_store_only=True),
    Deployment("packet-tunnel", _MAC, _SYSEX, "10.15"),
    Deployment("packet-tunnel", _CATALYST, _APPEX, "10.15", app_store_only=True),
    Deployment("packet-tunnel", _ON_MAC, _APPEX, "11.0", app_store_only=True),
    Deployment("app-proxy", _IOS, _APPEX, "9.0", needs=_MANAGED),
    Deployment("app-proxy", _VISION, _APPEX, "1.1", needs=_MANAGED),
    Deployment("app-proxy", _MAC, _APPEX, "10.11", app_store_only=True),
    Deployment("app-proxy", _MAC, _SYSEX, "10.15"),
    Deployment("app-proxy", _CATALYST, _APPEX, "10.15", app_store_only=True),
    Deployment("app-proxy", _ON_MAC, _APPEX, "11.0", app_store_only=True),
    Deployment("transparent-proxy", _MAC, _APPEX, "10.15", app_store_only=True),
    Deployment("transparent-proxy", _MAC, _SYSEX, "10.15"),
    Deployment(
        "content-filter", _IOS, _APPEX, "9.0",
        needs="supervised devices; since 15.0 a child's with Screen Time; since 16.0 managed ones, per app",
    ),
    Deployment("content-filter", _VISION, _APPEX, "1.1", needs="managed devices, per app; since 2.0 supervised ones"),
    Deployment("content-filter", _MAC, _SYSEX, "10.15"),
    Deployment("packet-filter", _MAC, _SYSEX, "10.15"),
    Deployment("dns-proxy", _IOS, _APPEX, "11.0", needs="supervised devices; since 16.0 managed ones, per app"),
    Deployment("dns-proxy", _VISION, _APPEX, "1.1", needs="managed devices, per app; since 2.0 supervised ones"),
    Deployment("dns-proxy", _MAC, _SYSEX, "10.15"),
    Deployment("url-filter", _IOS, _APPEX, "26.0"),
    Deployment("url-filter", _MAC, _APPEX, "26.0"),
    Deployment("ethernet-tunnel", _MAC, _APPEX, "13.0", app_store_only=True),
    Deployment("ethernet-tunnel", _MAC, _SYSEX, "13.0"),
    Deployment("app-push", _IOS, _APPEX, "14.0"),
    Deployment("app-push", _VISION, _APPEX, "1.0"),
    Deployment("hotspot", _IOS, _APPEX, "26.0"),
    Deployment("hotspot", _VISION, _APPEX, "26.0"),
    Deployment("dns-settings", _IOS, Packaging.NONE, "14.0"),
    Deployment("dns-settings", _MAC, Packaging.NONE, "11.0"),
    Deployment("relay", _IOS, Packaging.NONE, "17.0"),
    Deployment("relay", _MAC, Packaging.NONE, "14.0"),
)  # fmt: skip
"""All rows. Those for DNS settings and relays are not Apple's table's: they need no extension."""


def deployments(provider: str, platform: Platform, channel: Channel | None = None) -> list[Deployment]:
    """The rows for a provider on a platform, on one channel or on any."""
    return [
        row
        for row in TABLE
        if row.provider == provider
        and row.platform is platform
        and not (row.app_store_only and channel is Channel.DEVELOPER_ID)
    ]
