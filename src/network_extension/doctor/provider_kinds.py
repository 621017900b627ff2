"""The kinds of Network Extension: classes, extension points, and the values of the entitlement that each needs."""

from __future__ import annotations

from typing import NamedTuple

ENTITLEMENT = "com.apple.developer.networking.networkextension"
_POINT = "com.apple.networkextension."


class ProviderKind(NamedTuple):
    """One kind. `name` is Apple's in TN3134, in lower case with hyphens."""

    name: str
    classes: tuple[str, ...]
    """Objective-C names of the classes that a provider derives from; empty for kinds without an extension."""
    point: str
    """The extension point, or the key of NEProviderClasses; empty for kinds without an extension."""
    value: str
    """In development and App Store builds."""
    developer_id_value: str
    """Under Developer ID; empty where there is none."""
    managers: tuple[str, ...]
    """Classes by which an app makes the configuration."""
    is_extension_kit: bool = False
    granted_on_request: bool = False
    """Whether Apple has to grant more than a developer can choose."""


def _kind(name: str, classes: str, point: str, value: str, managers: str, suffix: bool = True) -> ProviderKind:
    developer_id = f"{value}-systemextension" if suffix else ""
    return ProviderKind(name, tuple(classes.split()), _POINT + point, value, developer_id, tuple(managers.split()))


_ALL = (
    _kind(
        "packet-tunnel", "NEPacketTunnelProvider", "packet-tunnel", "packet-tunnel-provider",
        "NETunnelProviderManager",
    ),
    _kind(
        "ethernet-tunnel", "NEEthernetTunnelProvider", "packet-tunnel", "packet-tunnel-provider",
        "NETunnelProviderManager",
    ),
    _kind(
        "app-proxy", "NEAppProxyProvider", "app-proxy", "app-proxy-provider", "NEAppProxyProviderManager"
    ),
    _kind(
        "transparent-proxy", "NETransparentProxyProvider", "app-proxy", "app-proxy-provider",
        "NETransparentProxyManager",
    ),
    _kind("content-filter", "NEFilterDataProvider", "filter-data", "content-filter-provider", "NEFilterManager"),
    _kind("packet-filter", "NEFilterPacketProvider", "filter-packet", "content-filter-provider", "NEFilterManager"),
    _kind("dns-proxy", "NEDNSProxyProvider", "dns-proxy", "dns-proxy", "NEDNSProxyManager"),
    _kind("url-filter", "NEURLFilterControlProvider", "url-filter-control", "url-filter-provider", "NEURLFilterManager",
          suffix=False)._replace(is_extension_kit=True),
    _kind("app-push", "NEAppPushProvider", "app-push", "app-push-provider", "NEAppPushManager", suffix=False)._replace(
        granted_on_request=True
    ),
    _kind("hotspot", "NEHotspotEvaluationProvider", "hotspot-evaluation", "hotspot-provider", "NEHotspotManager",
          suffix=False)._replace(is_extension_kit=True, granted_on_request=True),
    ProviderKind("dns-settings", (), "", "dns-settings", "dns-settings", ("NEDNSSettingsManager",)),
    ProviderKind("relay", (), "", "relay", "relay", ("NERelayManager",)),
)  # fmt: skip
KINDS: dict[str, ProviderKind] = {kind.name: kind for kind in _ALL}
"""By name."""
POINTS: dict[str, tuple[ProviderKind, ...]] = {
    point: tuple(kind for kind in _ALL if kind.point == point) for point in {kind.point for kind in _ALL if kind.point}
} | {
    # The second half of two kinds: a content filter's rules on iOS, a hotspot's authentication.
    f"{_POINT}filter-control": (KINDS["content-filter"],),
    f"{_POINT}hotspot-authentication": (KINDS["hotspot"],),
}
"""Extension points, and the kinds of provider that have them."""
SUFFIX = "-systemextension"
VALUES = frozenset(value for kind in _ALL for value in (kind.value, kind.developer_id_value) if value)
"""All values that the entitlement can have."""


def unsuffixed(value: str) -> str:
    """A value of the entitlement without the suffix of system extensions under Developer ID."""
    return value.removesuffix(SUFFIX)
