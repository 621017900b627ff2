"""Before and after for the rules INF and APP."""

from __future__ import annotations

from .example import Example, Value, fragment

_POINT = "com.apple.networkextension."
_SERVICE = "ABCDE12345.org.example.app.filter"
_SYSTEM_EXTENSION = "Info.plist of a system extension"
_APP_EXTENSION = "Info.plist of an app extension"


def _of(what: str, before: dict[str, Value], after: dict[str, Value]) -> Example:
    """Two Info.plists."""
    return Example("xml", fragment(before), fragment(after), what)


def _classes(point: str, name: str = "Filter.Provider", **more: str) -> dict[str, Value]:
    """For a system extension."""
    return {"NetworkExtension": {**more, "NEProviderClasses": {point: name}}}


def _classic(point: str, **more: str) -> dict[str, Value]:
    """For an app extension."""
    return {"NSExtension": {"NSExtensionPointIdentifier": point, **more}}


_TUNNEL = _classic(f"{_POINT}packet-tunnel", NSExtensionPrincipalClass="Tunnel.Provider")
_URL_FILTER: dict[str, Value] = {
    "EXAppExtensionAttributes": {"EXExtensionPointIdentifier": f"{_POINT}url-filter-control"}
}
_FILTER = _classes(f"{_POINT}filter-data")

EXAMPLES = {
    "INF001": _of(_SYSTEM_EXTENSION, {"NetworkExtension": {}}, _FILTER),
    "INF002": _of(_SYSTEM_EXTENSION, _classes("filter-data"), _FILTER),
    "INF003": _of(
        f"{_SYSTEM_EXTENSION}, and of an app extension",
        _classes(f"{_POINT}app-push", "Push.Provider"),
        _classic(f"{_POINT}app-push", NSExtensionPrincipalClass="Push.Provider"),
    ),
    "INF004": _of(
        f"{_SYSTEM_EXTENSION} whose PRODUCT_MODULE_NAME is Filter_Extension",
        _classes(f"{_POINT}filter-data", "Filter.Provider"),
        _classes(f"{_POINT}filter-data", "Filter_Extension.Provider"),
    ),
    "INF005": _of(
        f"{_SYSTEM_EXTENSION} with class Provider: NETransparentProxyProvider",
        _classes(f"{_POINT}packet-tunnel", "Proxy.Provider"),
        _classes(f"{_POINT}app-proxy", "Proxy.Provider"),
    ),
    "INF006": _of(
        f"{_SYSTEM_EXTENSION} that claims the group ABCDE12345.org.example.app",
        {"NetworkExtension": {"NEMachServiceName": "org.example.app.filter"}},
        {"NetworkExtension": {"NEMachServiceName": _SERVICE}},
    ),
    "INF007": _of(
        f"{_SYSTEM_EXTENSION}; the app talks XPC to it",
        _FILTER,
        _classes(f"{_POINT}filter-data", NEMachServiceName=_SERVICE),
    ),
    "INF008": _of(
        _SYSTEM_EXTENSION, {"NEMachServiceName": _SERVICE}, {"NetworkExtension": {"NEMachServiceName": _SERVICE}}
    ),
    "INF009": _of(
        _SYSTEM_EXTENSION,
        {"CFBundlePackageType": "SYSX"},
        {
            "CFBundlePackageType": "SYSX",
            "NSSystemExtensionUsageDescription": "Filters the network traffic of this Mac.",
        },
    ),
    "INF010": _of(
        _SYSTEM_EXTENSION, {**_FILTER, **_classic(f"{_POINT}filter-data")}, _FILTER
    ),
    "INF011": _of(
        _APP_EXTENSION,
        _classic(f"{_POINT}packettunnel", NSExtensionPrincipalClass="Tunnel.Provider"),
        _TUNNEL,
    ),
    "INF012": _of(_APP_EXTENSION, _classic(f"{_POINT}packet-tunnel"), _TUNNEL),
    "INF013": _of(_APP_EXTENSION, {**_classic(f"{_POINT}url-filter-control"), **_URL_FILTER}, _URL_FILTER),
    "INF014": _of(
        f"{_APP_EXTENSION} in org.example.app",
        {"CFBundleIdentifier": "org.example.tunnel"},
        {"CFBundleIdentifier": "org.example.app.tunnel"},
    ),
    "INF015": _of(
        f"{_SYSTEM_EXTENSION} in org.example.app",
        {"CFBundleIdentifier": "org.example.filter"},
        {"CFBundleIdentifier": "org.example.app.filter"},
    ),
    "INF016": _of(
        _SYSTEM_EXTENSION,
        {"CFBundleShortVersionString": "1.3"},
        {"CFBundleShortVersionString": "1.3", "CFBundleVersion": "42"},
    ),
    "INF017": _of(
        "Info.plist in the built bundle",
        {"CFBundleIdentifier": "$(PRODUCT_BUNDLE_IDENTIFIER)"},
        {"CFBundleIdentifier": "org.example.app.filter"},
    ),
    "INF018": _of(
        "Info.plist of a URL filter for iOS", {"MinimumOSVersion": "18.0"}, {"MinimumOSVersion": "26.0"}
    ),
    "INF019": _of(
        "Info.plist of an extension for macOS; its app runs from 12.0 on",
        {"LSMinimumSystemVersion": "14.0"},
        {"LSMinimumSystemVersion": "12.0"},
    ),
    "INF020": _of(
        "Info.plist; the code is built with MACOSX_DEPLOYMENT_TARGET = 13.0",
        {"LSMinimumSystemVersion": "12.0"},
        {"LSMinimumSystemVersion": "13.0"},
    ),
    "APP001": Example(
        "text",
        "Example.app/Contents/Helpers/Agent.app/Contents/PlugIns/Tunnel.appex",
        "Example.app/Contents/PlugIns/Tunnel.appex",
    ),
    "APP002": Example(
        "swift",
        """\
// The extension is activated, and nobody configures it.
OSSystemExtensionManager.shared.submitRequest(request)""",
        """\
let managers = try await NETunnelProviderManager.loadAllFromPreferences()
let manager = managers.first ?? NETunnelProviderManager()
let configuration = NETunnelProviderProtocol()
configuration.providerBundleIdentifier = "org.example.app.tunnel"
configuration.serverAddress = "vpn.example.org"
manager.protocolConfiguration = configuration
manager.isEnabled = true
try await manager.saveToPreferences()""",
        "code of the app",
    ),
    "APP003": _of(
        "Info.plist of an app with NEHotspotHelper",
        {"UIBackgroundModes": []},
        {"UIBackgroundModes": ["network-authentication"]},
    ),
    "APP004": Example(
        "swift",
        "// The app claims relay, and has no extension: that is right.",
        """\
let manager = NERelayManager.shared()
try await manager.loadFromPreferences()
let relay = NERelay()
relay.http3RelayURL = URL(string: "https://relay.example.org")
manager.relays = [relay]
manager.isEnabled = true
try await manager.saveToPreferences()""",
        "code of the app",
    ),
    "APP005": _of(
        "entitlements of a Mac app that is not sandboxed",
        {"com.apple.security.application-groups": ["group.org.example.app"]},
        {"com.apple.security.application-groups": ["ABCDE12345.org.example.app"]},
    ),
}  # fmt: skip
